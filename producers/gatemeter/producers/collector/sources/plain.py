"""Plain JSON: the emitter's own events by their field names, for gateways that no other way fits.

An object has `kind` (REQUEST, RESPONSE or POLICY) and the fields of that event. `request_id` and both times must be
there: the sender is the gateway, it numbers its requests and knows when they happened, so what it sends twice is equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gatemeter.producers.collector.sources.naming import Naming
from gatemeter.producers.events import EVENT_TYPES, Event
from gatemeter.producers.foreign import BadItem, kind_of
from gatemeter.producers.validation import accepted

REQUIRED: Final = ("request_id", "request_started_at", "occurred_at")
_AT: Final = re.compile(r"\$\.(\w+)")
_NAMED: Final = re.compile(r"`(\w+)`")


def _form(kind: str) -> type[msgspec.Struct]:
    """The event as an object with names; of the emitter's one its spool form is an array."""
    fields: list[Any] = []
    for known in msgspec.structs.fields(EVENT_TYPES[kind]):
        if known.name in REQUIRED or known.required:
            fields.append((known.name, known.type))
        else:
            fields.append((known.name, known.type, known.default))
    name = f"{kind.title()}Event"
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=kind)


FORMS: Final = {kind: _form(kind) for kind in EVENT_TYPES}
"""By kind, the type of its objects."""


class PlainEvents:
    """The reader of one sender's objects."""

    def __init__(self, naming: Naming, complain: Callable[[str, str], None]) -> None:
        self._constants = dict(naming.constants)

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        """One event. Raises `BadItem`, which names the field and what it accepts."""
        kind = item.get("kind")
        if not isinstance(kind, str) or kind not in FORMS:
            said = repr(kind[:20]) if isinstance(kind, str) else kind_of(kind)
            raise BadItem(f"kind: must be one of {', '.join(FORMS)}, got {said}")
        try:
            form = msgspec.convert({**item, **self._constants}, FORMS[kind])
        except msgspec.ValidationError as error:
            raise BadItem(_worded(kind, item, str(error))) from None
        return [EVENT_TYPES[kind](**{name: getattr(form, name) for name in form.__struct_fields__})]


def _worded(kind: str, item: Mapping[str, Any], message: str) -> str:
    at, named = _AT.search(message), _NAMED.search(message)
    if at is not None:
        name = at[1]
        return f"{kind}.{name}: must be {accepted(kind, name)}, got {kind_of(item.get(name))}"
    if named is not None and "unknown field" in message:
        return f"{kind}: has no field {named[1]!r}"
    if named is not None:
        return f"{kind}.{named[1]}: must be {accepted(kind, named[1])}, got nothing"
    return f"{kind}: {message}"
