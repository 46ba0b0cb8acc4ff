"""One line of the log, checked: what is needed must be right, what else is wrong costs its own field only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gatemeter.producers.events import MAX_ID_LENGTH, MAX_TEXT_LENGTH, MAX_TIME_US
from gatemeter.producers.foreign import iso_time_us, kind_of, text, whole
from gatemeter.producers.networks import MAX_ADDRESS_LENGTH
from gatemeter.producers.tails.envoy.fields import LogFields
from gatemeter.producers.tails.running import BadLine
from gatemeter.schemas.limits import MAX_LATENCY_US, MAX_TOKENS_PER_EVENT

MAX_ATTEMPTS: Final = 100
"""The most attempts that one request is believed to have had."""
MAX_USAGE_LENGTH: Final = 65_536
_EPOCH: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?")
_SALVAGES: Final = 100
COUNTS: Final = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """A line of the router's `upstream_log`: one try at a provider. Times in microseconds, UTC."""

    request_id: str
    attempt: int
    started_us: int
    duration_us: int | None
    code: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A line of the access log: one request, with how it ended. None is what the log does not say."""

    request_id: str
    started_us: int
    path: str
    code: int
    flags: tuple[str, ...]
    details: str
    attempts: int | None
    duration_us: int | None
    ttft_us: int | None
    texts: Mapping[str, str | None] = field(repr=False)
    usage: Mapping[str, str | None] = field(repr=False)
    """`usage` and `start_usage`: the provider's own JSON."""
    counts: Mapping[str, int | None] = field(default_factory=dict)


TEXTS: Final = {
    **dict.fromkeys(
        ("client_request_id", "traceparent", "idempotency_key", "method", "cluster", "model"), MAX_ID_LENGTH
    ),
    "client_address": MAX_ADDRESS_LENGTH,
    **dict.fromkeys(("verified_tenant", "verified_app", "claimed_tenant", "claimed_app"), MAX_ID_LENGTH),
    **dict.fromkeys(("provider_request_id", "served_model", "service_tier"), MAX_ID_LENGTH),
    **dict.fromkeys(("peer_uri", "route", "finish_reason", "stream", "stream_error"), MAX_TEXT_LENGTH),
}
"""Fields of text, and how much of each is kept."""


class LineParser:
    """`complain(field, what)` hears of each field that is wrong beside good ones."""

    def __init__(self, fields: LogFields, complain: Callable[[str, str], None]) -> None:
        self._fields, self._complain = fields, complain

    def parse(self, line: bytes) -> RequestLine | AttemptLine:
        """Raises `BadLine`."""
        values = _object(line)
        if self._fields.get(values, "log") == "attempt":
            return self._attempt(values)
        return self._request(values)

    def _attempt(self, values: Mapping[str, Any]) -> AttemptLine:
        return AttemptLine(
            request_id=self._needed(values, "request_id", text),
            attempt=self._needed(values, "attempt", whole(1, MAX_ATTEMPTS)),
            started_us=self._needed(values, "started_at", _time_us),
            duration_us=self._duration(values),
            code=self._needed(values, "code", whole(0, 999)),
            flags=self._flags(values),
        )

    def _request(self, values: Mapping[str, Any]) -> RequestLine:
        return RequestLine(
            request_id=self._needed(values, "request_id", text),
            started_us=self._needed(values, "started_at", _time_us),
            path=self._needed(values, "path", text).partition("?")[0],
            code=self._needed(values, "code", whole(0, 999)),
            flags=self._flags(values),
            details=self._optional(values, "details", text) or "",
            attempts=self._optional(values, "attempts", whole(0, MAX_ATTEMPTS)),
            duration_us=self._duration(values),
            ttft_us=self._optional(values, "ttft_us", whole(0, MAX_LATENCY_US)),
            texts={name: self._text(values, name, longest) for name, longest in TEXTS.items()},
            usage={name: self._optional(values, name, _json) for name in ("usage", "start_usage")},
            counts={name: self._optional(values, name, whole(0, MAX_TOKENS_PER_EVENT)) for name in COUNTS},
        )

    def _needed(self, values: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
        try:
            return read(self._fields.get(values, name))
        except ValueError as error:
            raise BadLine(f"{self._fields.names[name]}: {error}") from None

    def _optional(self, values: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
        value = self._fields.get(values, name)
        if value is None:
            return None
        try:
            return read(value)
        except ValueError as error:
            self._complain(self._fields.names[name], str(error))
            return None

    def _text(self, values: Mapping[str, Any], name: str, longest: int) -> str | None:
        found: str | None = self._optional(values, name, text)
        return None if found is None else found[:longest]

    def _flags(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        flags = self._optional(values, "flags", text)
        return tuple(flags.split(",")) if flags else ()

    def _duration(self, values: Mapping[str, Any]) -> int | None:
        """The finer one; it is missing where the answer never ended."""
        fine: int | None = self._optional(values, "duration_us", whole(0, MAX_LATENCY_US))
        if fine is not None:
            return fine
        coarse: int | None = self._optional(values, "duration_ms", whole(0, MAX_LATENCY_US // 1000))
        return None if coarse is None else coarse * 1000


def _object(line: bytes) -> Mapping[str, Any]:
    """The JSON object of a line; where a line that was never finished stands before it, the object behind that."""
    begin = 0
    for _ in range(_SALVAGES):
        try:
            value = json.loads(line[begin:])
            if isinstance(value, dict):
                return value
        except (ValueError, RecursionError):
            pass
        begin = line.find(b'{"', begin + 1)
        if begin < 0:
            break
    raise BadLine(f"must be a JSON object, got {len(line)} bytes that are none")


def _time_us(value: Any) -> int:
    """Seconds since 1970 with up to nine decimals, as text (never through a float), or ISO 8601."""
    match = _EPOCH.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        found = int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0")[:6])
    else:
        try:
            found = iso_time_us(value)
        except ValueError:
            found = -1
    if not 0 <= found <= MAX_TIME_US:
        raise ValueError(f"must be text: seconds since 1970 (%START_TIME(%s.%6f)%) or ISO 8601, got {kind_of(value)}")
    return found


def _json(value: Any) -> str:
    """A usage object: its text as the provider wrote it, or the object itself."""
    said = value if isinstance(value, str) else json.dumps(value)
    if len(said) > MAX_USAGE_LENGTH:
        raise ValueError(f"must be a JSON object of at most {MAX_USAGE_LENGTH} characters, got {len(said)}")
    try:
        if isinstance(json.loads(said), dict):
            return said
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"must be a JSON object, got {kind_of(value)}")
