"""The job event by event, as the rivals do it: fastavro and Python dictionaries, one record after the other.

It is the plain fold of this repository (the specification), called for each record: MAC check, decoding, duplicates by
sequence and by exchange, pairing, attribution, pricing and windows. A rival adds how records come and where state is.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from gatemeter.processors import admission
from gatemeter.processors.admission import Admission, Operated, Trust
from gatemeter.processors.fold.partition_state import PartitionState, Refused
from gatemeter.processors.fold.plain import PlainFold
from gatemeter.processors.fold.state import Clock, Decisions, Epochs, Totals
from gatemeter.processors.fold.stretches import take_control
from gatemeter.processors.fold.types import FOLD_RELEASE, LogRecord, Rows
from gatemeter.processors.fold.windows import WindowBook
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.settings import Settings, load_settings
from gatemeter.processors.worker import clickhouse_sink
from gatemeter.schemas.signing import load_secrets
from gatemeter.schemas.tables import TABLES, column_names
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSink

FLUSH_SECONDS: Final = 1.0

log = logging.getLogger("gatemeter.benchmarks")


class Partition:
    """The state of one partition in dictionaries."""

    def __init__(self, topic: str, partition: int, metadata: MetadataLog, trust: Trust) -> None:
        self.state = PartitionState(
            topic=topic,
            partition=partition,
            clock=Clock(),
            epochs=Epochs(),
            totals=Totals(),
            decisions=Decisions(),
            book=WindowBook(topic, partition),
            rows=Rows(),
        )
        self.plain = PlainFold(self.state)
        self.next_offset = 0
        self.changed = False
        self._admission = Admission(topic, partition, metadata, trust)
        self._view: Any = None

    def take(self, record: LogRecord) -> None:
        """Does everything for one record."""
        step = self._admission.sort([record], self._view).steps[0]
        if isinstance(step, Operated):
            take_control(self.plain, record, step.view, self._view)
            self._view = step.view or self._view
        else:
            item = step.items[0]
            if not isinstance(item, Refused):
                self.plain.fold_record(admission.decode(item, self.state.topic, self.state.partition), step.view)
            else:
                self.plain.fold_record(item, step.view)
        self.next_offset = record.offset + 1
        self.changed = True

    def take_rows(self) -> Rows:
        """Rows since the last call."""
        rows, self.state.rows = self.state.rows, Rows()
        for row in self.state.book.take_rows(self.state.clock.slice_us):
            rows.add("usage_windows", row)
        return rows


class Job:
    """All partitions of one process, and their writes: from `settings.flush_rows` rows on, and every second."""

    def __init__(self) -> None:
        set_up_logging()
        self.settings: Settings = load_settings()
        settings = self.settings
        copy = read_metadata(settings.brokers[0], settings.operator_keys, topic=settings.metadata_topic)
        self._metadata = copy.log
        self._trust = Trust(load_secrets(settings.secrets_file), settings.operator_keys)
        self.partitions: dict[int, Partition] = {}
        self._sink: ClickHouseSink = clickhouse_sink(settings)
        self._since_flush = 0
        self._flushed_at = time.monotonic()
        self.on_new_partition: Callable[[Partition], None] = lambda partition: None

    def take(self, partition: int, record: LogRecord) -> Partition:
        """One record of one partition."""
        state = self.partitions.get(partition)
        if state is None:
            state = Partition(self.settings.topic, partition, self._metadata, self._trust)
            self.partitions[partition] = state
            self.on_new_partition(state)
        if record.offset >= state.next_offset:
            state.take(record)
            self._since_flush += 1
        return state

    @property
    def due(self) -> bool:
        """Whether a flush should begin."""
        waited = time.monotonic() - self._flushed_at
        return self._since_flush >= self.settings.flush_rows or (self._since_flush > 0 and waited >= FLUSH_SECONDS)

    def collect(self) -> dict[str, list[dict[str, Any]]]:
        """The rows to write, checkpoints last."""
        self._since_flush = 0
        self._flushed_at = time.monotonic()
        tables: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        for state in self.partitions.values():
            if state.changed:
                state.changed = False
                for table, rows in state.take_rows().tables.items():
                    tables[table] += rows
                tables["ingest_batches"].append(self._checkpoint(state))
        return tables

    def write(self, tables: dict[str, list[dict[str, Any]]]) -> None:
        """Writes facts and windows, then the checkpoints; blocking."""
        checkpoints = tables.pop("ingest_batches")
        for table, rows in tables.items():
            if rows:
                self._sink.write(table, rows_to_arrow(table, rows))
        written_at = time.time_ns() // 1_000
        rows = [{**row, "written_at": written_at} for row in checkpoints]
        self._sink.write("ingest_batches", rows_to_arrow("ingest_batches", rows))

    def _checkpoint(self, state: Partition) -> dict[str, Any]:
        """How far the partition is; what a resume would need beside it is left out, so it costs a rival nothing."""
        row: dict[str, Any] = dict.fromkeys(column_names("ingest_batches"), 0)
        texts = {"topic": state.state.topic, "partition": state.state.partition, "next_offset": state.next_offset}
        return {**row, **texts, "state": b"", "last_digest": "", "worker": "rival", "fold_release": FOLD_RELEASE}


def set_up_logging() -> None:
    """The line of the start is what the measurement begins with."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)


def begin() -> None:
    """Says that the first record is there."""
    log.info("going on at offset 0")
