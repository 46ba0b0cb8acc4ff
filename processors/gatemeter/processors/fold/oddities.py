"""Exceptions for registered identities that should not be in use, or not there: one row a record, identity and note.

As `unpriced`: its rows are a pure function of the log, and a flood of events makes few of them. See docs/fold.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import polars as pl

from gatemeter.processors.fold.types import Row, Rows
from gatemeter.processors.metadata.attributing import ODDITIES
from gatemeter.processors.metadata.identities import APP, CREDENTIAL
from gatemeter.processors.metadata.views import View
from gatemeter.processors.pricing.columns import Ints

IDENTITY: Final = "identity"
_NAMES: Final = {APP: "app_id", "workload": "workload_id", CREDENTIAL: "credential_fingerprint"}
_NAMED: Final = ("tenant_id", "app_id", "workload_id", "credential_fingerprint")
_FIRST: Final = ("event_index", "gateway_id", "request_id", "attempt", "recorded_at", "request_started_at")


class What(NamedTuple):
    """An identity, what is odd about it, and under whom it was seen. `event`: RESPONSE or POLICY."""

    event: str
    note: str
    kind: str
    identity_id: str
    tenant_id: str
    app_id: str
    registered_tenant: str
    owner: str


class First(NamedTuple):
    """The first such event of its record; times in microseconds."""

    event_index: int
    gateway_id: str
    request_id: str
    attempt: int
    recorded_at: int
    request_started_at: int


@dataclass(slots=True)
class OddityBook:
    """What was odd since the last call of `into`, by offset and what."""

    _found: dict[tuple[int, What], tuple[First, int]] = field(default_factory=dict)

    def note(self, fact: Mapping[str, Any], view: View) -> None:
        """A usage fact or decision; one whose note is about no identity is left out."""
        if fact["attribution_note"] in ODDITIES:
            self._add(fact, view)

    def notes(self, facts: pl.DataFrame, eras: Ints, view: View) -> None:
        """Many usage facts or decisions in log order, equal ones together; `eras`: of each its start's."""
        odd = facts.with_columns(pl.Series("era", eras)).filter(pl.col("attribution_note").is_in(ODDITIES))
        sender = ("sender_gateway_id",) if "sender_gateway_id" in odd.columns else ()
        grouped = odd.group_by("offset", "era", "attribution_note", *_NAMED, maintain_order=True)
        for fact in grouped.agg(pl.col(*_FIRST, *sender).first(), pl.len()).iter_rows(named=True):
            self._add(fact, view, fact["len"])

    def _add(self, fact: Mapping[str, Any], view: View, events: int = 1) -> None:
        key = (fact["offset"], _what(fact, view))
        # as all exceptions, the row is about the gateway that sent the record
        gateway_id = fact.get("sender_gateway_id") or fact["gateway_id"]
        this = First(fact["event_index"], gateway_id, *(fact[name] for name in First._fields[2:]))
        first, before = self._found.get(key, (this, 0))
        self._found[key] = (min(first, this), before + events)

    def into(self, rows: Rows, topic: str, partition: int) -> None:
        """Adds the rows of `exceptions`, and forgets them."""
        for (offset, what), (first, events) in sorted(self._found.items(), key=lambda item: (item[0][0], item[1][0])):
            rows.add("exceptions", _row(topic, partition, offset, what, first, events))
        self._found = {}


def _what(fact: Mapping[str, Any], view: View) -> What:
    note = fact["attribution_note"]
    kind = note.split("_", 1)[0]
    name = fact[_NAMES[kind]]
    identity = view.identity(kind, name, fact["request_started_at"], fact["tenant_id"])
    if identity is None:
        raise AssertionError(f"request {fact['request_id']} is noted {note} but view {view.offset} has no such {kind}")
    event = "POLICY" if "sender_gateway_id" in fact else "RESPONSE"
    return What(event, note, kind, name, fact["tenant_id"], fact["app_id"], identity.tenant_id, identity.owner)


def _row(topic: str, partition: int, offset: int, what: What, first: First, events: int) -> Row:
    detail = {**what._asdict(), "events": events, "request_started_at_us": first.request_started_at}
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "event_index": first.event_index,
        "kind": IDENTITY,
        "gateway_id": first.gateway_id,
        "request_id": first.request_id,
        "attempt": first.attempt,
        "recorded_at": first.recorded_at,
        "detail": json.dumps(detail, sort_keys=True),
        "raw": b"",
        "first_offset": None,
        "first_raw": b"",
    }
