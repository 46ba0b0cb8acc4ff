"""What the fold remembers besides exchanges: its clock, the epochs of gateways and the running totals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from gatemeter.processors.fold import intervals
from gatemeter.processors.fold.types import DAY_US, HOUR_US, MINUTE_US
from gatemeter.processors.metadata.views import View

EPOCH_LIFETIME_US: Final = 30 * DAY_US


@dataclass(slots=True)
class Clock:
    """Log time and the floors that hang on it; each only rises. All in microseconds UTC."""

    log_time_us: int = 0
    posting_floor_us: int = 0
    memory_floor_us: int = 0
    future_bound_us: int = 0
    """Greatest future bound of any view so far."""

    def advance(self, timestamp_us: int, view: View) -> None:
        """Takes one record's timestamp under the view in force."""
        parameters = view.parameters
        self.log_time_us = max(self.log_time_us, timestamp_us)
        self.posting_floor_us = max(self.posting_floor_us, self.log_time_us - parameters.grace_us)
        self.memory_floor_us = max(self.memory_floor_us, self.log_time_us - parameters.horizon_us)
        self.future_bound_us = max(self.future_bound_us, parameters.future_bound_us)

    @property
    def slice_us(self) -> int:
        """Minute of log time."""
        return self.log_time_us - self.log_time_us % MINUTE_US

    def posted_hour_us(self, request_started_at_us: int) -> int:
        """Hour to which usage of this start posts now: its own while that is on time, else the floor's."""
        posted = max(request_started_at_us, self.posting_floor_us)
        return posted - posted % HOUR_US

    def is_fresh(self, occurred_at_us: int) -> bool:
        """Whether a copy of a RESPONSE of this time, had one come before, would still be in memory."""
        return occurred_at_us - self.future_bound_us >= self.memory_floor_us

    def copy(self) -> Clock:
        """As it is now."""
        return replace(self)


class Due(NamedTuple):
    """The first record whose log time has reached a deadline, and the memory floor as it stood at the deadline.

    After a silence one record passes many deadlines, by more than the horizon: what was known when a timer ended must
    not hang on how late that was noticed.
    """

    clock: Clock
    offset: int
    memory_floor_us: int


@dataclass(frozen=True, slots=True)
class EpochState:
    """What one run of one emitter has settled in this partition, and when it was last heard (log time)."""

    settled: intervals.Intervals
    last_heard_us: int


EpochKey = tuple[str, str]
"""(gateway_id, epoch)."""


class Epochs:
    """The epochs that the partition has heard, by (gateway, epoch)."""

    def __init__(self, states: dict[EpochKey, EpochState] | None = None) -> None:
        self._states = dict(states or {})

    def is_expired(self, key: EpochKey, log_time_us: int) -> bool:
        """Whether max(start, last heard) + 30 days has passed; the epoch is then forgotten."""
        state = self._states.get(key)
        heard = max(epoch_start_us(key[1]), state.last_heard_us if state else 0)
        if heard + EPOCH_LIFETIME_US >= log_time_us:
            return False
        self._states.pop(key, None)
        return True

    def settled(self, key: EpochKey) -> intervals.Intervals:
        """Intervals of sequences that are admitted, duplicate, conflict or discarded."""
        state = self._states.get(key)
        return state.settled if state else ()

    def hear(self, key: EpochKey, settled: intervals.Intervals, log_time_us: int) -> None:
        """Notes a record of the epoch."""
        self._states[key] = EpochState(settled, log_time_us)

    def discard(self, key: EpochKey, first: int, after: int, log_time_us: int) -> None:
        """An operator gives up the sequences [first, after): they are settled. No effect on an epoch that is over.

        The epoch is not heard by that: nothing came from the gateway.
        """
        if not self.is_expired(key, log_time_us):
            state = self._states.get(key, EpochState((), 0))
            self._states[key] = replace(state, settled=intervals.add(state.settled, first, after))

    def snapshot(self, log_time_us: int) -> dict[EpochKey, EpochState]:
        """A copy that does not change, without what has expired."""
        for key in [key for key in self._states if self._states[key].last_heard_us + EPOCH_LIFETIME_US < log_time_us]:
            self.is_expired(key, log_time_us)
        return dict(self._states)


def epoch_start_us(epoch: str) -> int:
    """Start time in an epoch id, "<start_us>-<pid>-<16 hex>". Raises `ValueError` where it is not one."""
    start, pid, random = epoch.split("-")
    if len(random) != 16 or not (start.isascii() and start.isdigit() and pid.isascii() and pid.isdigit()):
        raise ValueError(f"epoch must be '<start_us>-<pid>-<16 hex>', got {epoch!r}")
    int(random, 16)
    return int(start)


@dataclass(slots=True)
class Totals:
    """Running totals since the partition's first offset, as in `ingest_batches`."""

    records: int = 0
    records_skipped: int = 0
    records_batches: int = 0
    records_operator: int = 0
    records_quarantined: int = 0
    events_received: int = 0
    events_admitted: int = 0
    events_duplicate: int = 0
    events_conflict: int = 0
    events_quarantined: int = 0
    events_corroborating: int = 0
    requests: int = 0
    responses_fresh: int = 0
    responses_late: int = 0
    decisions: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about events [first, last] of a record other than plain admission; first = -1: the record."""

    offset: int
    first: int
    last: int
    code: str


REFUSED: Final = "refused"
INVALID: Final = "invalid"
DUPLICATE: Final = "duplicate"
CONFLICT: Final = "conflict"


@dataclass(slots=True)
class Decisions:
    """Decisions in offset order, taken while folding or given back while replaying."""

    taken: list[Decision] = field(default_factory=list)
    _recorded: dict[int, dict[int, str]] | None = None

    @classmethod
    def recorded(cls, decisions: list[Decision]) -> Decisions:
        """Decisions of a checkpoint, to be applied and not taken again."""
        table: dict[int, dict[int, str]] = {}
        for decision in decisions:
            codes = table.setdefault(decision.offset, {})
            codes.update(dict.fromkeys(range(decision.first, decision.last + 1), decision.code))
        return cls(list(decisions), table)

    @property
    def replaying(self) -> bool:
        """Whether decisions are given back."""
        return self._recorded is not None

    def of(self, offset: int) -> dict[int, str]:
        """Recorded codes of a record by event index (-1: the whole record)."""
        return (self._recorded or {}).get(offset, {})

    def take(self, offset: int, index: int, code: str) -> None:
        """Records one decision; neighbours of the same code are one entry. No effect while replaying."""
        if self.replaying:
            return
        last = self.taken[-1] if self.taken else None
        if last and (last.offset, last.last + 1, last.code) == (offset, index, code) and index > 0:
            self.taken[-1] = replace(last, last=index)
        else:
            self.taken.append(Decision(offset, index, index, code))

    def end_replay(self) -> None:
        """From here on decisions are taken."""
        self._recorded = None

    def prune(self, below: int) -> None:
        """Forgets decisions about records below an offset."""
        if self.taken and self.taken[0].offset < below:
            self.taken = [decision for decision in self.taken if decision.offset >= below]
