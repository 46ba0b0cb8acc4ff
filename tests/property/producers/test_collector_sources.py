"""Whatever a product writes: each item says valid events, or is refused by name, and says the same again."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.collector.sources import SOURCES, Naming
from gatemeter.producers.foreign import BadItem
from gatemeter.producers.validation import InvalidEvent, spool_form
from support.collected import payload

ITEMS: dict[str, Any] = {
    "kong": payload("kong_documented"),
    "apisix": payload("apisix_default"),
    "opa": payload("opa_documented")[0],
    "events": {"kind": "RESPONSE", "request_id": "r", "request_started_at": 1, "occurred_at": 2, "status": "ok"},
}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["0", "-", "200", "502, 200", "2026-08-19T04:20:01Z", "\ud800", "x" * 5000, "Hit", "stream"]),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in an item."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in entries for found in paths(inner, (*path, key)))]


@st.composite
def changed_items(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    source = draw(st.sampled_from(sorted(ITEMS)))
    item = copy.deepcopy(ITEMS[source])
    places = [path for path in paths(item) if path]
    for path in draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)):
        place: Any = item
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change has taken the place away
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = draw(VALUES)
    return source, item


@given(changed_items(), st.sampled_from([Naming("gw"), Naming("gw", {"tenant_id": "route.name", "end_user": "input"})]))
def test_an_item_says_valid_events_or_is_refused(changed: tuple[str, dict[str, Any]], naming: Naming) -> None:
    source, item = changed
    reader = SOURCES[source].reader(naming, lambda field, what: None)
    try:
        events = list(reader.events(item))
        bodies = [spool_form(event) for event in events]
    except (BadItem, InvalidEvent):
        return
    assert bodies == [spool_form(event) for event in reader.events(item)]
    assert len({event.request_started_at for event in events}) <= 1
    requests = [(event.request_id, event.attempt) for event in events if type(event).__name__ == "RequestEvent"]
    assert len(set(requests)) == len(requests)
