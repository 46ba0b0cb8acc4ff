"""How an explanation looks: every part of it in a narrow terminal, and all of it as JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from gatemeter.cli.explain_json import explanation_json
from gatemeter.cli.explain_tables import explanation_tables, list_table
from gatemeter.processors.corrections.rows import AMOUNTS
from gatemeter.processors.explaining.explanation import Explanation, explain
from gatemeter.processors.explaining.terms import Terms
from gatemeter.schemas.tables import TABLES
from support.explained import Explained
from support.facts import blank_row
from support.logs import START_US, policy, request, response

HOUR = START_US


def printed(explanation: Explanation, width: int = 100) -> str:
    """What people see, blanks made one."""
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for part in explanation_tables(explanation):
        console.print(part)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return " ".join(out.getvalue().split())


def sealed(world: Explained) -> Explanation:
    """One attempt, sealed in seal 4, with a correction of a later hour, an exception, a conflict, and relatives."""
    rows = world.rows()
    rows.counted = [row | {"posting_period": "2026-05"} for row in rows.lines]
    seal = {"hour_us": HOUR, "number": 4, "seal_id": "abcd", "kid": "sealer-1", "sealed_us": HOUR + 3_600_000_000}
    rows.seals = {HOUR: seal}
    rows.ledger = [
        {name: line.get(name, blank_row("ledger")[name]) for name, _ in TABLES["ledger"]}
        | {"posted_hour": HOUR, "cause": "usage"}
        for line in rows.counted
    ]
    correction = {"run_id": "run-9", "cause": "manual", "reason": "credit", "target": "usage", "request_id": "r"}
    correction |= {"attempt": 1, "response_hash": "other", **dict.fromkeys(AMOUNTS, 0)}
    rows.corrections = [correction | {"committed_hour": HOUR + 7_200_000_000, "kid": "ops"}]
    rows.exceptions = [
        {"kind": "conflict", "topic": "events", "partition": 0, "offset": 3, "attempt": 1, "detail": "{}"},
    ]
    rows.conflicts = [{"attempt": 1}]
    rows.evaluates = [{"decision_id": "d7", "policy_id": "pii", "request_id": "judged", "gateway_id": "gw-a"}]
    rows.siblings = ["again"]
    group = {"idempotency_key": "k", "request_ids": ["again", "r"], "requests": 2, "attempts": 3, "currencies": ["USD"]}
    rows.groups = [group | {"answered_by_request": "r", "charge": 3 * 10**12, "repeated_charge": 10**12}]
    return explain(rows, Terms(world.log))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_part_is_there_at_any_width(width: int) -> None:
    world = Explained()
    world.response(response("r", 0, idempotency_key="k", ttft_us=1_500))
    shown = printed(sealed(world), width)
    for text in (
        "Request r of gateway gw-a",
        "idempotency_key k",
        "RESPONSE 1",
        "grade A",
        "Attempt 1: answered, openai gpt, ok, HTTP 200, 900 ms (fast), first token after 1.5 ms",
        "prices of contract of 2026-01; published by ops at offset 9",
        "organisation Acme Group → unit insurance → cost centre cc-1",
        "seal 4 abcd of 2026-05-28T21:00:00Z",
        "correction run-9 (manual) of usage 1, committed in 2026-05-28T22:00:00Z, which is open: it does not",
        "2026-05-28T20:00:00Z : 0",
        "exception conflict at events[0]@3, attempt 1: {}",
        "attempt 1 contradicts itself (attempt_conflicts)",
        "evaluates decision d7 (pii) of request judged: its cost is here",
        "same workload and idempotency key: request again",
        "retry group k: 2 requests, 3 attempts, charge 3 USD, of which 1 for what was tried again; r answered last",
        "= charge 0.000455400008",
        "check: 0.000396 + 0.000000000007 + 0 + 0.000059400001 - 0 = 0.000455400008 USD: adds up",
    ):
        assert text in shown, (text, shown)


def test_names_with_brackets_are_printed_as_they_are() -> None:
    world = Explained()
    world.response(response("r", 0, model="[bold]gpt[/bold]", tenant_id="[/red]", workload_id="a[b]c"))
    world.policy(policy("r", 0, "[d]", policy_id="flat"))
    shown = printed(world.explain())
    for text in ("openai [bold]gpt[/bold]", "tenant [/red]", "workload a[b]c", "Decision [d]: policy flat version 1"):
        assert text in shown
    out = io.StringIO()
    Console(file=out, width=160).print(list_table([world.explain()]))
    assert "[bold]gpt[/bold]" in out.getvalue()


def test_what_is_not_known_is_never_shown_as_zero() -> None:
    world = Explained()
    world.response(response("r", 0, service_tier="prioritty"))
    shown = printed(world.explain())
    assert "input_text_uncached 100 million none unknown none unknown" in shown
    assert "row: amounts unknown" in shown
    assert "without an amount 1 of 1" in shown
    assert "check: nothing has an amount: adds up" in shown


def test_absorbed_superseded_and_changed_rows_are_told() -> None:
    world = Explained()
    fields = {"tenant_id": "globex", "delivered": False}
    world.response(response("r", 0, status="error", usage_source="estimated", **fields))
    world.response(response("r", 0, status="error", usage_revision=1, **fields))
    row = world.response(response("r", 0, attempt=2, tenant_id="globex"))
    shown = printed(world.explain())
    assert "RESPONSE 1 2026-05-28T20:00:00Z" in shown and "superseded" in shown and "revision 1" in shown
    assert "counts: tokens 0.000396 + model 0.000000000007 + policy 0 + mark-up 0.000013199868" in shown
    row["charge"] += 1
    assert "DOES NOT ADD UP: attempt 2: charge is" in printed(world.explain())


def test_json_is_plain_and_complete() -> None:
    world = Explained()
    world.response(response("r", 0, gateway_cache="exact"))
    world.policy(policy("r", 0, "d"))
    data = json.loads(json.dumps(explanation_json(sealed(world))))
    assert data["request_started_at"] == "2026-05-28T20:00:00Z"
    assert data["seals"] == [
        {
            "posted_hour": "2026-05-28T20:00:00Z",
            "seal": {
                "number": 4,
                "seal_id": "abcd",
                "kid": "sealer-1",
                "sealed_at": "2026-05-28T21:00:00Z",
            },
        }
    ]
    assert data["attempts"][0]["calculation"]["savings"]["list_cost_avoided"] == "0.000450000011"
    assert data["attempts"][0]["counted"]["posting_period"] == "2026-05"
    assert data["decisions"][0]["calculation"]["price_source"]["per_unit"] == "0.000000007000"
    assert data["corrections"][0]["sealed"] is False
    charges = {entry["kind"]: entry["charge"] for entry in data["ledger"]}
    assert charges == {"usage": "0.000000000000", "decision": "0.000003474150"}
    assert data["conflicting_attempts"] == [1]
    assert (data["evaluates"][0]["decision_id"], data["same_idempotency_key"]) == ("d7", ["again"])
    assert data["retry_groups"][0]["repeated_charge"] == "1.000000000000"


def test_an_orphan_in_json_has_nulls() -> None:
    world = Explained()
    world.unanswered(request("r", 0))
    (attempt,) = explanation_json(world.explain())["attempts"]
    assert attempt["counted"]["charge"] is None
    assert set(attempt["quantities"].values()) == {None}
