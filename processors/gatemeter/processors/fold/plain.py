"""The fold, event by event: the specification. It serves every record; the columnar fold is held equal to it.

Its steps for one record, in this order: the clock advances; orphans whose time has come are written; the record is
refused, or its epoch is checked; each event is dropped by sequence, refused, kept as evidence, or admitted to its
exchange.
See docs/fold.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatemeter.processors.fold import facts, intervals, windows
from gatemeter.processors.fold.attesting import Attested, take_attestation
from gatemeter.processors.fold.events import BATCH, refusal
from gatemeter.processors.fold.evidence import evidence_row, may_be_evidence, standing
from gatemeter.processors.fold.exchanges import (
    Aging,
    Conflict,
    Denials,
    Exchange,
    ExchangeKey,
    First,
    RequestHalf,
    ResponseHalf,
    SeenDecision,
)
from gatemeter.processors.fold.facts import Source
from gatemeter.processors.fold.inconsistent import MISMATCH
from gatemeter.processors.fold.notices import epoch_row, exception, quarantine
from gatemeter.processors.fold.partition_state import Batch, PartitionState, Refused
from gatemeter.processors.fold.state import (
    CONFLICT,
    DUPLICATE,
    INVALID,
    REFUSED,
    Due,
)
from gatemeter.processors.fold.types import LogRecord, Row
from gatemeter.processors.fold.unpriced import UNPRICED, lack_of
from gatemeter.processors.metadata.views import View
from gatemeter.schemas.claims import Claims, claims_of
from gatemeter.schemas.signing import TICK_GATEWAY

OnEvict = Callable[[list[ExchangeKey], list[tuple[str, str]]], None]
"""Is told the keys of exchanges and of decisions that the memory forgot."""
Reaching = Callable[[int], Due]
"""Gives the first record whose log time has reached a deadline."""


class PlainFold:
    """Folds records of one partition; `state` is shared with whoever writes checkpoints."""

    def __init__(self, state: PartitionState, on_evict: OnEvict | None = None) -> None:
        self.state = state
        self._on_evict = on_evict
        self.exchanges: Aging[ExchangeKey, Exchange] = Aging()
        self.policies: Aging[tuple[str, str], SeenDecision] = Aging()
        self.denials: Aging[tuple[str, str], Denials] = Aging()
        self.waiting: dict[ExchangeKey, int] = {}
        self._first_deadline_us = 0

    # -- records

    def advance(self, record: LogRecord, view: View) -> None:
        """The clock takes the record's timestamp; what that makes due is done before the record's events."""
        floor_us = self.state.clock.memory_floor_us
        self.state.clock.advance(record.timestamp_us, view)
        self.state.totals.records += 1
        self.expire_orphans(self.passing(record, floor_us, view.parameters.horizon_us))
        self.forget()

    def passing(self, record: LogRecord, floor_us: int, horizon_us: int) -> Reaching:
        """Every deadline that is due is reached at this record; before it the memory floor was `floor_us`."""
        clock = self.state.clock
        return lambda deadline_us: Due(clock, record.offset, max(floor_us, deadline_us - horizon_us))

    def forget(self) -> None:
        """Forgets what the horizon has passed, once all that is due is written."""
        self.evict_denials()
        self.evict()

    def fold_record(self, item: Batch | Refused, view: View) -> None:
        """One record that is not an operator's."""
        self.advance(item.record, view)
        if isinstance(item, Refused):
            self.refuse(item)
        else:
            self._fold_batch(item, view)

    def refuse(self, item: Refused) -> None:
        """Quarantines a record whole."""
        self.state.totals.records_quarantined += 1
        self.state.decisions.take(item.record.offset, -1, REFUSED)
        claims = claims_of(item.record.value)
        quarantine(self.state, item.record, -1, (item.reason, item.detail), item.gateway_id, claims, with_raw=True)

    def _fold_batch(self, batch: Batch, view: View) -> None:
        state, envelope, record = self.state, batch.envelope, batch.record
        gateway_id, epoch = envelope["gateway_id"], envelope["epoch"]
        if state.epochs.is_expired((gateway_id, epoch), state.clock.log_time_us):
            self.refuse(Refused(record, "epoch_expired", f"epoch {epoch} ended more than 30 days ago", gateway_id))
            return
        state.totals.records_batches += 1
        state.totals.events_received += len(batch.events)
        source = Source(
            topic=state.topic,
            partition=state.partition,
            offset=record.offset,
            recorded_at_us=record.timestamp_us,
            kid=batch.kid,
            gateway_id=gateway_id,
            gateway_kind=envelope["gateway_kind"],
            epoch=epoch,
            first_sequence=envelope["first_sequence"],
        )
        settled = self._fold_events(batch, source, view, state.epochs.settled((gateway_id, epoch)))
        state.epochs.hear((gateway_id, epoch), settled, state.clock.log_time_us)
        if gateway_id != TICK_GATEWAY:
            run = (source.first_sequence, source.first_sequence + len(batch.events))
            details = {**envelope["counters"], "closed": envelope["closed"]}
            hashes = b"".join(event["content_hash"] for event in batch.events)
            row = epoch_row(state, (gateway_id, epoch), run, details, record.timestamp_us, record.offset, hashes)
            state.rows.add("gateway_epochs", row)
            if envelope["attestation"] is not None:
                take_attestation(state, Attested(record, (gateway_id, epoch), run[1], envelope["attestation"]))

    def _fold_events(
        self, batch: Batch, source: Source, view: View, settled: intervals.Intervals
    ) -> intervals.Intervals:
        state, record = self.state, batch.record
        recorded = state.decisions.of(record.offset)
        has_raw = False
        looks = may_be_evidence(view, source.gateway_kind)
        for index, event in enumerate(batch.events):
            sequence = source.first_sequence + index
            if intervals.contains(settled, sequence):
                state.totals.events_duplicate += 1
                continue
            code = recorded.get(index)
            if not state.decisions.replaying:
                wrong = refusal(event, record.timestamp_us, view.parameters.future_bound_us)
                if wrong is not None:
                    code = INVALID
                    claims = Claims(source.gateway_id, source.epoch, sequence, sequence + 1)
                    quarantine(state, record, index, wrong, source.gateway_id, claims, with_raw=not has_raw)
                    has_raw = True
            if code == INVALID:
                state.totals.events_quarantined += 1
                state.decisions.take(record.offset, index, INVALID)
                continue
            settled = intervals.add(settled, sequence, sequence + 1)
            why = standing(view, source, event) if looks else None
            if why is not None:
                state.totals.events_corroborating += 1
                state.rows.add("evidence", evidence_row(event, index, source, view, why))
                continue
            self.admit(event, index, source, view, record, code)
        return settled

    # -- events

    def admit(
        self, event: dict[str, Any], index: int, source: Source, view: View, record: LogRecord, recorded: str | None
    ) -> None:
        """One valid event that is new by sequence; `recorded` is its code in a replay."""
        code, first = recorded, None
        if code is None:
            if event["kind"] == "REQUEST":
                first = self._request(event, index, source, view)
            elif event["kind"] == "RESPONSE":
                first = self._response(event, index, source, view)
            else:
                first = self._policy(event, index, source, view)
            if first is not None:
                code = DUPLICATE if first.content_hash == event["content_hash"] else CONFLICT
        totals = self.state.totals
        if code is None:
            totals.events_admitted += 1
            return
        self.state.decisions.take(record.offset, index, code)
        if code == DUPLICATE:
            totals.events_duplicate += 1
            return
        totals.events_conflict += 1
        if first is not None:  # a replay knows that it was one, and writes nothing
            self.state.conflicts.append(Conflict(event, index, source, record, first))

    def _exchange(self, key: ExchangeKey, offset: int) -> Exchange:
        log_time = self.state.clock.log_time_us
        exchange = self.exchanges.get(key)
        if exchange is None:
            exchange = Exchange(offset, log_time)
            self.exchanges.put(key, exchange)
        exchange.last_log_time_us = log_time
        return exchange

    def _request(self, event: dict[str, Any], index: int, source: Source, view: View) -> First | None:
        """Admits a REQUEST, or gives the copy that came before it; so `_response` and `_policy`."""
        key = (source.gateway_id, event["request_id"], event["attempt"])
        known = self.exchanges.get(key)
        if known is not None and known.request is not None:
            return First(known.request.offset, known.request.content_hash)
        exchange = self._exchange(key, source.offset)
        exchange.request = RequestHalf(event["content_hash"], event["request_started_at"], source.offset)
        self.state.totals.requests += 1
        if exchange.responses:
            self._pair_late(exchange, event, index, source)
        elif event["workload_class"] == BATCH:
            self.state.rows.add("usage_facts", facts.running_fact(event, index, source, view, self.state.clock))
        else:
            self._wait(exchange.request, event, index, source, view)
        return None

    def _wait(self, half: RequestHalf, event: dict[str, Any], index: int, source: Source, view: View) -> None:
        half.deadline_us = self.state.clock.log_time_us + view.parameters.orphan_timer_us
        half.event, half.index, half.source, half.view = event, index, source, view
        self._wait_until((source.gateway_id, event["request_id"], event["attempt"]), half.deadline_us)

    def _pair_late(self, exchange: Exchange, event: dict[str, Any], index: int, source: Source) -> None:
        for half in exchange.responses.values():
            if half.fact is not None:
                self.state.rows.add("usage_facts", facts.paired(half.fact))
                half.fact = None
        if exchange.started_at_us != event["request_started_at"]:
            self._mismatch(event, index, source)

    def _mismatch(self, event: dict[str, Any], index: int, source: Source) -> None:
        self.state.rows.add("exceptions", exception(event, index, source, "start_mismatch", b""))

    def _response(self, event: dict[str, Any], index: int, source: Source, view: View) -> First | None:
        key = (source.gateway_id, event["request_id"], event["attempt"])
        known = self.exchanges.get(key)
        revision = event["usage_revision"]
        if known is not None:
            same = known.responses.get(revision)
            if same is None and known.started_at_us not in (None, event["request_started_at"]):
                same = next(iter(known.responses.values()))
            if same is not None:
                return First(same.offset, same.content_hash)
        exchange = self._exchange(key, source.offset)
        request = exchange.request
        fact = facts.usage_fact(event, index, source, self.state.clock, view)
        if request is not None:
            fact = facts.paired(fact)
            if request.started_at_us != event["request_started_at"]:
                self._mismatch(event, index, source)
            request.stop_waiting()
            self.waiting.pop(key, None)
        half = ResponseHalf(
            event["content_hash"],
            event["request_started_at"],
            source.offset,
            windows.dimensions_of_fact(fact),
            windows.measures_of_fact(fact),
            in_windows=False,
            fact=None,
        )
        self._count_in_windows(exchange, half, fact, revision)
        half.fact = None if request is not None else fact
        exchange.responses[revision] = half
        self.state.rows.add("usage_facts", fact)
        if lack_of(fact):
            self.state.unpriced.usage(fact, view)
        if fact["usage_consistency"] == MISMATCH:
            self.state.inconsistent.usage(fact, event["usage_mismatches"])
        self.state.oddities.note(fact, view)
        return None

    def _count_in_windows(self, exchange: Exchange, half: ResponseHalf, fact: Row, revision: int) -> None:
        """A fresh first RESPONSE adds itself, a fresh higher revision the difference; everything else adds nothing."""
        state = self.state
        if not fact["fresh"]:
            state.totals.responses_late += 1
            return
        state.totals.responses_fresh += 1
        highest = max(exchange.responses, default=None)
        if highest is None:
            if revision == 0:
                half.in_windows = True
                self._book(half.dimensions, half.measures, fact["offset"])
                fact["window_tokens"], fact["window_cost"] = tokens_and_cost(half)
            return
        before = exchange.responses[highest]
        if revision > highest and before.in_windows:
            half.in_windows = True
            attempts_moved = 0 if half.dimensions == before.dimensions else 1
            self._book(
                before.dimensions, [-attempts_moved, *(-amount for amount in before.measures[1:])], fact["offset"]
            )
            self._book(half.dimensions, [attempts_moved, *half.measures[1:]], fact["offset"])
            now, then = tokens_and_cost(half), tokens_and_cost(before)
            fact["window_tokens"], fact["window_cost"] = now[0] - then[0], now[1] - then[1]

    def _book(self, dimensions: windows.Dimensions, measures: Sequence[int], offset: int) -> None:
        self.state.book.add(self.state.clock.slice_us, dimensions, measures, offset)

    def _policy(self, event: dict[str, Any], index: int, source: Source, view: View) -> First | None:
        key = (source.gateway_id, event["decision_id"])
        known = self.policies.get(key)
        if known is not None:
            return First(known.first_offset, known.content_hash)
        state = self.state
        log_time = state.clock.log_time_us
        self.policies.put(key, SeenDecision(source.offset, log_time, event["content_hash"]))
        fact = facts.policy_fact(event, index, source, state.clock, view)
        state.totals.decisions += 1
        state.rows.add("policy_facts", fact)
        if fact["price_status"] == UNPRICED:
            state.unpriced.decision(fact, view)
        state.oddities.note(fact, view)
        if event["outcome"] == "deny":
            self.deny((fact["gateway_id"], event["request_id"]), log_time, source.offset)
        if fact["fresh"]:
            dimensions = windows.dimensions_of_decision(fact)
            self._book(dimensions, windows.measures_of_decision(fact), source.offset)
        return None

    def deny(self, request: tuple[str, str], log_time_us: int, offset: int) -> None:
        """Notes that a policy denied the request (gateway_id, request_id) in the record at `offset`."""
        known = self.denials.get(request)
        if known is not None:
            known.last_log_time_us = max(known.last_log_time_us, log_time_us)
            known.seen += ((log_time_us, offset),)
        else:
            self.denials.put(request, Denials(log_time_us, ((log_time_us, offset),)))

    # -- time

    def expire_orphans(self, reaching: Reaching) -> None:
        """Writes the rows of REQUESTs whose RESPONSE did not come before log time reached their deadline."""
        log_time = self.state.clock.log_time_us
        if not self.waiting or log_time < self._first_deadline_us:
            return
        for key, deadline in [item for item in self.waiting.items() if item[1] <= log_time]:
            del self.waiting[key]
            self._orphan(key, self.exchanges[key].request, reaching(deadline))
        self._first_deadline_us = min(self.waiting.values(), default=0)

    def shorten_waits(self, horizon_us: int) -> None:
        """A lower horizon came into force: nobody waits longer than the memory lasts.

        Else an exchange that is forgotten could wait again in a replay that begins in its middle.
        """
        for key, deadline in self.waiting.items():
            exchange = self.exchanges[key]
            shorter = min(deadline, exchange.last_log_time_us + horizon_us)
            self.waiting[key] = shorter
            if exchange.request is not None:
                exchange.request.deadline_us = shorter
        self._first_deadline_us = min(self.waiting.values(), default=0)

    def _orphan(self, key: ExchangeKey, half: RequestHalf | None, due: Due) -> None:
        if half is None or half.event is None or half.source is None or half.view is None:
            raise AssertionError(f"exchange {key} is in the waiting list but does not wait")
        denied = self.is_denied(key, due)
        row = facts.unanswered_fact(half.event, half.index, half.source, half.view, due.clock, denied=denied)
        self.state.rows.add("usage_facts", row)
        self.state.totals.orphans += 1
        half.stop_waiting()

    def is_denied(self, key: ExchangeKey, due: Due) -> bool:
        """Whether a denial of the request came before that record and, at the deadline, was within the horizon."""
        denials = self.denials.get((key[0], key[1]))
        return denials is not None and any(
            offset < due.offset and log_time >= due.memory_floor_us for log_time, offset in denials.seen
        )

    def evict_denials(self) -> None:
        """Forgets denials that the horizon has passed."""
        self.denials.pop_older(self.state.clock.memory_floor_us)

    def evict(self) -> None:
        """Forgets exchanges and decisions that the horizon has passed."""
        floor = self.state.clock.memory_floor_us
        exchanges = self.exchanges.pop_older(floor, keep=self.waiting)
        policies = self.policies.pop_older(floor)
        if self._on_evict is not None and (exchanges or policies):
            self._on_evict(exchanges, policies)

    def put(self, key: ExchangeKey, exchange: Exchange) -> None:
        """Takes over an exchange that was remembered elsewhere."""
        self.exchanges.put(key, exchange)
        if exchange.request is not None and exchange.request.deadline_us is not None:
            self._wait_until(key, exchange.request.deadline_us)

    def _wait_until(self, key: ExchangeKey, deadline_us: int) -> None:
        self._first_deadline_us = min(self._first_deadline_us, deadline_us) if self.waiting else deadline_us
        self.waiting[key] = deadline_us

    def needed_from(self) -> int | None:
        """Lowest offset that the exchanges in memory still need; None where nothing is remembered."""
        offsets = [exchange.first_offset for exchange in self.exchanges.values()]
        offsets += [seen.first_offset for seen in self.policies.values()]
        floor = self.state.clock.memory_floor_us
        seen = [entry for denials in self.denials.values() for entry in denials.seen]
        offsets += [offset for log_time, offset in seen if log_time >= floor]
        return min(offsets, default=None)


def tokens_and_cost(half: ResponseHalf) -> tuple[int, int]:
    """(tokens, charge) of a RESPONSE, as its fact states what it added to windows."""
    measures = dict(zip(windows.MEASURES, half.measures, strict=True))
    return measures["input_tokens"] + measures["output_tokens"], measures["charge"]
