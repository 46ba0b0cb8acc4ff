"""Registered identities in the fold: who pays by them, and an exception where one should not be in use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.logs import (
    START_US,
    Gateway,
    Log,
    build,
    collapse,
    new_fold,
    policy,
    request,
    response,
    run,
    standard_view,
)

DAY_US = 86_400_000_000
VIEW = build(
    standard_view()
    .identity("credential", "key-a", app_id="chat", owner="ml-team")
    .identity("credential", "key-old", owner="ml-team", offboarded_at_us=START_US - DAY_US)
    .identity("workload", "w-g", "globex", owner="globex-ops")
)
NOBODY = {"tenant_id": None, "app_id": None, "workload_id": None}


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def columnar(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def folded(columnar: bool, *batches: list[dict[str, Any]], at_us: int = 1_000_000) -> dict[str, Any]:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    for batch in batches:
        gateway.send(batch, at_us)
        at_us += 11 * 60_000_000
    gateway.send([], at_us)
    return collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records))


def fact_of(tables: dict[str, Any], request_id: str) -> dict[str, Any]:
    return next(row for row in tables["usage_facts"].values() if row["request_id"] == request_id)


def test_an_event_without_tenant_is_charged_to_the_tenant_of_its_verified_credential(columnar: bool) -> None:
    tables = folded(columnar, [response("r1", 0, **NOBODY, credential_fingerprint="key-a")])
    fact = fact_of(tables, "r1")
    assert (fact["tenant_id"], fact["app_id"], fact["cost_centre"]) == ("acme", "chat", "cc-1")
    assert (fact["attribution"], fact["attribution_path"], fact["attribution_note"]) == ("attributed", "credential", "")
    assert fact["charge"] > fact["provider_cost"] > 0
    (window,) = tables["usage_windows"].values()
    assert (window["tenant_id"], window["app_id"]) == ("acme", "chat")
    assert not tables["exceptions"]


def test_a_claimed_credential_names_nobody(columnar: bool) -> None:
    claimed = {**NOBODY, "credential_fingerprint": "key-a", "identity_source": "header_claim"}
    fact = fact_of(folded(columnar, [response("r1", 0, **claimed)]), "r1")
    assert (fact["tenant_id"], fact["attribution_note"]) == ("", "identity_not_verified")
    assert (fact["charge"], fact["absorbed_to"]) == (0, "unallocated")


def test_a_workload_under_another_tenant_is_charged_to_neither_and_excepted(columnar: bool) -> None:
    tables = folded(columnar, [response("r1", 5, workload_id="w-g"), policy("r1", 5, "d1", workload_id="w-g")])
    fact = fact_of(tables, "r1")
    assert (fact["attribution"], fact["charge"], fact["tenant_id"]) == ("unattributed", 0, "acme")
    assert fact["attribution_note"] == "workload_of_another_tenant"
    usage, decision = sorted(tables["exceptions"].values(), key=lambda row: row["event_index"])
    assert (usage["kind"], decision["kind"], usage["request_id"]) == ("identity", "identity", "r1")
    assert json.loads(usage["detail"]) == {
        "event": "RESPONSE",
        "note": "workload_of_another_tenant",
        "kind": "workload",
        "identity_id": "w-g",
        "tenant_id": "acme",
        "app_id": "chat",
        "registered_tenant": "globex",
        "owner": "globex-ops",
        "events": 1,
        "request_started_at_us": START_US + 5,
    }
    assert json.loads(decision["detail"])["event"] == "POLICY"


def test_an_offboarded_credential_is_charged_and_excepted_once_a_record(columnar: bool) -> None:
    old = {"credential_fingerprint": "key-old"}
    events = [response("r1", 0, **old), response("r2", 0), response("r3", 0, **old)]
    tables = folded(columnar, events, [response("r4", 0, **old), response("r4", 0, usage_revision=1, **old)])
    fact = fact_of(tables, "r3")
    assert (fact["attribution"], fact["attribution_note"]) == ("attributed", "credential_offboarded")
    found = [(row["request_id"], json.loads(row["detail"])["events"]) for row in tables["exceptions"].values()]
    assert sorted(found) == [("r1", 2), ("r4", 2)]


def test_a_request_without_an_answer_is_attributed_by_its_credential_too(columnar: bool) -> None:
    tables = folded(columnar, [request("r1", 0, **NOBODY, credential_fingerprint="key-a")])
    fact = fact_of(tables, "r1")
    assert (fact["status"], fact["tenant_id"], fact["attribution_path"]) == ("orphan", "acme", "credential")
