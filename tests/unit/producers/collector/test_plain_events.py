"""Events as JSON objects: the emitter's own fields and ranges."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.producers.collector.sources import Naming
from gatemeter.producers.events import EVENT_TYPES
from gatemeter.producers.foreign import BadItem
from support.collected import Said

OK: dict[str, Any] = {
    "kind": "RESPONSE",
    "request_id": "r-1",
    "request_started_at": 1787113201000000,
    "occurred_at": 1787113202000000,
    "tenant_id": "acme",
    "status": "ok",
    "usage_source": "reported",
    "input_text_uncached": 5,
}


def test_an_object_is_the_event_of_its_kind() -> None:
    said = Said("events", OK).responses[0]
    expected = EVENT_TYPES["RESPONSE"](**{name: value for name, value in OK.items() if name != "kind"})
    assert said == expected


def test_each_kind_has_its_fields() -> None:
    times = {"request_id": "r", "request_started_at": 1, "occurred_at": 2}
    assert Said("events", {"kind": "REQUEST", **times, "attempt": 2}).requests[0].attempt == 2
    decision = {"decision_id": "d", "policy_id": "p", "outcome": "flag"}
    assert Said("events", {"kind": "POLICY", **times, **decision}).policies[0].outcome == "flag"


def test_constants_of_the_sender_go_first() -> None:
    said = Said("events", OK, Naming("gw", constants={"tenant_id": "globex", "region": "eu"}))
    assert (said.responses[0].tenant_id, said.responses[0].region) == ("globex", "eu")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"kind": "OTHER"}, "kind: must be one of REQUEST, RESPONSE, POLICY, got 'OTHER'"),
        ({"kind": None}, "kind: must be one of REQUEST, RESPONSE, POLICY, got nothing"),
        ({"occurred_at": None}, "RESPONSE.occurred_at: must be an integer of 0 to 253402300799999999, got nothing"),
        ({"status": "fine"}, "RESPONSE.status: must be one of cancelled, error, in_progress, ok, timeout, got text"),
        (
            {"input_text_uncached": -1},
            "RESPONSE.input_text_uncached: must be an integer of 0 to 50000000 or None, got -1",
        ),
        ({"input_tokens": 5}, "RESPONSE: has no field 'input_tokens'"),
        ({"tenant_id": 7}, "RESPONSE.tenant_id: must be text of 0 to 256 characters or None, got 7"),
    ],
)
def test_a_bad_field_is_named_with_what_it_accepts(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(BadItem) as raised:
        Said("events", {**OK, **changes})
    assert str(raised.value) == error


@pytest.mark.parametrize("missing", ["request_id", "request_started_at", "occurred_at", "status"])
def test_ids_and_times_must_be_the_senders_own(missing: str) -> None:
    with pytest.raises(BadItem, match=rf"^RESPONSE.{missing}: must be "):
        Said("events", {name: value for name, value in OK.items() if name != missing})
