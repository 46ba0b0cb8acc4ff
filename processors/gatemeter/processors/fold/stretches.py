"""The plain fold over stretches of records, record by record: the reference for the columnar one."""

from __future__ import annotations

import pyarrow as pa

from gatemeter.processors import admission
from gatemeter.processors.fold.partition_state import PartitionState, Refused
from gatemeter.processors.fold.plain import PlainFold, Reaching
from gatemeter.processors.fold.types import LogRecord, Rows
from gatemeter.processors.metadata.views import View
from gatemeter.sinks.arrow import rows_to_arrow


class PlainStretches:
    """Decodes and folds one record after the other."""

    def __init__(self, state: PartitionState) -> None:
        self.state = state
        self.plain = PlainFold(state)

    def fold(self, stretch: admission.Stretch) -> None:
        """Folds records that are under one view."""
        for item in stretch.items:
            if not isinstance(item, Refused):
                decoded = admission.decode(item, self.state.topic, self.state.partition)
            else:
                decoded = item
            self.plain.fold_record(decoded, stretch.view)

    def control(self, record: LogRecord, view: View | None, before: View | None) -> None:
        """Folds a record of an operator; the clock is taken under the view before it and under its own."""
        take_control(self.plain, record, view, before)
        self.plain.forget()

    def needed_from(self) -> int | None:
        """Lowest offset that the exchanges in memory need."""
        return self.plain.needed_from()

    def take(self) -> dict[str, pa.Table]:
        """The rows since the last call."""
        self.state.exceptions_into_rows()
        tables = {table: rows_to_arrow(table, rows) for table, rows in self.state.rows.tables.items()}
        self.state.rows = Rows()
        return tables


def take_control(plain: PlainFold, record: LogRecord, view: View | None, before: View | None) -> Reaching:
    """Raising the grace cannot reopen an hour: the floors are taken under both views, and never fall.

    Gives what the deadlines that are due have reached; what the horizon has passed is still to be forgotten.
    """
    floor_us = plain.state.clock.memory_floor_us
    if before is not None:
        plain.state.clock.advance(record.timestamp_us, before)
    if view is not None:
        plain.state.clock.advance(record.timestamp_us, view)
        plain.shorten_waits(view.parameters.horizon_us)
    plain.state.totals.records += 1
    plain.state.totals.records_operator += 1
    horizon_us = min((each.parameters.horizon_us for each in (before, view) if each is not None), default=0)
    reaching = plain.passing(record, floor_us, horizon_us)
    plain.expire_orphans(reaching)
    return reaching
