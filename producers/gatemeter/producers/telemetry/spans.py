"""From a span to what it says of a call: a RESPONSE, or nothing where it is no call of a model. Pure.

The same span gives the same event, its id included: an export that is sent again is a copy. Only the attributes of
`semantics.READ` are looked at, so no prompt, completion, header or name of a span can leave.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from gatemeter.producers.events import MAX_ID_LENGTH, ResponseEvent
from gatemeter.producers.foreign import BadItem, Item, kind_of, truth, whole
from gatemeter.producers.telemetry import semantics
from gatemeter.producers.telemetry.counting import counted
from gatemeter.producers.telemetry.outcomes import status_of
from gatemeter.producers.usage import Usage
from gatemeter.schemas.limits import MAX_LATENCY_US, MAX_TOKENS_PER_EVENT

ERROR: Final = 2
"""The status code of a span that failed."""
_NOT_CALLERS: Final = (2, 4, 5)
"""Kinds of spans that answer, publish or consume: server, producer, consumer."""
_NS_PER_US: Final = 1000
_count: Final = whole(0, MAX_TOKENS_PER_EVENT)


@dataclass(frozen=True, slots=True)
class Span:
    """What is kept of a span. Ids in hex, times in nanoseconds since 1970; `attributes` are those of `READ`."""

    trace_id: str
    span_id: str
    start_ns: int
    end_ns: int
    kind: int = 0
    status: int = 0
    service: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)


def request_id_of(gateway_id: str, span: Span) -> str:
    """Our id of the call that a span tells: 32 hex digits."""
    known = f"{gateway_id}\n{span.trace_id}\n{span.span_id}"
    return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()


def event_of(span: Span, gateway_id: str, complain: Callable[[str, str], None]) -> ResponseEvent | None:
    """The call of a span; None where it is none. `complain(attribute, what)` hears of wrong ones beside good ones.

    Raises `BadItem` for a call whose times cannot be.
    """
    said = Item(span.attributes, complain)
    operation = _operation(said)
    if operation is None or span.kind in _NOT_CALLERS:
        return None
    begun_us, latency_us = _times(span)
    texts = {name: said.first(names, _text) for name, names in semantics.TEXTS.items()}
    http_status = said.optional(semantics.HTTP_STATUS, whole(0, 999))
    status = status_of(texts["error"], http_status, has_failed=span.status == ERROR)
    usage = _usage(said, operation, texts, is_whole=status == "ok")
    return ResponseEvent(
        **{**usage.event_fields(), "served_model": _served(texts)},
        request_id=request_id_of(gateway_id, span),
        request_started_at=begun_us,
        occurred_at=begun_us + latency_us,
        trace_id=span.trace_id,
        app_id=None if span.service is None else _text(span.service)[:MAX_ID_LENGTH],
        identity_source="header_claim",
        provider=None if texts["provider"] is None else semantics.provider_named(texts["provider"]),
        model=texts["model"],
        operation="responses" if operation == "chat" and texts["api"] == "responses" else operation,
        stream=said.first(semantics.STREAM, truth),
        status=status,
        delivered=None if status == "cancelled" else status == "ok",
        http_status=http_status,
        latency_us=latency_us,
        ttft_us=said.optional(semantics.FIRST_CHUNK, _seconds_us),
    )


def _operation(said: Item) -> str | None:
    """The first name that is stated decides: a span of another operation is no call, whatever else it says."""
    name = said.first(semantics.OPERATION_NAMES, _text)
    return None if name is None else semantics.OPERATIONS.get(name)


def _times(span: Span) -> tuple[int, int]:
    """(start, duration) in microseconds."""
    if span.start_ns <= 0:
        raise BadItem("start_time_unix_nano: must be more than 0")
    begun_us, ended_us = span.start_ns // _NS_PER_US, span.end_ns // _NS_PER_US
    if not begun_us <= ended_us <= begun_us + MAX_LATENCY_US:
        raise BadItem(
            "end_time_unix_nano: must be at the start or up to"
            f" {MAX_LATENCY_US} us behind it, got {ended_us - begun_us} us"
        )
    return begun_us, ended_us - begun_us


def _served(texts: Mapping[str, str | None]) -> str | None:
    """Instrumentations that saw no answer, or a stream's only, repeat the model that was asked for."""
    is_echo = texts["provider_request_id"] is None and texts["served_model"] == texts["model"]
    return None if is_echo else texts["served_model"]


def _usage(said: Item, operation: str, texts: Mapping[str, str | None], *, is_whole: bool) -> Usage:
    counts = {name: said.first(names, _count) for name, names in semantics.COUNTS.items()}
    reason = said.optional(semantics.FINISH_REASONS, _first_text) or texts["finish_reason"]
    return counted(counts, operation, {**texts, "finish_reason": reason}, is_whole=is_whole)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be text, got {kind_of(value)}")
    return value[:MAX_ID_LENGTH].encode(errors="replace").decode()


def _first_text(value: Any) -> str | None:
    """Of an array: one of each choice."""
    if not isinstance(value, list):
        raise ValueError(f"must be an array of text, got {kind_of(value)}")
    return next((_text(each) for each in value if each), None)


def _seconds_us(value: Any) -> int:
    """Seconds with decimals, as microseconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_LATENCY_US // 1_000_000:
        raise ValueError(f"must be seconds of 0 to {MAX_LATENCY_US // 1_000_000}, got {kind_of(value)}")
    return int(Decimal(str(value)) * 1_000_000)
