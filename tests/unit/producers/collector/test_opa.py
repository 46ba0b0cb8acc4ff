"""What decisions of Open Policy Agent become."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.producers.collector.sources import Naming, minted_request_id
from gatemeter.producers.foreign import BadItem
from support.collected import Said, changed, payload

[ENTRY] = payload("opa_documented")


def opa(naming: Naming | None = None, **changes: Any) -> Said:
    return Said("opa", changed(ENTRY, **changes), naming)


def test_the_documented_decision_is_one_policy_event() -> None:
    said = opa()
    [decision] = said.policies
    assert said.events == [decision]
    assert (decision.decision_id, decision.request_id) == ("4ca636c1-55e4-417a-b1d8-4aceb67960d1", "11aa")
    assert (decision.policy_id, decision.outcome) == ("http/example/authz/allow", "allow")
    assert decision.policy_version == "authz@W3sibCI6InN5cy9jYXRhbG9nIiwicyI6NDA3MX1d"
    assert (decision.latency_us, decision.occurred_at) == (2500, 1787113201000000)
    assert (decision.tenant_id, decision.identity_source, decision.subject_gateway_id) == ("acme", "header_claim", None)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"result": True}, "allow"),
        ({"result": False}, "deny"),
        ({"result": "false"}, "deny"),
        ({"result": {"allowed": False, "http_status": 403}}, "deny"),
        ({"result": {"allow": True, "reason": "planted answer"}}, "allow"),
        ({"result": None}, "error"),
        ({"result": {"violations": []}}, "error"),
        ({"result": True, "error": {"code": "internal_error"}}, "error"),
    ],
)
def test_the_result_is_the_outcome_and_an_undefined_one_is_no_decision(changes: dict[str, Any], outcome: str) -> None:
    assert opa(**changes).policies[0].outcome == outcome


def test_a_decision_joins_its_request_by_our_id_or_by_that_of_the_product() -> None:
    ours = opa(Naming("opa", subject_gateway_id="asgi-eu")).policies[0]
    assert (ours.request_id, ours.subject_gateway_id) == ("11aa", "asgi-eu")
    native = opa(Naming("opa", subject_gateway_id="kong-eu", subject_ids="native")).policies[0]
    assert native.request_id == minted_request_id("kong-eu", "11aa")
    elsewhere = Naming("opa", {"request_id": "input.attributes.request.http.id"})
    attributes = {"request": {"http": {"id": "22bb"}}}
    assert opa(elsewhere, input={"attributes": attributes}).policies[0].request_id == "22bb"


def test_a_decision_that_names_no_request_is_refused_by_name() -> None:
    with pytest.raises(BadItem, match=r"^input.request_id: must be the id of the request"):
        opa(input__request_id=None)
    with pytest.raises(BadItem, match=r"^timestamp: must be a time in ISO 8601, got nothing$"):
        opa(timestamp=None)
    with pytest.raises(BadItem, match=r"^path: must be text, got nothing$"):
        opa(path=None)


def test_what_the_gateway_verified_before_it_asked_is_no_claim() -> None:
    assert opa(Naming("opa", verified=("tenant_id",))).policies[0].identity_source == "verified_credential"
    assert opa(Naming("opa", verified=("app_id",))).policies[0].identity_source == "header_claim"
