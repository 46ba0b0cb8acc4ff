"""The clock at every record of a stretch, as columns; `state.Clock` is the same for one record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatemeter.processors.fold.decoding import Ints
from gatemeter.processors.fold.state import Clock, Due
from gatemeter.processors.fold.types import HOUR_US, MINUTE_US, LogRecord
from gatemeter.processors.metadata.views import View


class Clocks:
    """`log_time`, `posting_floor`, `memory_floor`: one value a record, each rising."""

    def __init__(self, before: Clock, records: Sequence[LogRecord], view: View) -> None:
        parameters = view.parameters
        self.timestamps: Ints = np.array([record.timestamp_us for record in records], np.int64)
        self.offsets: Ints = np.array([record.offset for record in records], np.int64)
        self.log_time: Ints = np.maximum.accumulate(np.maximum(self.timestamps, before.log_time_us))
        self.posting_floor: Ints = np.maximum(self.log_time - parameters.grace_us, before.posting_floor_us)
        self.memory_floor: Ints = np.maximum(self.log_time - parameters.horizon_us, before.memory_floor_us)
        self._floor_before_us = before.memory_floor_us
        self._horizon_us = parameters.horizon_us
        self.future_bound_us = max(before.future_bound_us, parameters.future_bound_us)

    def at(self, record: int) -> Clock:
        """The clock at one record."""
        return Clock(
            int(self.log_time[record]),
            int(self.posting_floor[record]),
            int(self.memory_floor[record]),
            self.future_bound_us,
        )

    def reaching(self, deadline_us: int) -> Due:
        """The first record whose log time has reached a deadline."""
        record = int(np.searchsorted(self.log_time, deadline_us, side="left"))
        floor_us = int(self.memory_floor[record - 1]) if record else self._floor_before_us
        return Due(self.at(record), int(self.offsets[record]), max(floor_us, deadline_us - self._horizon_us))

    def slices(self, record_of: Ints) -> Ints:
        """Slice of each event."""
        log_time = self.log_time[record_of]
        return log_time - log_time % MINUTE_US

    def posted_hours(self, record_of: Ints, started: Ints) -> Ints:
        """Hour to which each event posts."""
        posted = np.maximum(started, self.posting_floor[record_of])
        hours: Ints = posted - posted % HOUR_US
        return hours
