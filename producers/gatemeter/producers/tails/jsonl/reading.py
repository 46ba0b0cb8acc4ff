"""From lines of an application's log to what they say of calls: a RESPONSE each, or nothing.

The same line at the same place of the same file gives the same event, its id included: what is read twice is a copy.
Only the fields that are named are looked at, and of an error only what kind it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.events import MAX_ID_LENGTH, MAX_TIME_US, Event, ResponseEvent
from gatemeter.producers.foreign import Item, at, iso_time_us, kind_of, milliseconds_us, text, truth, whole
from gatemeter.producers.hooks.metered_call import Status
from gatemeter.producers.networks import network_of
from gatemeter.producers.tails.jsonl.fields import JsonlFields
from gatemeter.producers.tails.running import BadLine
from gatemeter.producers.telemetry import semantics
from gatemeter.producers.telemetry.counting import counted, usage_of_provider
from gatemeter.producers.telemetry.outcomes import ended_as, status_of
from gatemeter.producers.traceparent import trace_id_of
from gatemeter.producers.usage import Usage
from gatemeter.schemas.limits import MAX_LATENCY_US, MAX_TOKENS_PER_EVENT

_log: Final = logging.getLogger(__name__)
_TEXTS: Final = (
    *("provider_request_id", "client_request_id", "tenant_id", "app_id", "workload_id", "finish_reason"),
    *("provider", "model", "served_model", "operation"),
)
_COUNTS: Final = ("input", "output", "cached", "written", "reasoning")
_UNITS: Final = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
"""Below each bound a number since 1970 is in seconds, milliseconds, microseconds; above all of them in nanoseconds."""
_MODELS: Final = ("model", "served_model")
_SIGNS: Final = ("provider_request_id", "error", "http_status", "usage", "input_tokens", "output_tokens")
_MAX_DIGITS: Final = 40
_T = TypeVar("_T")
_count: Final = whole(0, MAX_TOKENS_PER_EVENT)


class JsonLog:
    """The reader of a log for `Tail`. `gateway_id` and the `place` of the line go into the ids; there is no state.

    `ignored` counts lines that tell no call, `bad_values` fields that were wrong beside good ones.
    """

    def __init__(
        self, gateway_id: str, fields: JsonlFields | None = None, place: Callable[[], tuple[str, int]] = lambda: ("", 0)
    ) -> None:
        self.ignored = 0
        self.bad_values = 0
        self._gateway_id, self._fields, self._place = gateway_id, fields or JsonlFields(), place
        self._complaints = Complaints()

    @property
    def state(self) -> dict[str, Any]:
        """Nothing: each line stands alone."""
        return {}

    def _complain(self, field: str, what: str) -> None:
        self.bad_values += 1
        self._complaints.say(_log, f"a field of a line was left out: {field.replace('%', '%%')}: %s", what)

    def events(self, line: bytes) -> list[Event]:
        """The call of a line, if it tells one. Raises `BadLine`."""
        values = _object(line)
        if any(_plain(at(values, path)) != expected for path, expected in self._fields.where.items()):
            self.ignored += 1
            return []
        if not self._is_call(values):
            self.ignored += 1
            return []
        said = _Line(Item(values, self._complain), self._fields)
        return [said.response(self._request_id(line, said.own_id), self._complain)]

    def _is_call(self, values: Mapping[str, Any]) -> bool:
        """It names a model, and what the model used, answered, or how it failed."""
        has_model = "model" in self._fields.constants or any(self._has(values, name) for name in _MODELS)
        statuses = (_plain(at(values, path)) for path in self._fields.names["status"])
        is_over = any(word is not None and (word.isdecimal() or ended_as(word)) for word in statuses)
        return has_model and (is_over or any(self._has(values, name) for name in _SIGNS))

    def _has(self, values: Mapping[str, Any], name: str) -> bool:
        return any(at(values, path) is not None for path in self._fields.names[name])

    def _request_id(self, line: bytes, own_id: str | None) -> str:
        if own_id is not None:
            known = f"{self._gateway_id}\n{own_id}".encode()
        else:
            known = b"\n".join((self._gateway_id.encode(), *(str(each).encode() for each in self._place()), line))
        return hashlib.blake2b(known, digest_size=16).hexdigest()


class _Line:
    """One line by our names."""

    def __init__(self, item: Item, fields: JsonlFields) -> None:
        self._item, self._fields = item, fields
        self._texts: dict[str, str | None] = {name: self._first(name, _short) for name in _TEXTS}
        self._texts |= fields.constants
        self._counts = {name: self._first(f"{name}_tokens", _count) for name in _COUNTS}
        self.own_id = self._first("id", text)

    def _first(self, name: str, read: Callable[[Any], _T]) -> _T | None:
        return self._item.first(self._fields.names[name], read)

    def response(self, request_id: str, complain: Callable[[str, str], None]) -> ResponseEvent:
        """What it says. Raises `BadLine` where it does not say when."""
        started_us, occurred_us, latency_us = self._times(complain)
        http_status, status = self._ending(complain)
        usage = self._usage(is_whole=status == "ok")
        named = {name: self._texts[name] for name in ("client_request_id", "tenant_id", "app_id", "workload_id")}
        return ResponseEvent(
            **{**usage.event_fields(), **named},
            request_id=request_id,
            request_started_at=started_us,
            occurred_at=occurred_us,
            trace_id=self._first("trace_id", _short) or trace_id_of(self._first("traceparent", text)),
            identity_source="header_claim",
            provider=self._provider,
            model=self._texts["model"],
            operation=self._operation,
            stream=self._first("stream", truth),
            client_network=network_of(self._first("client_address", text)),
            status=status,
            delivered=None if status == "cancelled" else status == "ok",
            http_status=http_status,
            latency_us=latency_us,
            ttft_us=self._first("ttft_ms", milliseconds_us(MAX_LATENCY_US)),
        )

    @property
    def _provider(self) -> str | None:
        name = self._texts["provider"]
        return None if name is None else self._fields.providers.get(name) or semantics.provider_named(name)

    @property
    def _operation(self) -> str:
        name = self._texts["operation"] or "chat"
        return semantics.OPERATIONS.get(name, name)

    def _times(self, complain: Callable[[str, str], None]) -> tuple[int, int, int | None]:
        """(start, end, duration): what is not stated follows from the others."""
        started_us, written_us = self._first("started_at", _moment_us), self._first("timestamp", _moment_us)
        latency_us = self._first("duration_ms", milliseconds_us(MAX_LATENCY_US))
        if latency_us is None:
            latency_us = self._first("duration_s", _seconds_us)
        if started_us is None:
            if written_us is None:
                names = ", ".join((*self._fields.names["timestamp"], *self._fields.names["started_at"]))
                raise BadLine(f"timestamp: must be one of {names}: ISO 8601, or a number since 1970")
            started_us = max(0, written_us - (latency_us or 0))
            return started_us, max(started_us, written_us), latency_us
        if latency_us is None and written_us is not None:
            if started_us <= written_us <= started_us + MAX_LATENCY_US:
                latency_us = written_us - started_us
            else:
                complain("timestamp", f"must be at started_at or up to {MAX_LATENCY_US} us behind it")
        return started_us, started_us + (latency_us or 0), latency_us

    def _ending(self, complain: Callable[[str, str], None]) -> tuple[int | None, Status]:
        """(HTTP status, status): a word for it, else what the HTTP status or an error says."""
        http_status, word = self._first("http_status", whole(0, 999)), self._first("status", text)
        if word is not None and word.isdecimal():
            http_status, word = int(word) if http_status is None and len(word) == 3 else http_status, None
        judged = None if word is None else ended_as(word)
        if word is not None and judged is None:
            complain("status", "must be a word for ok, error, timeout or cancelled, or an HTTP status, got another")
        if judged is not None and judged != "error":
            return http_status, judged
        errors = [found for path in self._fields.names["error"] if (found := at(self._item.values, path))]
        kind = next((error for error in errors if isinstance(error, str)), None)
        return http_status, status_of(kind, http_status, has_failed=judged == "error" or bool(errors))

    def _usage(self, *, is_whole: bool) -> Usage:
        """The provider's own usage object where there is one, else the counts beside it."""
        for path in self._fields.names["usage"]:
            usage = at(self._item.values, path)
            found = usage_of_provider(self._provider, self._operation, usage, self._texts, is_whole=is_whole)
            if found is not None:
                return found
        return counted(self._counts, self._operation, self._texts, is_whole=is_whole)


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BadLine(f"must be a JSON object, got {len(line)} bytes that are none")
    return values


