"""From an event to the spool's form (msgpack), checked in the same step: types, ranges and what fields say together.

msgspec checks types and ranges while it decodes what it has just encoded, in about a microsecond; Python adds the few
rules that need two fields. The slow part, naming the field and its range, runs for refused events only.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Any, Final

import msgspec

from gatemeter.producers.events import EVENT_TYPES, FIELDS, Event, PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.schemas import limits
from gatemeter.schemas.tables import BUCKETS, METERS

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[type, msgspec.msgpack.Decoder[Any]]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in EVENT_TYPES.values()
}
_buckets_of: Final = attrgetter(*BUCKETS)
_AT: Final = re.compile(r"\$\[(\d+)\]")


class InvalidEvent(ValueError):
    """An event that the processors would quarantine. The text names kind, field, accepted range and value."""


def spool_form(event: Event) -> bytes:
    """The msgpack of a valid event: kind, then its fields in order. Raises `InvalidEvent`."""
    try:
        body = _ENCODER.encode(event)
        _DECODERS[type(event)].decode(body)
    except msgspec.ValidationError as error:
        raise InvalidEvent(_named(event, str(error))) from None
    except KeyError:
        raise InvalidEvent(f"event: must be one of {', '.join(EVENT_TYPES)}, got {type(event).__name__}") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidEvent(f"{_kind(event)}: cannot be written: {error}") from None
    if not isinstance(event.request_id, str):  # msgspec writes a UUID as text; our caller needs the text itself
        raise InvalidEvent(_named(event, "request_id: not text - at `$[1]`"))
    age_us = event.occurred_at - event.request_started_at
    if not 0 <= age_us <= limits.MAX_REQUEST_AGE_US:
        raise InvalidEvent(
            f"{_kind(event)}.request_started_at: must be 0 to {limits.MAX_REQUEST_AGE_US} us before occurred_at,"
            f" got {age_us}"
        )
    if type(event) is ResponseEvent:
        _check_response(event)
        if event.status == "in_progress":
            _check_in_progress(event)
    return body


def _check_response(event: ResponseEvent) -> None:
    if event.usage_mismatches is not None and event.usage_consistency != "mismatch":
        given = event.usage_consistency
        raise InvalidEvent(f"RESPONSE.usage_consistency: must be mismatch beside usage_mismatches, got {given!r}")
    total = sum(filter(None, _buckets_of(event)))
    if total > limits.MAX_TOKENS_PER_EVENT:
        raise InvalidEvent(
            f"RESPONSE: the token buckets must add up to 0 to {limits.MAX_TOKENS_PER_EVENT}, got {total}"
        )


def _check_in_progress(event: ResponseEvent) -> None:
    if event.workload_class != "batch":
        raise InvalidEvent(
            f"RESPONSE.workload_class: must be batch where status is in_progress, got {event.workload_class}"
        )
    for name in (*BUCKETS, *METERS):
        if getattr(event, name) is not None:
            raise InvalidEvent(f"RESPONSE.{name}: must be None where status is in_progress, got {getattr(event, name)}")


def _kind(event: object) -> str:
    return next((kind for kind, known in EVENT_TYPES.items() if known is type(event)), type(event).__name__)


def _named(event: RequestEvent | ResponseEvent | PolicyEvent, message: str) -> str:
    kind, found = _kind(event), _AT.search(message)
    if found is None:
        return f"{kind}: {message}"
    name = FIELDS[kind][int(found.group(1)) - 1]
    value = repr(getattr(event, name))
    return f"{kind}.{name}: must be {accepted(kind, name)}, got {value if len(value) <= 80 else value[:77] + '...'}"


def accepted(kind: str, name: str) -> str:
    """What the field `name` of events of `kind` accepts, in words."""
    info = msgspec.inspect.type_info(EVENT_TYPES[kind])
    assert isinstance(info, msgspec.inspect.StructType)
    return _words(next(entry.type for entry in info.fields if entry.name == name))


def _words(accepts: msgspec.inspect.Type) -> str:
    match accepts:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_words(entry) for entry in types)
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"an integer of {low} to {high}"
        case msgspec.inspect.Metadata(extra_json_schema={"description": words}):
            return str(words)
        case msgspec.inspect.StrType(min_length=low, max_length=None):
            return "text"
        case msgspec.inspect.StrType(min_length=low, max_length=high):
            return f"text of {low or 0} to {high} characters"
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case msgspec.inspect.BoolType():
            return "true or false"
    return "None"
