"""A log of one partition that is folded into ClickHouse: what corrections and seals work on, without Kafka."""

from __future__ import annotations

from typing import Any

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.staging import StagedRun
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.views import View
from gatemeter.processors.sealing.sealer import Sealed, Sealer
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.logs import FakeMetadata, Gateway, Log, completed, new_fold
from support.sealing import SEALER, SEALS_TOPIC, TRUSTED, MemoryTopic

HOUR_US = 3_600_000_000


class FoldedLog:
    """Append to `log` and `gateway`; `flush` folds what is new and writes every row."""

    def __init__(self, database: ClickHouseSettings, view: View) -> None:
        self.sink = ClickHouseSink(database)
        self.log = Log()
        self.gateway = Gateway(self.log)
        self.metadata = FakeMetadata({view.offset: view})
        self._views = {view.offset: view}
        self.seals = MemoryTopic()
        self.restart()
        self.log.control(view)

    def restart(self) -> None:
        """The worker died before its first checkpoint: the next flush folds the log from its beginning."""
        self._fold = new_fold(self._views, columnar=False)
        self._folded = 0

    def flush(self) -> None:
        records = self.log.records[self._folded :]
        if not records:
            return
        self._folded = len(self.log.records)
        output = completed(self._fold.fold(records), self.log.records)
        for table, rows in output.tables.items():
            self.sink.write(table, rows)
        if output.checkpoint is not None:
            self.write("ingest_batches", {**output.checkpoint, "written_at": records[-1].timestamp_us})

    def commit(self, run: StagedRun, at_us: int, cause: str = "reprice") -> LogRecord:
        """Appends the COMMIT of a run."""
        what = {"run_id": run.run_id, "rows_digest": run.digest, "entries": run.entries, "cause": cause}
        return self.log.operate("Commit", at_us, **what)

    def pass_time(self, at_us: int) -> None:
        """A heartbeat: log time moves."""
        self.gateway.send([], at_us)

    def seal(self, client: Client) -> Sealed:
        """A new sealer seals what is over."""
        return Sealer(client, self.sink, self.seals, SEALER, TRUSTED, seals_topic=SEALS_TOPIC, rows_a_range=2).run()

    def write(self, table: str, *rows: dict[str, Any]) -> None:
        """Rows made by hand."""
        self.sink.write(table, rows_to_arrow(table, list(rows)))