def _plain(value: Any) -> str | None:
    """A value as a file of fields names it."""
    try:
        return text(value)
    except ValueError:
        return None


def _short(value: Any) -> str:
    return text(value)[:MAX_ID_LENGTH]


def _number(value: Any) -> Decimal:
    """Of a number or its text; NaN for what is none."""
    if isinstance(value, int | float | str) and not isinstance(value, bool) and len(str(value)) <= _MAX_DIGITS:
        try:
            return Decimal(str(value))
        except InvalidOperation:
            pass
    return Decimal("nan")


def _seconds_us(value: Any) -> int:
    """Seconds with decimals, as microseconds."""
    number = _number(value) * 1_000_000
    if not number.is_finite() or not 0 <= number <= MAX_LATENCY_US:
        raise ValueError(f"must be seconds of 0 to {MAX_LATENCY_US // 1_000_000}, got {kind_of(value)}")
    return int(number)


def _moment_us(value: Any) -> int:
    """ISO 8601, or a number since 1970 whose size tells its unit."""
    number = _number(value)
    if not number.is_finite():
        return iso_time_us(value)
    found = next((number * factor for bound, factor in _UNITS if number < bound), number / 1000)
    if not 0 <= found <= MAX_TIME_US:
        raise ValueError("must be a time in ISO 8601 or a number since 1970, got a number out of range")
    return int(found)
