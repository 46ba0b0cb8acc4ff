"""Explanations of what is in the tables: open and sealed, revised, repriced, corrected by hand; it always adds up."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.adjust import Manual, find_row, replacing_row
from gatemeter.processors.corrections.reprice import Repricing, Wanted, published_cards
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.explaining.explanation import Explanation, explain
from gatemeter.processors.explaining.terms import Terms
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.reports.requests import Search, find_requests, gateways_of, read_requests
from support.explained import card, gateways, metadata_log
from support.folded import HOUR_US, FoldedLog
from support.logs import START_US, policy, request, response
from support.mutations import mutate

MINUTE_US = 60_000_000


class Books(FoldedLog):
    """A folded log whose metadata is a real, signed one; `card-2` doubles nothing, it lies below `card-1`."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.metadata_log = metadata_log(card("card-2", currency="EUR"), card(), *gateways())
        super().__init__(settings, self.metadata_log.view(self.metadata_log.loaded_to))
        self.client = client

    def explain(self, *request_ids: str) -> list[Explanation]:
        terms = Terms(self.metadata_log)
        rows = read_requests(self.client, [("gw-a", request_id) for request_id in request_ids])
        return [explain(each, terms) for each in rows]

    def sealed_through(self, hour: int) -> None:
        self.pass_time((hour + 1) * HOUR_US + 31 * MINUTE_US)
        self.flush()
        self.seal(self.client)

    def send(self, at_us: int, *events: dict[str, Any]) -> None:
        self.gateway.send(list(events), at_us)
        self.flush()


