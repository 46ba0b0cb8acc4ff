"""Sequences of a stretch, record by record: what is refused, what is settled already, what is new, and what was heard.

The usual record, in order and all valid, costs one comparison; the others are walked event by event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gatemeter.processors.fold import intervals
from gatemeter.processors.fold.clocks import Clocks
from gatemeter.processors.fold.decoding import Decoded, Envelope, Ints, Mask
from gatemeter.processors.fold.events import MAX_ID_LENGTH, POLICY_RANGES, RESPONSE_RANGES, refusal
from gatemeter.processors.fold.plain import PartitionState, PlainFold, Refused, quarantine
from gatemeter.processors.fold.state import CONFLICT, DUPLICATE, EPOCH_LIFETIME_US, INVALID, EpochKey
from gatemeter.processors.fold.types import LogRecord, Row
from gatemeter.processors.metadata.views import View
from gatemeter.schemas import limits
from gatemeter.schemas.signing import TICK_GATEWAY
from gatemeter.schemas.tables import BUCKETS


def valid_events(events: pl.DataFrame, recorded_at: Ints, future_bound_us: int) -> Mask:
    """Whether `events.refusal` accepts each event; `recorded_at` is the timestamp of its record."""
    occurred, started, kind = pl.col("occurred_at"), pl.col("request_started_at"), pl.col("kind")
    is_response, is_policy = kind == "RESPONSE", kind == "POLICY"

    def in_range(name: str, highest: int) -> pl.Expr:
        return pl.col(name).is_null() | pl.col(name).is_between(0, highest)

    def is_id(name: str) -> pl.Expr:
        return pl.col(name).fill_null("").str.len_chars().is_between(1, MAX_ID_LENGTH)

    common = pl.all_horizontal(
        occurred <= pl.Series(recorded_at + future_bound_us),
        started <= occurred,
        started >= 0,
        # a negative occurred_at could overflow the difference; started >= 0 and started <= occurred exclude it
        occurred - started <= limits.MAX_REQUEST_AGE_US,
        is_id("request_id"),
        pl.col("attempt").is_between(pl.when(is_policy).then(0).otherwise(1), limits.MAX_ATTEMPT),
    )
    response = pl.all_horizontal(
        pl.col("status").is_not_null(),
        pl.col("usage_revision").is_between(0, limits.MAX_USAGE_REVISION),
        *(in_range(name, highest) for name, highest in RESPONSE_RANGES),
        pl.sum_horizontal(pl.col(name).fill_null(0).clip(0, limits.MAX_TOKENS_PER_EVENT) for name in BUCKETS)
        <= limits.MAX_TOKENS_PER_EVENT,
    )
    policy = pl.all_horizontal(
        is_id("decision_id"),
        is_id("policy_id"),
        pl.col("outcome").is_not_null(),
        *(in_range(name, highest) for name, highest in POLICY_RANGES),
    )
    accepted = common & (~is_response | response) & (~is_policy | policy)
    return events.select(accepted.alias("valid"))["valid"].to_numpy()


@dataclass(slots=True)
class _Heard:
    """One epoch while its records of this stretch pass by: what is settled, and the run of sequences received."""

    settled: intervals.Intervals
    log_time_us: int
    run: Row


class Settling:
    """Walks the records of one stretch."""

    def __init__(self, state: PartitionState, plain: PlainFold, view: View, clocks: Clocks) -> None:
        self._state = state
        self._plain = plain
        self._view = view
        self._clocks = clocks
        self._heard: dict[EpochKey, _Heard] = {}

    def run(self, records: Sequence[LogRecord], decoded: Decoded) -> Mask:
        """Which events are to be admitted; everything else about the stretch's records is done here."""
        events = decoded.events
        admitted = np.ones(events.height, np.bool_)
        if self._state.decisions.replaying or not events.height:
            valid = admitted
        else:
            recorded_at = self._clocks.timestamps[decoded.record_of]
            valid = valid_events(events, recorded_at, self._view.parameters.future_bound_us)
        invalid_before = np.concatenate(([0], np.cumsum(~valid)))
        self._state.totals.records += len(records)
        log_times = self._clocks.log_time.tolist()
        for i, (record, envelope) in enumerate(zip(records, decoded.envelopes, strict=True)):
            if envelope is None:
                self._plain.refuse(decoded.refused[i])
                continue
            start, after = envelope.start, envelope.start + envelope.count
            heard = self._hear(record, envelope, log_times[i])
            if heard is None:
                admitted[start:after] = False
                continue
            all_valid = bool(invalid_before[after] == invalid_before[start])
            self._settle(record, envelope, heard, admitted, events, all_valid)
        self._close()
        return admitted

    def _hear(self, record: LogRecord, envelope: Envelope, log_time_us: int) -> _Heard | None:
        """The record's epoch, None where it has expired and the record is refused."""
        key = (envelope.gateway_id, envelope.epoch)
        heard = self._heard.get(key)
        if heard is None or heard.log_time_us + EPOCH_LIFETIME_US < log_time_us:
            heard = self._first_heard(key, record, envelope, log_time_us)
            if heard is None:
                return None
        heard.log_time_us = log_time_us
        totals = self._state.totals
        totals.records_batches += 1
        totals.events_received += envelope.count
        self._note(heard, record, envelope)
        return heard

    def _first_heard(self, key: EpochKey, record: LogRecord, envelope: Envelope, log_time_us: int) -> _Heard | None:
        epochs = self._state.epochs
        before = self._heard.pop(key, None)
        if before is not None:
            self._close_one(key, before)
        if epochs.is_expired(key, log_time_us):
            text = f"epoch {envelope.epoch} ended more than 30 days ago"
            self._plain.refuse(Refused(record, "epoch_expired", text, envelope.gateway_id))
            return None
        heard = self._heard[key] = _Heard(epochs.settled(key), log_time_us, {})
        return heard

    def _note(self, heard: _Heard, record: LogRecord, envelope: Envelope) -> None:
        """Extends the run of received sequences, or begins a new row of `gateway_epochs`."""
        if envelope.gateway_id == TICK_GATEWAY:
            return
        first, after = envelope.first_sequence, envelope.first_sequence + envelope.count
        run = heard.run
        if run and run["next_sequence"] != first:
            key = (envelope.gateway_id, envelope.epoch)
            self._state.rows.add("gateway_epochs", self._epoch_row(key, run))
            run = heard.run = {}
        run["first_sequence"] = run.get("first_sequence", first)
        run["next_sequence"] = run["heartbeat_sequence"] = after
        run["counters"] = envelope.counters
        run["closed"] = envelope.closed
        run["recorded_at"] = record.timestamp_us

    def _settle(
        self,
        record: LogRecord,
        envelope: Envelope,
        heard: _Heard,
        admitted: Mask,
        events: pl.DataFrame,
        all_valid: bool,
    ) -> None:
        first, after = envelope.first_sequence, envelope.first_sequence + envelope.count
        recorded = self._state.decisions.of(record.offset)
        if all_valid and not recorded and not intervals.overlaps(heard.settled, first, after):
            heard.settled = intervals.add(heard.settled, first, after)
            return
        if intervals.covers(heard.settled, first, after):
            self._state.totals.events_duplicate += envelope.count
            admitted[envelope.start : envelope.start + envelope.count] = False
            return
        rows = events[envelope.start : envelope.start + envelope.count].iter_rows(named=True)
        has_raw = False
        for index, event in enumerate(rows):
            sequence = first + index
            at = envelope.start + index
            if intervals.contains(heard.settled, sequence):
                self._state.totals.events_duplicate += 1
                admitted[at] = False
                continue
            wrong = None
            if not self._state.decisions.replaying:
                wrong = refusal(event, record.timestamp_us, self._view.parameters.future_bound_us)
            if wrong is not None:
                quarantine(self._state, record, index, wrong, envelope.gateway_id, with_raw=not has_raw)
                has_raw = True
            if wrong is not None or recorded.get(index) == INVALID:
                self._state.totals.events_quarantined += 1
                self._state.decisions.take(record.offset, index, INVALID)
                admitted[at] = False
                continue
            heard.settled = intervals.add(heard.settled, sequence, sequence + 1)
            if recorded.get(index) in (DUPLICATE, CONFLICT):
                admitted[at] = False

    def _close(self) -> None:
        for key, heard in self._heard.items():
            self._close_one(key, heard)

    def _close_one(self, key: EpochKey, heard: _Heard) -> None:
        self._state.epochs.hear(key, heard.settled, heard.log_time_us)
        if heard.run:
            self._state.rows.add("gateway_epochs", self._epoch_row(key, heard.run))

    def _epoch_row(self, key: EpochKey, run: Row) -> Row:
        counters = run["counters"]
        return {
            "gateway_id": key[0],
            "epoch": key[1],
            "topic": self._state.topic,
            "partition": self._state.partition,
            **{name: run[name] for name in ("first_sequence", "next_sequence", "heartbeat_sequence", "closed")},
            **counters,
            "recorded_at": run["recorded_at"],
        }
