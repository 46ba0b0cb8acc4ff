"""Policy overhead, savings of caches and retry groups: parts of the cost by themselves, each line once."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.reports.statement import statement
from support.facts import NOON_US, decision, exact, fact
from support.sealing import Hours, replacement

_IDENTITY = """
    SELECT count() AS lines,
        countIf(charge - provider_cost != markup + internal_policy_cost + cache_price - absorbed) AS wrong,
        countIf(charge != token_cost + model_cost + policy_cost + markup + cache_price - absorbed) AS wrong_sums
    FROM charge_lines
"""


@pytest.fixture
def hours(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Hours:
    return Hours(clickhouse_database, clickhouse_client)


def hit(request_id: str, **changes: Any) -> dict[str, Any]:
    """An answer out of the cache that avoided 30 and 3 mark-up, and costs a third of that."""
    nothing = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "markup"), 0)
    echo = {"avoided_input_tokens": 100, "avoided_output_tokens": 20, "avoided_usage": '{"input_text_uncached":100}'}
    price = {"cache_price": 11, "charge": 11, "avoided_provider_cost": 30, "avoided_charge": 33}
    usage = {"input_text_uncached": None, "output_text_visible": None, "gateway_cache": "exact"}
    return fact(request_id, **(nothing | echo | price | usage | changes))


def free_hit(request_id: str, **changes: Any) -> dict[str, Any]:
    return hit(request_id, price_status="free", cache_price=0, charge=0, **changes)


def bedrock(decision_id: str, request_id: str, **changes: Any) -> dict[str, Any]:
    """A decision that a provider bills."""
    billed = {"billed_by": "bedrock", "list_cost": 5, "provider_cost": 5}
    return decision(decision_id, request_id, **(billed | changes))


def test_the_identity_holds_in_every_line_before_and_after_the_seal(hours: Hours) -> None:
    hours.usage(fact("a", 1, status="error", retry_rule="final_only"), fact("a", 2, retry_rule="final_only"))
    hours.usage(hit("h"), free_hit("f"), fact("u", absorbed=33, absorbed_to="unallocated", charge=0))
    hours.decisions(decision("d1", "a"), bedrock("d2", "a"), decision("d3", "a", absorbed=6, charge=0))
    assert hours.rows(_IDENTITY) == [{"lines": 8, "wrong": 0, "wrong_sums": 0}]
    before = hours.rows("SELECT * FROM charge_lines ORDER BY kind, request_id, decision_id, attempt")
    totals = (
        "SELECT provider, charge, internal_policy_cost, provider_cost FROM chargeback_daily ORDER BY provider, purpose"
    )
    daily = hours.rows(totals)
    hours.over(0)
    hours.seal()
    assert hours.rows(_IDENTITY) == [{"lines": 8, "wrong": 0, "wrong_sums": 0}]
    after = hours.rows("SELECT * FROM charge_lines ORDER BY kind, request_id, decision_id, attempt")
    for row in (*before, *after):
        row.update(seal_id="", posting_period="")
    assert after == before, "what a seal holds is what the facts said"
    assert hours.rows(totals) == daily


def test_a_decision_is_internal_or_on_the_invoice_of_its_provider(hours: Hours) -> None:
    hours.decisions(decision("d1", "a"), bedrock("d2", "a"))
    columns = "provider, provider_cost, policy_cost, internal_policy_cost, charge"
    assert [tuple(row.values()) for row in hours.rows(f"SELECT {columns} FROM chargeback_daily ORDER BY provider")] == [
        ("", exact(0), exact(5), exact(5), exact(6)),
        ("bedrock", exact(5), exact(5), exact(0), exact(6)),
    ]


def test_policy_overhead_is_its_own_line_with_its_latency(hours: Hours) -> None:
    hours.usage(fact("a", latency_us=900_000))
    hours.decisions(
        decision("d1", "a", latency_us=700, units=3), bedrock("d2", "a", latency_us=None, scanned_tokens=50)
    )
    rows = hours.rows("SELECT * FROM policy_overhead ORDER BY decision_id")
    names = ("decision_id", "request_id", "latency_us", "units", "scanned_tokens", "billed_by", "policy_cost", "charge")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("d1", "a", 700, 3, None, "internal", exact(5), exact(6)),
        ("d2", "a", None, None, 50, "bedrock", exact(5), exact(6)),
    ]
    (total,) = hours.rows("SELECT sum(charge) AS charge FROM charge_lines")
    (usage,) = hours.rows("SELECT sum(charge) AS charge FROM charge_lines WHERE kind = 'usage'")
    assert total["charge"] == usage["charge"] + sum(row["charge"] for row in rows)


@pytest.mark.parametrize("first", ["decision", "evaluator"])
def test_a_guardrail_that_is_a_metered_call_is_priced_once_whichever_comes_first(hours: Hours, first: str) -> None:
    guard = {"purpose": "policy_evaluation", "token_cost": 0, "policy_cost": 30, "latency_us": 4_000}
    free = dict.fromkeys(("list_cost", "provider_cost", "policy_cost", "markup", "charge"), 0)
    judged = {"evaluator_request_id": "guard", "price_status": "free", "billed_by": "", **free}
    posted = {"decision": (0, 1), "evaluator": (1, 0)}[first]
    hours.usage(fact("a"), fact("guard", posted=posted[1], used=0, gateway_id="gw-2", **guard))
    hours.decisions(decision("d", "a", posted=posted[0], used=0, **judged))
    columns = "evaluator, charge, evaluator_charge, evaluator_policy_cost, evaluator_latency_us"
    assert hours.rows(f"SELECT {columns} FROM policy_overhead") == [
        {
            "evaluator": "metered",
            "charge": exact(0),
            "evaluator_charge": exact(33),
            "evaluator_policy_cost": exact(30),
            "evaluator_latency_us": 4_000,
        }
    ]
    for hour in (0, 1):
        hours.over(hour)
        hours.seal()
        (total,) = hours.rows("SELECT sum(policy_cost) AS policy, sum(charge) AS charge FROM charge_lines")
        assert total == {"policy": exact(30), "charge": exact(66)}


def test_an_evaluator_whose_fact_never_comes_is_marked(hours: Hours) -> None:
    free = dict.fromkeys(("policy_cost", "markup", "charge"), 0)
    hours.usage(fact("orphan", status="orphan", has_response=False, response_hash="", version=1))
    hours.decisions(
        decision("d1", "a", evaluator_request_id="lost", price_status="free", **free),
        decision("d2", "a", evaluator_request_id="orphan", price_status="free", **free),
        decision("d3", "a"),
    )
    rows = hours.rows("SELECT evaluator, evaluator_charge FROM policy_overhead ORDER BY decision_id")
    assert [row["evaluator"] for row in rows] == ["missing", "missing", ""]


def test_a_late_decision_joins_its_request_after_the_hour_was_sealed(hours: Hours) -> None:
    hours.usage(fact("a"))
    hours.over(0)
    hours.seal()
    sealed = hours.ledger("entry, kind, request_id, charge")
    facts = hours.rows("SELECT * FROM usage_facts")
    hours.decisions(decision("late", "a", posted=1, used=0, outcome="flag"))
    history = "SELECT attempts, policies, charge, policy_cost FROM request_history WHERE request_id = 'a'"
    (row,) = hours.rows(history)
    assert (row["attempts"], row["charge"], row["policy_cost"]) == (1, exact(39), exact(5))
    assert [each["outcome"] for each in row["policies"]] == ["flag"]
    hours.over(1)
    hours.seal()
    assert hours.rows(history) == [row]
    assert hours.rows("SELECT * FROM usage_facts") == facts
    entries = hours.ledger("entry, kind, request_id, charge")
    assert entries == [*sealed, (0, "decision", "a", exact(6))], "the attempt is posted once"


def test_savings_of_caches_are_told_and_are_in_no_total(hours: Hours) -> None:
    lost = {"avoided_provider_cost": None, "avoided_charge": None}
    hours.usage(fact("a"), hit("h"), free_hit("f"), free_hit("l", **lost))
    (row,) = hours.rows("SELECT * FROM cache_savings")
    names = ("hits", "hits_without_price", "avoided_input_tokens", "platform_saving", "tenant_saving", "cache_price")
    assert tuple(row[name] for name in names) == (3, 1, 300, exact(60), exact(22 + 33), exact(11))
    (line,) = statement(hours.client)
    assert (line.counts["cache_hits"], line.counts["hits_without_price"]) == (3, 1)
    assert (line.pico["platform_saving"], line.pico["tenant_saving"], line.pico["cache_price"]) == (60, 55, 11)
    assert line.pico["total"] == 33 + 11
    hours.over(0)
    hours.seal()
    assert hours.rows("SELECT * FROM cache_savings") == [row]


def test_a_hit_priced_again_posts_a_delta_with_its_new_saving(hours: Hours) -> None:
    hours.usage(hit("h"))
    hours.over(0)
    hours.seal()
    nothing = {"list_cost": 0, "provider_cost": 0, "token_cost": 0, "cache_price": 22, "charge": 22}
    hours.correct(1, replacement("h", **nothing, avoided_provider_cost=60, avoided_charge=66))
    hours.over(1)
    hours.seal()
    assert hours.ledger("cause, cache_price, charge, avoided_charge, avoided_input_tokens") == [
        ("usage", exact(11), exact(11), exact(33), 100),
        ("reprice", exact(-11), exact(-11), exact(-33), -100),
        ("reprice", exact(22), exact(22), exact(66), 100),
    ]
    (row,) = hours.rows("SELECT tenant_saving, platform_saving, cache_price FROM cache_savings")
    assert row == {"tenant_saving": exact(44), "platform_saving": exact(60), "cache_price": exact(22)}


def test_requests_of_one_key_are_a_group_of_separately_priced_facts(hours: Hours) -> None:
    same = {"workload_id": "w", "idempotency_key": "k"}
    second = NOON_US + 60_000_000
    hours.usage(
        fact("a", 1, status="error", **same),
        fact("a", 2, status="cancelled", model="claude", provider="anthropic", **same),
        fact("b", request_started_at=second, **same),
        fact("other", **(same | {"workload_id": "w2"})),
        fact("none", workload_id="w"),
    )
    group, other = hours.rows("SELECT * FROM retry_groups ORDER BY workload_id")
    names = ("request_ids", "requests", "attempts", "answered_by_request", "charge", "repeated_charge")
    assert tuple(group[name] for name in names) == (["a", "b"], 2, 3, "b", exact(99), exact(66))
    assert (other["requests"], other["charge"], other["repeated_charge"]) == (1, exact(33), exact(0))
    assert (group["last_started_at"] - group["first_started_at"]).total_seconds() == pytest.approx(60, abs=1)
    hours.over(0)
    hours.seal()
    assert hours.rows("SELECT * FROM retry_groups ORDER BY workload_id") == [group, other]


def test_a_group_that_nothing_answered_repeats_all_of_its_charge(hours: Hours) -> None:
    hours.usage(fact("a", status="timeout", idempotency_key="k"), fact("b", status="cancelled", idempotency_key="k"))
    (group,) = hours.rows("SELECT answered_by_request, charge, repeated_charge FROM retry_groups")
    assert group == {"answered_by_request": "", "charge": exact(66), "repeated_charge": exact(66)}


def test_a_call_that_its_caller_left_is_charged_and_absorbed_where_the_plan_says_so(hours: Hours) -> None:
    left = {"status": "cancelled", "delivered": False, "output_text_visible": 7}
    own = {"retry_rule": "final_only", "retry_cost_centre": "cc-resilience"}
    hours.usage(fact("paid", **left), fact("borne", **left, **own))
    assert hours.rows(
        "SELECT request_id, attempt_role, charge, absorbed, absorbed_to FROM attempts ORDER BY charge"
    ) == [
        {
            **{"request_id": "borne", "attempt_role": "cancelled"},
            **{"charge": exact(0), "absorbed": exact(33), "absorbed_to": "cc-resilience"},
        },
        {
            **{"request_id": "paid", "attempt_role": "cancelled"},
            **{"charge": exact(33), "absorbed": exact(0), "absorbed_to": ""},
        },
    ]