@pytest.fixture
def books(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Books:
    return Books(clickhouse_database, clickhouse_client)


def mixed(books: Books) -> tuple[str, ...]:
    """Requests of every kind, in one batch."""
    claims = {"tenant_id": "globex", "identity_source": "header_claim"}
    books.send(
        0,
        request("retried", 0, **claims),
        response("retried", 1, started_us=0, status="error", delivered=False, **claims),
        response("retried", 2, started_us=0, attempt=2, **claims),
        policy("retried", 1, "d1", **claims),
        request("orphan", 0),
        request("denied", 0),
        policy("denied", 0, "d2", policy_id="flat", outcome="deny"),
        response("hit", 0, gateway_cache="exact"),
        response("guard", 0, purpose="policy_evaluation"),
        policy("judged", 0, "d3", evaluator_request_id="guard"),
        response("judged", 0),
        response("unknown", 0, model="gpt-9"),
        response("nobody", 0, tenant_id="nobody"),
        response("silent", 0, tokens=None),
        response("long", 0, tokens=(200_001, 3), provider="google", model="long"),
    )
    books.pass_time(11 * MINUTE_US)  # the orphan timer
    return ("retried", "orphan", "denied", "hit", "guard", "judged", "unknown", "nobody", "silent", "long")


def test_requests_of_every_kind_add_up_while_open_and_when_sealed(books: Books) -> None:
    names = mixed(books)
    books.pass_time(40 * MINUTE_US)
    books.flush()
    before = books.explain(*names)
    assert [each.problems for each in before] == [()] * len(names)
    assert all(not each.rows.seals and not each.rows.ledger for each in before)
    books.sealed_through(1)
    after = books.explain(*names)
    assert [each.problems for each in after] == [()] * len(names)
    assert [each.totals for each in after] == [each.totals for each in before]
    for each in after:
        assert len(each.rows.ledger) == len(each.attempts) + len(each.decisions)
        hours = {event.posted_hour_us for event in each.events}
        assert hours <= set(each.rows.seals)
        assert {item.standing.posting_period for item in (*each.attempts, *each.decisions)} == {"2026-05"}


def test_each_kind_is_what_it_was_said_to_be(books: Books) -> None:
    names = mixed(books)
    books.pass_time(40 * MINUTE_US)
    books.flush()
    found = dict(zip(names, books.explain(*names), strict=True))
    status = {
        name: [item.standing.price_status for item in each.attempts]
        for name, each in found.items()
        if name in ("orphan", "denied", "hit", "unknown", "silent")
    }
    assert status == {
        "orphan": ["no_usage"],
        "denied": ["free"],
        "hit": ["free"],
        "unknown": ["unpriced"],
        "silent": ["no_usage"],
    }
    retried = found["retried"]
    assert [item.standing.role for item in retried.attempts] == ["retried", "answered"]
    assert retried.attempts[0].standing.counted.absorbed_to == "retries"
    assert [event.kind for event in retried.events] == ["RESPONSE", "POLICY", "RESPONSE"]
    assert [row["decision_id"] for row in found["guard"].rows.evaluates] == ["d3"]
    (nobody,) = found["nobody"].attempts
    assert (nobody.standing.counted.absorbed_to, nobody.standing.counted.money["charge"]) == ("unallocated", 0)


def test_a_revision_after_the_seal_leaves_its_trace_in_the_ledger(books: Books) -> None:
    books.send(0, response("r", 0, usage_source="estimated"))
    books.sealed_through(0)
    books.send(2 * HOUR_US, response("r", 10, started_us=0, tokens=(7, 7), usage_revision=1))
    (live,) = books.explain("r")
    assert live.problems == ()
    assert [event.counts for event in live.events] == [False, True]
    assert live.attempts[0].standing.posting_period == "", "its request has a row in an open hour"
    books.sealed_through(3)
    (sealed,) = books.explain("r")
    assert sealed.problems == ()
    assert [(row["cause"], bool(row["reverses"])) for row in sealed.rows.ledger] == [
        ("usage", False),
        ("revision", True),
        ("revision", False),
    ]
    assert sealed.totals == live.totals


def test_corrections_of_attempts_and_decisions_are_explained(books: Books) -> None:
    books.send(0, response("r", 0), policy("r", 0, "d1"))
    books.sealed_through(0)
    wanted = Wanted(UsageHours(START_US, START_US + HOUR_US))
    cards = published_cards(books.metadata_log, "card-2")
    priced = stage(books.sink, "run-1", Repricing(books.client, books.metadata_log, cards, wanted).rows("run-1", "EUR"))
    row = find_row(books.client, "decision", "d1", 0, "")
    waived = Manual("waived", {"policy_cost": 0, "markup": 0}, {})
    by_hand = stage(books.sink, "run-2", [replacing_row("run-2", row, waived)])
    at_us = HOUR_US + 40 * MINUTE_US
    books.commit(priced, at_us)
    books.commit(by_hand, at_us, "manual")
    books.flush()
    (waiting,) = books.explain("r")
    assert waiting.problems == ()
    assert waiting.attempts[0].standing.correction is None, "a correction counts from the seal of its hour on"
    assert [row["run_id"] for row in waiting.rows.corrections] == ["run-1", "run-2"]
    books.sealed_through(2)
    (counted,) = books.explain("r")
    assert counted.problems == ()
    (attempt,), (decision,) = counted.attempts, counted.decisions
    assert attempt.standing.correction is not None and decision.standing.correction is not None
    assert [line.name for line in attempt.standing.correction.lines] == [
        "input_text_uncached",
        "output_text_visible",
        "request",
    ]
    assert (decision.standing.correction.reason, decision.standing.counted.money["charge"]) == ("waived", 0)
    assert {total.currency for total in counted.totals} == {"EUR", "USD"}
    assert ("reprice", True) in {(row["cause"], bool(row["reverses"])) for row in counted.rows.ledger}


def test_exceptions_and_conflicts_name_their_request(books: Books) -> None:
    books.send(0, response("r", 0), response("r", 0, finish_reason="other"))
    (explanation,) = books.explain("r")
    (exception,) = explanation.rows.exceptions
    assert (exception["kind"], exception["attempt"]) == ("conflict", 1)
    assert "finish_reason" in exception["detail"]


def test_a_request_of_decisions_alone_is_explained(books: Books) -> None:
    books.send(0, policy("only", 0, "d1"))
    (explanation,) = books.explain("only")
    assert (explanation.problems, explanation.attempts, len(explanation.decisions)) == ((), (), 1)


def test_lists_are_by_any_of_four_names_and_a_time(books: Books) -> None:
    key = {"idempotency_key": "k", "trace_id": "t", "credential_fingerprint": "f"}
    books.send(0, response("a", 1, **key), response("b", 0, **key), response("c", 2, workload_id="w-2", **key))
    books.send(5, policy("d", 3, "d1", credential_fingerprint="f"))

    def found(limit: int = 9, **search: Any) -> list[str]:
        return [request_id for _, request_id in find_requests(books.client, Search(**search), limit)]

    assert found(trace="t") == ["b", "a", "c"]
    assert found(credential="f") == ["b", "a", "c", "d"]
    assert found(workload="w-1", credential="f") == ["b", "a", "d"]
    assert found(idempotency_key="k", workload="w-2") == ["c"]
    assert found(from_us=START_US + 1, to_us=START_US + 3) == ["a", "c"]
    assert found(limit=2, trace="t") == ["b", "a"]
    assert found(trace="none") == []
    assert gateways_of(books.client, "d") == ["gw-a"]
    (first,) = books.explain("a")
    assert first.rows.siblings == ["b"], "the same workload and idempotency key"
    (group,) = first.rows.groups
    assert (group["request_ids"], group["requests"], group["idempotency_key"]) == (["a", "b"], 2, "k")


def test_a_sealed_fact_that_was_changed_does_not_add_up(books: Books) -> None:
    books.send(0, response("r", 0))
    books.sealed_through(0)
    changed = "token_cost = token_cost + 1, provider_cost = provider_cost + 1, charge = charge + 1"
    mutate(books.client, "usage_facts", f"UPDATE {changed} WHERE 1")
    (explanation,) = books.explain("r")
    assert "attempt 1: token_cost is 1.000396000000, the lines give 0.000396000000" in explanation.problems
    assert "attempt 1: the charge line says charge 0.000455400008, it must be 1.000455400008" in explanation.problems
