"""The fold as column operations: what is simple goes by columns, what is not by the plain fold, exchange by exchange.

Exchanges do not touch each other, and the clock is known for every record of a stretch beforehand; so an exchange may
be taken out of the stretch and given to the plain fold without changing any other. Simple are: a REQUEST, a RESPONSE of
revision 0, both in this order, the answer to a REQUEST in memory, and a POLICY, each the first of its key in memory.
See docs/fold.md.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from gatemeter.processors import admission
from gatemeter.processors.fold import columns
from gatemeter.processors.fold.clocks import Clocks
from gatemeter.processors.fold.columns import Context, Events
from gatemeter.processors.fold.decoding import Ints, Mask, content_hashes, decode
from gatemeter.processors.fold.events import BATCH
from gatemeter.processors.fold.evidence import evidence_rows, evident
from gatemeter.processors.fold.inconsistent import MISMATCH
from gatemeter.processors.fold.inflating import Inflater, waiting_requests
from gatemeter.processors.fold.partition_state import PartitionState, Refused
from gatemeter.processors.fold.recent import (
    ABSENT,
    HAS_REQUEST,
    HAS_RESPONSE,
    IS_POLICY,
    NOT_WAITING,
    Entries,
    Generation,
    Recent,
)
from gatemeter.processors.fold.settling import Settling
from gatemeter.processors.fold.stretches import take_control
from gatemeter.processors.fold.terms import Terms
from gatemeter.processors.fold.types import LogRecord, Rows
from gatemeter.processors.fold.unpriced import UNPRICED, lacking_usage
from gatemeter.processors.fold.windows import DIMENSIONS, MEASURES
from gatemeter.processors.metadata.views import View
from gatemeter.sinks.arrow import frame_to_arrow, rows_to_arrow

REQUEST, RESPONSE, REVISION, POLICY = 1, 2, 3, 4
"""Codes of events: a REQUEST, a RESPONSE of revision 0, one of a later revision, a POLICY."""
_NO_ROW: Final = -1


class ColumnarStretches:
    """Folds whole stretches; equal to `PlainStretches` in every row."""

    def __init__(self, state: PartitionState) -> None:
        self.state = state
        self._inflater = Inflater(state)
        self.plain = self._inflater.plain
        self.recent = self._inflater.recent
        self._terms: Terms | None = None
        self._terms_view: View | None = None
        self._tables: dict[str, list[pa.Table]] = {}

    def fold(self, stretch: admission.Stretch) -> None:
        """Folds records that are under one view."""
        records = [item.record for item in stretch.items]
        decoded = decode(stretch.items, self.state.topic, self.state.partition)
        clocks = Clocks(self.state.clock, records, stretch.view)
        admitted = Settling(self.state, self.plain, stretch.view, clocks).run(records, decoded)
        if admitted.any():
            envelopes = decoded.envelopes
            frame = pl.DataFrame(
                {
                    "gateway_id": envelopes.gateway_id,
                    "gateway_kind": envelopes.gateway_kind,
                    "kid": ["" if isinstance(item, Refused) else item.kid for item in stretch.items],
                    "epoch": envelopes.epoch,
                    "first_sequence": envelopes.first_sequence,
                    "offset": clocks.offsets,
                    "recorded_at": clocks.timestamps,
                }
            )
            gateways = frame["gateway_id"].gather(decoded.record_of)
            events = Events(decoded.events.with_columns(gateways), frame, decoded.record_of, decoded.index_of)
            terms = self._terms_of(stretch.view)
            context = Context(self.state.topic, self.state.partition, stretch.view, terms, clocks)
            events = self._without_evidence(events if admitted.all() else events.take(admitted), context)
            if len(events.record_of):
                self._admit(events, records, context)
        self._finish(clocks, len(records) - 1)

    def control(self, record: LogRecord, view: View | None, before: View | None) -> None:
        """Folds a record of an operator; the clock is taken under the view before it and under its own."""
        clock = self.state.clock
        reaching = take_control(self.plain, record, view, before)
        if view is not None:
            self.recent.shorten_waits(view.parameters.horizon_us)
        self._inflater.expire(reaching, clock.log_time_us)
        self.plain.forget()
        self.recent.evict(clock.memory_floor_us)

    def needed_from(self) -> int | None:
        """Lowest offset that the exchanges in memory need."""
        needed = [self.plain.needed_from(), self.recent.needed_from()]
        return min((offset for offset in needed if offset is not None), default=None)

    def take(self) -> dict[str, pa.Table]:
        """The rows since the last call."""
        self.state.exceptions_into_rows()
        for table, rows in self.state.rows.tables.items():
            self._tables.setdefault(table, []).append(rows_to_arrow(table, rows))
        tables = {table: pa.concat_tables(parts) for table, parts in self._tables.items()}
        self._tables, self.state.rows = {}, Rows()
        return tables

    # -- one stretch

    def _finish(self, clocks: Clocks, last: int) -> None:
        self.state.clock = clocks.at(last)
        self.plain.expire_orphans(clocks.reaching)
        self._inflater.expire(clocks.reaching, self.state.clock.log_time_us)
        self.plain.forget()
        self.recent.evict(self.state.clock.memory_floor_us)
        self.recent.compact(self.state.clock.log_time_us)

    def _terms_of(self, view: View) -> Terms:
        if self._terms is None or self._terms_view is not view:
            self._terms, self._terms_view = Terms(view), view
        return self._terms

    def _without_evidence(self, events: Events, context: Context) -> Events:
        """Writes those that are evidence, and gives the others: they make facts."""
        found = evident(context.view, context.terms, events)
        if found is None:
            return events
        rows = evidence_rows(context, events.take(found.rows), found.authorities)
        self._tables.setdefault("evidence", []).append(frame_to_arrow("evidence", rows))
        self.state.totals.events_corroborating += rows.height
        makes_facts = np.ones(len(events.record_of), np.bool_)
        makes_facts[found.rows] = False
        return events.take(makes_facts)

    def _admit(self, events: Events, records: list[LogRecord], context: Context) -> None:
        """Events that are valid, new by sequence and no evidence."""
        clocks, view = context.clocks, context.view
        kinds = _Kinds(events, self.recent, clocks, view)
        generation = Generation(0, view, None, pl.DataFrame(), pl.DataFrame(), int(clocks.log_time[-1]))
        self._count(kinds)
        entries = _Entering(kinds, self.recent, clocks, view)
        if kinds.responses.any():
            self._responses(kinds, context, entries, generation)
        if kinds.policies.any():
            self._policies(kinds, context)
        self._running(kinds, context)
        if kinds.alone.any():
            requests = events.take(kinds.alone)
            generation.requests = waiting_requests(requests)
        if kinds.complex.any():
            rows = np.flatnonzero(kinds.complex)
            keys = [kinds.keys[row] for row in rows.tolist()]
            self._inflater.admit(events.take(rows), keys, records, clocks, view)
        self.recent.add(entries.build(), generation)

    def _count(self, kinds: _Kinds) -> None:
        totals = self.state.totals
        totals.events_admitted += int((~kinds.complex).sum())
        totals.requests += int((kinds.alone | kinds.pair_requests).sum())
        totals.decisions += int(kinds.policies.sum())

    def _responses(self, kinds: _Kinds, context: Context, entries: _Entering, generation: Generation) -> None:
        rows = np.flatnonzero(kinds.responses)
        events = kinds.events.take(rows)
        paired = ~kinds.unpaired[rows]
        frame = columns.usage_facts(context, events, paired)
        fresh = frame["fresh"].to_numpy()
        self.state.totals.responses_fresh += int(fresh.sum())
        self.state.totals.responses_late += int((~fresh).sum())
        self._tables.setdefault("usage_facts", []).append(frame_to_arrow("usage_facts", frame))
        self._note_unpriced(lacking_usage(frame), context, self.state.unpriced.usages)
        self._note_inconsistent(frame, events.frame)
        self._note_oddities(frame, context)
        self._book(columns.usage_windows, frame, events, fresh, context)
        generation.parts = frame.select(columns.PART)
        generation.unpaired = frame.filter(pl.Series(~paired))
        started = events.frame["request_started_at"].to_numpy()
        wrong = np.flatnonzero(paired & (entries.request_started[rows] != started))
        if len(wrong):
            self._inflater.mismatches(events.take(wrong), context)

    def _running(self, kinds: _Kinds, context: Context) -> None:
        """Batch jobs have a row from their REQUEST on."""
        requests = kinds.alone | kinds.pair_requests
        if requests.any():
            jobs = requests & (kinds.events.frame["workload_class"] == BATCH).to_numpy()
            if jobs.any():
                frame = columns.running_facts(context, kinds.events.take(jobs))
                self._tables.setdefault("usage_facts", []).append(frame_to_arrow("usage_facts", frame))

    def _policies(self, kinds: _Kinds, context: Context) -> None:
        events = kinds.events.take(kinds.policies)
        frame = columns.policy_facts(context, events)
        self._tables.setdefault("policy_facts", []).append(frame_to_arrow("policy_facts", frame))
        if frame["charge"].null_count():  # where every price is known, nothing is looked at
            unpriced = frame.filter(pl.col("price_status") == UNPRICED)
            self._note_unpriced(unpriced, context, self.state.unpriced.decisions)
        self._note_oddities(frame, context)
        self._book(columns.policy_windows, frame, events, frame["fresh"].to_numpy(), context)
        log_times = context.clocks.log_time[events.record_of]
        denied = np.flatnonzero((frame["outcome"] == "deny").to_numpy())
        for row in denied.tolist():
            gateway_id, request_id, offset = frame[row, "gateway_id"], frame[row, "request_id"], frame[row, "offset"]
            self.plain.deny((gateway_id, request_id), int(log_times[row]), offset)

    def _note_unpriced(
        self, lacking: pl.DataFrame, context: Context, note: Callable[[pl.DataFrame, Ints, View], None]
    ) -> None:
        if lacking.height:
            note(lacking, context.terms.eras(lacking["request_started_at"].to_numpy()), context.view)

    def _note_inconsistent(self, frame: pl.DataFrame, events: pl.DataFrame) -> None:
        said = events["usage_consistency"]
        if said.null_count() < events.height and (marked := said.eq_missing(MISMATCH)).any():
            lines = events["usage_mismatches"]
            self.state.inconsistent.usages(frame.with_columns(lines).filter(marked))

    def _note_oddities(self, frame: pl.DataFrame, context: Context) -> None:
        if context.view.identities:  # else there is nothing to be odd about
            eras = context.terms.eras(frame["request_started_at"].to_numpy())
            self.state.oddities.notes(frame, eras, context.view)

    def _book(
        self, grouped: columns.Grouping, frame: pl.DataFrame, events: Events, fresh: Mask, context: Context
    ) -> None:
        slices = context.clocks.slices(events.record_of)
        if not fresh.all():
            frame, slices = frame.filter(pl.Series(fresh)), slices[fresh]
        names = ("slice", *DIMENSIONS, "first_offset", "last_offset", *(f"m_{name}" for name in MEASURES))
        after = 1 + len(DIMENSIONS)
        for row in grouped(frame, slices).select(names).iter_rows():
            first, last = row[after], row[after + 1]
            self.state.book.add(row[0], row[1:after], row[after + 2 :], last, first)


class _Kinds:
    """Which events are simple, and in what way: one mask each, a row an event."""

    def __init__(self, events: Events, recent: Recent, clocks: Clocks, view: View) -> None:
        self.events = events
        self.keys: list[str] = _keys(events.frame)
        self.codes: Ints = _codes(events.frame)
        self.known: Ints = _known(self.keys, events, recent, clocks)
        first = _firsts(self.keys)
        count = np.bincount(first)[first]
        log_time = clocks.log_time[events.record_of]
        absent = self.known == ABSENT
        self.request_at: Ints = np.full(len(self.keys), _NO_ROW, np.int64)
        """Of the RESPONSE of a simple pair, the row of its REQUEST."""
        seconds = np.flatnonzero((count == 2) & (first != np.arange(len(first))) & (self.codes == RESPONSE) & absent)
        self._match(first[seconds], seconds, absent, log_time + view.parameters.orphan_timer_us, log_time)
        answers = self.request_at != _NO_ROW
        self.pair_requests: Mask = np.zeros(len(self.keys), np.bool_)
        self.pair_requests[self.request_at[answers]] = True
        single = count == 1
        self.alone: Mask = single & absent & (self.codes == REQUEST)
        self.unpaired: Mask = single & absent & (self.codes == RESPONSE)
        self.policies: Mask = single & absent & (self.codes == POLICY)
        self.answers_known: Mask = single & (self.codes == RESPONSE) & self._waits(recent, log_time)
        self.responses: Mask = answers | self.unpaired | self.answers_known
        simple = self.alone | self.pair_requests | self.responses | self.policies
        self.complex: Mask = ~simple

    def _match(self, requests: Ints, answers: Ints, absent: Mask, deadline: Ints, log_time: Ints) -> None:
        """A pair is simple where the RESPONSE came before the REQUEST's orphan timer, hence within the horizon."""
        simple = (self.codes[requests] == REQUEST) & absent[requests] & (log_time[answers] < deadline[requests])
        self.request_at[answers[simple]] = requests[simple]

    def _waits(self, recent: Recent, log_time: Ints) -> Mask:
        """Whether the key in memory is a REQUEST alone whose orphan timer has not ended at this record."""
        mask = np.zeros(len(self.keys), np.bool_)
        rows = np.flatnonzero(self.known >= 0)
        if len(rows):
            at = recent.rows(self.known[rows])
            deadline = recent.column("deadline")[at]
            in_time = (deadline == NOT_WAITING) | (log_time[rows] < deadline)
            mask[rows] = (recent.column("flags")[at] == HAS_REQUEST) & in_time
        return mask


