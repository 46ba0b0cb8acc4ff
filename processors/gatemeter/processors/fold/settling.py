"""Sequences of a stretch, record by record: what is refused, what is settled already, what is new, and what was heard.

The usual record, in order and all valid, costs one comparison; the others are walked event by event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from gatemeter.processors.fold import intervals
from gatemeter.processors.fold.attesting import Attested, take_attestation
from gatemeter.processors.fold.clocks import Clocks
from gatemeter.processors.fold.decoding import Decoded, Envelopes, Ints, Mask, content_hashes
from gatemeter.processors.fold.events import (
    BATCH,
    IN_PROGRESS,
    MAX_ID_LENGTH,
    POLICY_RANGES,
    RESPONSE_RANGES,
    USAGE,
    refusal,
)
from gatemeter.processors.fold.notices import epoch_row, quarantine
from gatemeter.processors.fold.partition_state import PartitionState, Refused
from gatemeter.processors.fold.plain import PlainFold
from gatemeter.processors.fold.state import CONFLICT, DUPLICATE, EPOCH_LIFETIME_US, INVALID, EpochKey
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.views import View
from gatemeter.schemas import limits
from gatemeter.schemas.claims import Claims
from gatemeter.schemas.signing import TICK_GATEWAY
from gatemeter.schemas.tables import BUCKETS


def _in_range(name: str, highest: int) -> pl.Expr:
    return pl.col(name).is_null() | pl.col(name).is_between(0, highest)


def _is_id(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.len_chars().is_between(1, MAX_ID_LENGTH)


def _accepted() -> pl.Expr:
    """`events.refusal` as one expression over the events and their `_latest`: how late they may have occurred."""
    occurred, started, kind = pl.col("occurred_at"), pl.col("request_started_at"), pl.col("kind")
    is_policy = kind == "POLICY"
    common = pl.all_horizontal(
        occurred <= pl.col("_latest"),
        started <= occurred,
        started >= 0,
        # a negative occurred_at could overflow the difference; started >= 0 and started <= occurred exclude it
        occurred - started <= limits.MAX_REQUEST_AGE_US,
        _is_id("request_id"),
        pl.col("attempt").is_between(pl.when(is_policy).then(0).otherwise(1), limits.MAX_ATTEMPT),
    )
    response = pl.all_horizontal(
        pl.col("status").is_not_null(),
        (pl.col("status") != IN_PROGRESS)
        | (pl.col("workload_class") == BATCH) & pl.all_horizontal(pl.col(name).is_null() for name in USAGE),
        pl.col("usage_revision").is_between(0, limits.MAX_USAGE_REVISION),
        *(_in_range(name, highest) for name, highest in RESPONSE_RANGES),
        pl.sum_horizontal(pl.col(name).fill_null(0).clip(0, limits.MAX_TOKENS_PER_EVENT) for name in BUCKETS)
        <= limits.MAX_TOKENS_PER_EVENT,
    )
    policy = pl.all_horizontal(
        _is_id("decision_id"),
        _is_id("policy_id"),
        pl.col("outcome").is_not_null(),
        *(_in_range(name, highest) for name, highest in POLICY_RANGES),
    )
    return (common & ((kind != "RESPONSE") | response) & (~is_policy | policy)).alias("accepted")


_ACCEPTED: Final = _accepted()


def valid_events(events: pl.DataFrame, recorded_at: Ints, future_bound_us: int) -> Mask:
    """Whether `events.refusal` accepts each event; `recorded_at` is the timestamp of its record."""
    latest = pl.Series("_latest", recorded_at + future_bound_us)
    return events.with_columns(latest).select(_ACCEPTED)["accepted"].to_numpy()


def _by_epoch(envelopes: Envelopes) -> Iterator[tuple[EpochKey, Ints]]:
    """The records of each epoch, in order."""
    records = np.arange(len(envelopes.present))
    frame = pl.DataFrame({"gateway_id": envelopes.gateway_id, "epoch": envelopes.epoch, "record": records})
    if not envelopes.present.all():
        frame = frame.filter(pl.Series(envelopes.present))
    grouped = frame.group_by("gateway_id", "epoch", maintain_order=True).agg("record")
    for gateway_id, epoch, numbers in zip(*grouped, strict=True):
        yield (gateway_id, epoch), numbers.to_numpy()


@dataclass(slots=True)
class _Heard:
    """A run of sequences of one epoch: the records that brought it, and what is settled after them."""

    settled: intervals.Intervals
    log_time_us: int
    numbers: Ints


class Settling:
    """Walks the records of one stretch, epoch by epoch: epochs do not touch each other."""

    def __init__(self, state: PartitionState, plain: PlainFold, view: View, clocks: Clocks) -> None:
        self._state = state
        self._plain = plain
        self._view = view
        self._clocks = clocks

    def run(self, records: Sequence[LogRecord], decoded: Decoded) -> Mask:
        """Which events are to be admitted; everything else about the stretch's records is done here."""
        events = decoded.events
        self._records, self._envelopes, self._events = records, decoded.envelopes, events
        self._hashes = content_hashes(events)
        self._admitted = np.ones(events.height, np.bool_)
        valid = self._admitted
        if not self._state.decisions.replaying and events.height:
            recorded_at = self._clocks.timestamps[decoded.record_of]
            valid = valid_events(events, recorded_at, self._view.parameters.future_bound_us)
        self._invalid_before = np.concatenate(([0], np.cumsum(~valid)))
        self._state.totals.records += len(records)
        for item in decoded.refused.values():
            self._plain.refuse(item)
        self._expired: set[int] = set()
        for key, numbers in _by_epoch(decoded.envelopes):
            if not self._at_once(key, numbers):
                self._run_by_run(key, numbers)
        for i, value in decoded.envelopes.attested.items():
            self._take_attestation(i, value)
        return self._admitted

    def _take_attestation(self, i: int, value: bytes) -> None:
        envelopes = self._envelopes
        key = (envelopes.gateway_id[i], envelopes.epoch[i])
        if key[0] != TICK_GATEWAY and i not in self._expired:
            after = int(envelopes.first_sequence[i]) + int(envelopes.count[i])
            take_attestation(self._state, Attested(self._records[i], key, after, value))

    def _all_valid(self, start: int, after: int) -> bool:
        return bool(self._invalid_before[after] == self._invalid_before[start])

    def _at_once(self, key: EpochKey, numbers: Ints) -> bool:
        """The usual case: in order, without holes, nothing settled before, all valid, nothing recorded about them."""
        envelopes, state = self._envelopes, self._state
        first, count, start = envelopes.first_sequence[numbers], envelopes.count[numbers], envelopes.start[numbers]
        after = first + count
        log_time = self._clocks.log_time
        begin, end = int(log_time[numbers[0]]), int(log_time[numbers[-1]])
        settled = state.epochs.settled(key)
        if (
            not bool((first[1:] == after[:-1]).all())
            or bool((self._invalid_before[start + count] != self._invalid_before[start]).any())
            or intervals.overlaps(settled, int(first[0]), int(after[-1]))
            or end - begin > EPOCH_LIFETIME_US
            or any(state.decisions.of(self._records[i].offset) for i in self._recorded(numbers))
            or state.epochs.is_expired(key, begin)
        ):
            return False
        state.totals.records_batches += len(numbers)
        state.totals.events_received += int(count.sum())
        settled = intervals.add(settled, int(first[0]), int(after[-1]))
        self._close(key, _Heard(settled, end, numbers))
        return True

    def _hashes_of(self, numbers: Ints) -> bytes:
        """Content hashes of the events of some records, end to end."""
        start, count = self._envelopes.start[numbers], self._envelopes.count[numbers]
        after = np.cumsum(count)
        hashes: bytes = self._hashes[np.arange(after[-1]) + np.repeat(start - after + count, count)].tobytes()
        return hashes

    def _recorded(self, numbers: Ints) -> list[int]:
        return numbers.tolist() if self._state.decisions.replaying else []

    def _run_by_run(self, key: EpochKey, numbers: Ints) -> None:
        first, log_time = self._envelopes.first_sequence[numbers], self._clocks.log_time[numbers]
        after = first + self._envelopes.count[numbers]
        broken = (first[1:] != after[:-1]) | (log_time[:-1] + EPOCH_LIFETIME_US < log_time[1:])
        for run in np.split(numbers, np.flatnonzero(broken) + 1):
            heard_from = 0
            while heard_from < len(run) and self._is_expired(key, int(run[heard_from])):
                heard_from += 1
            if heard_from < len(run):
                self._hear(key, run[heard_from:])

    def _hear(self, key: EpochKey, run: Ints) -> None:
        """Records without a hole between them: those at the front one by one, the rest at once where it is as usual."""
        envelopes, state = self._envelopes, self._state
        start, count = envelopes.start[run], envelopes.count[run]
        after = int(envelopes.first_sequence[run[-1]] + count[-1])
        state.totals.records_batches += len(run)
        state.totals.events_received += int(count.sum())
        unusual = np.flatnonzero(self._invalid_before[start + count] != self._invalid_before[start])
        at_once_from = len(run) if state.decisions.replaying else int(unusual[-1]) + 1 if len(unusual) else 0
        settled = state.epochs.settled(key)
        for at, i in enumerate(run.tolist()):
            first = int(envelopes.first_sequence[i])
            if at >= at_once_from and not intervals.overlaps(settled, first, after):
                settled = intervals.add(settled, first, after)
                break
            settled = self._settle(i, first, first + int(envelopes.count[i]), settled)
        self._close(key, _Heard(settled, int(self._clocks.log_time[run[-1]]), run))

    def _is_expired(self, key: EpochKey, i: int) -> bool:
        if not self._state.epochs.is_expired(key, int(self._clocks.log_time[i])):
            return False
        text = f"epoch {key[1]} ended more than 30 days ago"
        self._plain.refuse(Refused(self._records[i], "epoch_expired", text, key[0]))
        start = int(self._envelopes.start[i])
        self._admitted[start : start + int(self._envelopes.count[i])] = False
        self._expired.add(i)
        return True

    def _settle(self, i: int, first: int, after: int, settled: intervals.Intervals) -> intervals.Intervals:
        """One record: what is settled after it."""
        start = int(self._envelopes.start[i])
        recorded = self._state.decisions.of(self._records[i].offset)
        end = start + after - first
        if self._all_valid(start, end) and not recorded and not intervals.overlaps(settled, first, after):
            return intervals.add(settled, first, after)
        if first < after and intervals.covers(settled, first, after):
            self._state.totals.events_duplicate += after - first
            self._admitted[start:end] = False
            return settled
        return self._settle_events(i, first, settled, recorded)

    def _settle_events(
        self, i: int, first: int, settled: intervals.Intervals, recorded: Mapping[int, str]
    ) -> intervals.Intervals:
        record, state = self._records[i], self._state
        start, count = int(self._envelopes.start[i]), int(self._envelopes.count[i])
        has_raw = False
        for index, event in enumerate(self._events[start : start + count].iter_rows(named=True)):
            sequence = first + index
            if intervals.contains(settled, sequence):
                state.totals.events_duplicate += 1
                self._admitted[start + index] = False
                continue
            wrong = None
            if not state.decisions.replaying:
                wrong = refusal(event, record.timestamp_us, self._view.parameters.future_bound_us)
            if wrong is not None:
                gateway_id = self._envelopes.gateway_id[i]
                claims = Claims(gateway_id, self._envelopes.epoch[i], sequence, sequence + 1)
                quarantine(state, record, index, wrong, gateway_id, claims, with_raw=not has_raw)
                has_raw = True
            if wrong is not None or recorded.get(index) == INVALID:
                state.totals.events_quarantined += 1
                state.decisions.take(record.offset, index, INVALID)
                self._admitted[start + index] = False
                continue
            settled = intervals.add(settled, sequence, sequence + 1)
            if recorded.get(index) in (DUPLICATE, CONFLICT):
                self._admitted[start + index] = False
        return settled

    def _close(self, key: EpochKey, heard: _Heard) -> None:
        """Notes what was settled, and the run of sequences that was received."""
        state = self._state
        state.epochs.hear(key, heard.settled, heard.log_time_us)
        if key[0] == TICK_GATEWAY:
            return
        envelopes, first, last = self._envelopes, int(heard.numbers[0]), int(heard.numbers[-1])
        run = (int(envelopes.first_sequence[first]), int(envelopes.first_sequence[last] + envelopes.count[last]))
        offset, at_us = self._records[first].offset, self._records[last].timestamp_us
        row = epoch_row(state, key, run, envelopes.details(last), at_us, offset, self._hashes_of(heard.numbers))
        state.rows.add("gateway_epochs", row)
