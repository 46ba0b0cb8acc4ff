"""A log that is told piece by piece: folded, written with its checkpoints, and sealed, on the real engine."""

from __future__ import annotations

from collections.abc import Mapping

from gatemeter.processors.metadata.views import View
from gatemeter.sinks.arrow import rows_to_arrow
from support.logs import START_US, Gateway, Log, completed, new_fold
from support.sealing import Hours


class Story:
    """A log that is folded into the database as it grows."""

    def __init__(self, hours: Hours, columnar: bool, views: Mapping[int, View]) -> None:
        self.hours, self.log = hours, Log()
        self.records = [self.log.control(views[1])]
        self.fold = new_fold(views, columnar=columnar)
        self.gateway = Gateway(self.log)

    def tell(self, *records: object) -> None:
        """Folds new records, writes their rows and then the checkpoint."""
        self.records += records  # type: ignore[arg-type]
        new = self.records[self.fold.next_offset :]
        output = completed(self.fold.fold(new), self.records)
        for table, rows in output.tables.items():
            self.hours.sink.write(table, rows)
        assert output.checkpoint is not None
        self.hours.sink.write(
            "ingest_batches", rows_to_arrow("ingest_batches", [output.checkpoint | {"written_at": START_US}])
        )

    def quiet_until(self, at_us: int) -> None:
        """Log time passes."""
        self.tell(self.gateway.send([], at_us))