def _keys(frame: pl.DataFrame) -> list[str]:
    separator = pl.lit("\x1f")
    usage = pl.concat_str(
        pl.lit("U\x1f"), "gateway_id", separator, "request_id", separator, pl.col("attempt").cast(pl.String)
    )
    policy = pl.concat_str(pl.lit("P\x1f"), "gateway_id", separator, pl.col("decision_id").fill_null(""))
    return frame.select(pl.when(pl.col("kind") == "POLICY").then(policy).otherwise(usage).alias("key"))["key"].to_list()


def _codes(frame: pl.DataFrame) -> Ints:
    kind = pl.col("kind")
    response = pl.when(pl.col("usage_revision") == 0).then(RESPONSE).otherwise(REVISION)
    code = pl.when(kind == "REQUEST").then(REQUEST).when(kind == "POLICY").then(POLICY).otherwise(response)
    return frame.select(code.cast(pl.Int64).alias("code"))["code"].to_numpy()


def _known(keys: list[str], events: Events, recent: Recent, clocks: Clocks) -> Ints:
    """Number of each key in memory, `ABSENT` where it is not, or no longer is at the event's record."""
    known = np.fromiter(map(recent.numbers.get, keys, repeat(ABSENT)), np.int64, len(keys))
    rows = np.flatnonzero(known >= 0)
    if len(rows):
        record_of = events.record_of[rows]
        alive = recent.is_alive(recent.rows(known[rows]), clocks.memory_floor[record_of], clocks.log_time[record_of])
        known[rows[~alive]] = ABSENT
    return known


