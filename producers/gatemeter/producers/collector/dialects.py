"""How a sender writes a request and wants it answered: plain JSON, or the protocol that its product speaks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from gatemeter.producers.collector.bodies import BadBody, BodyTooLarge, UnknownType, items_of
from gatemeter.producers.collector.intake import Taken
from gatemeter.producers.telemetry import otlp

_JSON: Final = "application/json"


class Dialect(Protocol):
    """`content_type` is that of the request, without its parameters."""

    def items(self, body: bytes, content_type: str, max_items: int) -> list[Any]:
        """What a request holds. Raises `BodyTooLarge`, `BadBody`."""
        ...

    def taken(self, content_type: str, taken: Taken) -> tuple[bytes, str]:
        """The answer to a request that was taken, and its content type."""
        ...

    def refused(self, content_type: str, error: str) -> tuple[bytes, str]:
        """The answer to one that was not."""
        ...


class PlainJson:
    """An object, an array, or lines of JSON; answered by JSON."""

    def items(self, body: bytes, content_type: str, max_items: int) -> list[Any]:
        """One item an object."""
        return items_of(body, content_type, max_items)

    def taken(self, content_type: str, taken: Taken) -> tuple[bytes, str]:
        """What was taken, and what was refused and why."""
        return msgspec.json.encode(taken), _JSON

    def refused(self, content_type: str, error: str) -> tuple[bytes, str]:
        """The error."""
        return json.dumps({"error": error}).encode(), _JSON


class OtlpTraces:
    """OTLP/HTTP: protobuf or JSON, answered in the same."""

    def items(self, body: bytes, content_type: str, max_items: int) -> list[Any]:
        """One item a span."""
        try:
            spans = otlp.spans_of(body, content_type)
        except otlp.WrongType as error:
            raise UnknownType(str(error)) from None
        except otlp.BadExport as error:
            raise BadBody(str(error)) from None
        if len(spans) > max_items:
            raise BodyTooLarge(f"body: must hold at most {max_items} spans, got {len(spans)}")
        return [{"span": span} for span in spans]

    def taken(self, content_type: str, taken: Taken) -> tuple[bytes, str]:
        """The protocol's response; refused spans make it a partial success, which is not to be sent again."""
        return otlp.answer(content_type, [(refusal.item, refusal.error) for refusal in taken.refused]), content_type

    def refused(self, content_type: str, error: str) -> tuple[bytes, str]:
        """The protocol's status."""
        kind = content_type if content_type in otlp.TYPES else _JSON
        return otlp.failure(kind, error), kind


_PLAIN: Final = PlainJson()
_OTHERS: Final[Mapping[str, Dialect]] = MappingProxyType({"otlp": OtlpTraces()})


def dialect_of(source: str) -> Dialect:
    """Of a source by its name: plain JSON unless its protocol has a form of its own."""
    return _OTHERS.get(source, _PLAIN)
