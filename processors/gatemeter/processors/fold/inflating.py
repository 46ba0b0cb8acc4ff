"""Hands exchanges over from the columns to the plain fold, and writes the orphans of those that stay."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from gatemeter.processors.fold import facts, windows
from gatemeter.processors.fold.clocks import Clocks
from gatemeter.processors.fold.columns import Context, Events
from gatemeter.processors.fold.exchanges import Exchange, ExchangeKey, RequestHalf, ResponseHalf, SeenDecision
from gatemeter.processors.fold.facts import Source
from gatemeter.processors.fold.notices import exception
from gatemeter.processors.fold.partition_state import PartitionState
from gatemeter.processors.fold.plain import PlainFold, Reaching
from gatemeter.processors.fold.recent import (
    COMPLEX,
    HAS_REQUEST,
    HAS_RESPONSE,
    IS_POLICY,
    NOT_WAITING,
    Recent,
)
from gatemeter.processors.fold.state import Clock
from gatemeter.processors.fold.types import LogRecord, Row
from gatemeter.processors.metadata.views import View


def waiting_requests(requests: Events) -> pl.DataFrame:
    """What is kept of REQUESTs that wait: the event and where it came from."""
    parts = [requests.frame.select(facts.REQUEST_FIELDS), requests.source()]
    return pl.concat(parts, how="horizontal").with_columns(pl.Series("event_index", requests.index_of))


class Inflater:
    """Between `Recent` and `PlainFold`."""

    def __init__(self, state: PartitionState) -> None:
        self.plain = PlainFold(state, on_evict=self.forget)
        self.recent = Recent()

    def admit(self, events: Events, keys: list[str], records: list[LogRecord], clocks: Clocks, view: View) -> None:
        """Events of exchanges that are not simple, in log order, each under the clock of its record."""
        plain = self.plain
        sources: dict[int, Source] = {}
        at = -1
        rows = zip(
            events.frame.iter_rows(named=True), keys, events.record_of.tolist(), events.index_of.tolist(), strict=True
        )
        for event, key, record, index in rows:
            if record != at:
                at = record
                plain.state.clock = clocks.at(record)
            self._inflate(key, event, plain.state.clock)
            plain.expire_orphans(clocks.reaching)
            plain.evict()
            source = sources.get(record)
            if source is None:
                source = sources[record] = self._source(events.records.row(record, named=True))
            plain.admit(event, index, source, view, records[record], None)
            self.recent.numbers[key] = COMPLEX

    def _source(self, record: Row) -> Source:
        return Source(
            topic=self.plain.state.topic,
            partition=self.plain.state.partition,
            offset=record["offset"],
            recorded_at_us=record["recorded_at"],
            kid=record["kid"],
            gateway_id=record["gateway_id"],
            gateway_kind=record["gateway_kind"],
            epoch=record["epoch"],
            first_sequence=record["first_sequence"],
        )

    def mismatches(self, events: Events, context: Context) -> None:
        """RESPONSEs whose REQUEST stated another start."""
        for event, record, index in zip(
            events.frame.iter_rows(named=True), events.record_of.tolist(), events.index_of.tolist(), strict=True
        ):
            source = self._source(events.records.row(record, named=True))
            self.plain.state.rows.add("exceptions", exception(event, index, source, "start_mismatch", b""))

    def _inflate(self, key: str, event: dict[str, Any], clock: Clock) -> None:
        recent = self.recent
        number = recent.numbers.get(key, COMPLEX)
        if number == COMPLEX:
            return
        rows = recent.rows(np.array([number], np.int64))
        floor, log_time = np.array([clock.memory_floor_us]), np.array([clock.log_time_us])
        alive = bool(recent.is_alive(rows, floor, log_time)[0])
        due = bool(recent.column("deadline")[rows[0]] != NOT_WAITING)
        recent.numbers[key] = COMPLEX
        if not alive and not due:
            return
        entry = {name: recent.column(name)[rows[0]] for name in _ENTRY}
        if entry["flags"] & IS_POLICY:
            seen = SeenDecision(
                int(entry["first_offset"]), int(entry["last_log_time"]), entry["response_hash"].tobytes()
            )
            self.plain.policies.put((event["gateway_id"], event["decision_id"]), seen)
        else:
            exchange_key = (event["gateway_id"], event["request_id"], event["attempt"])
            self.plain.put(exchange_key, self._exchange(number, entry))
        recent.forget(number)

    def _exchange(self, number: int, entry: dict[str, Any]) -> Exchange:
        exchange = Exchange(int(entry["first_offset"]), int(entry["last_log_time"]))
        generation = self.recent.generation(number)
        if entry["flags"] & HAS_REQUEST:
            half = RequestHalf(
                entry["request_hash"].tobytes(), int(entry["request_started"]), int(entry["first_offset"])
            )
            if entry["deadline"] != NOT_WAITING:
                half.deadline_us = int(entry["deadline"])
                half.event, half.index, half.source = self._request(number, int(entry["request_row"]))
                half.view = generation.view
            exchange.request = half
        if entry["flags"] & HAS_RESPONSE:
            part = generation.parts.row(int(entry["part_row"]), named=True)
            fact = None
            if not entry["flags"] & HAS_REQUEST:
                fact = generation.unpaired.row(int(entry["unpaired_row"]), named=True)
            exchange.responses[0] = ResponseHalf(
                entry["response_hash"].tobytes(),
                int(entry["response_started"]),
                int(entry["response_offset"]),
                windows.dimensions_of_fact(part),
                windows.measures_of_fact(part),
                in_windows=part["fresh"],
                fact=fact,
            )
        return exchange

    def _request(self, number: int, row: int) -> tuple[dict[str, Any], int, Source]:
        requests = self.recent.generation(number).requests
        if requests is None:
            raise AssertionError(f"entry {number} waits but its REQUEST is not kept")
        event = requests.row(row, named=True)
        return event, event["event_index"], self._source(event)

    def expire(self, reaching: Reaching, log_time_us: int) -> None:
        """Writes the orphans of simple entries whose deadline has come."""
        recent, state = self.recent, self.plain.state
        rows = recent.due(log_time_us)
        for row in rows.tolist():
            number = row + recent.base
            due = reaching(int(recent.column("deadline")[row]))
            event, index, source = self._request(number, int(recent.column("request_row")[row]))
            key = (event["gateway_id"], event["request_id"], event["attempt"])
            denied = self.plain.is_denied(key, due)
            view = recent.generation(number).view
            state.rows.add("usage_facts", facts.unanswered_fact(event, index, source, view, due.clock, denied=denied))
            state.totals.orphans += 1
        if len(rows):
            recent.stop_waiting(rows)

    def forget(self, exchanges: list[ExchangeKey], policies: list[tuple[str, str]]) -> None:
        """The plain fold has forgotten these."""
        for gateway_id, request_id, attempt in exchanges:
            self._forget(f"U\x1f{gateway_id}\x1f{request_id}\x1f{attempt}")
        for gateway_id, decision_id in policies:
            self._forget(f"P\x1f{gateway_id}\x1f{decision_id}")

    def _forget(self, key: str) -> None:
        if self.recent.numbers.get(key) == COMPLEX:
            del self.recent.numbers[key]


_ENTRY: Final = (
    "flags",
    "first_offset",
    "last_log_time",
    "deadline",
    "request_started",
    "response_started",
    "request_hash",
    "response_hash",
    "response_offset",
    "request_row",
    "part_row",
    "unpaired_row",
)