def _firsts(keys: list[str]) -> Ints:
    """Of each event the row of the first event of its key."""
    rows: dict[str, int] = {}
    return np.fromiter(map(rows.setdefault, keys, range(len(keys))), np.int64, len(keys))


class _Entering:
    """The entries that a stretch adds to memory: one for each simple exchange and decision, at its last event."""

    def __init__(self, kinds: _Kinds, recent: Recent, clocks: Clocks, view: View) -> None:
        self._kinds = kinds
        events = kinds.events
        count = len(kinds.keys)
        self._log_time = clocks.log_time[events.record_of]
        offsets = clocks.offsets[events.record_of]
        started = events.frame["request_started_at"].to_numpy()
        hashes = content_hashes(events.frame)
        self._offsets = offsets
        self._started = started
        self._hashes = hashes
        self.request_started: Ints = started.copy()
        """Of each event the start that its REQUEST stated."""
        self._first_offset = offsets.copy()
        self._request_hash = hashes.copy()
        self._flags = np.zeros(count, np.uint8)
        self._flags[kinds.alone] = HAS_REQUEST
        self._flags[kinds.unpaired] = HAS_RESPONSE
        self._flags[kinds.policies] = IS_POLICY
        pairs = np.flatnonzero(kinds.request_at != _NO_ROW)
        requests = kinds.request_at[pairs]
        self._take_over(pairs, offsets[requests], started[requests], hashes[requests])
        known = np.flatnonzero(kinds.answers_known)
        at = recent.rows(kinds.known[known])
        if len(known):
            column = recent.column
            self._take_over(
                known, column("first_offset")[at], column("request_started")[at], column("request_hash")[at]
            )
            recent.stop_waiting(at)
        realtime = (events.frame["workload_class"] == "realtime").to_numpy()
        timer = self._log_time + view.parameters.orphan_timer_us
        self._deadline = np.where(kinds.alone & realtime, timer, NOT_WAITING)

    def _take_over(self, rows: Ints, first_offset: Ints, started: Ints, hashes: np.ndarray) -> None:
        self._flags[rows] = HAS_REQUEST | HAS_RESPONSE
        self._first_offset[rows] = first_offset
        self.request_started[rows] = started
        self._request_hash[rows] = hashes

    def build(self) -> Entries:
        """The entries in order of their last log time."""
        kinds = self._kinds
        final = np.flatnonzero(self._flags)
        keys = kinds.keys

        def numbered(mask: Mask) -> Ints:
            return (np.cumsum(mask) - 1)[final]

        return Entries(
            keys=list(map(keys.__getitem__, final.tolist())),
            flags=self._flags[final],
            first_offset=self._first_offset[final],
            last_log_time=self._log_time[final],
            deadline=self._deadline[final],
            request_started=self.request_started[final],
            response_started=self._started[final],
            request_hash=self._request_hash[final],
            response_hash=self._hashes[final],
            response_offset=self._offsets[final],
            request_row=numbered(kinds.alone),
            part_row=numbered(kinds.responses),
            unpaired_row=numbered(kinds.unpaired),
        )
