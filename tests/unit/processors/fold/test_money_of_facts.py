"""The money of hits of a cache, of policy decisions and of calls that were left, in both folds."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    response,
    run,
    standard_view,
    to_rows,
)

VIEW = build(
    standard_view()
    .plan("hits", markup_ppm=150_000, cache_price_ppm=200_000, retry_rule="final_only", retry_cost_centre="cc-9")
    .tenant("hits", plan_id="hits", cost_centre="cc-4")
    .policy("bedrock", 1_000, pico_per_scanned_token=150, billed_by="aws")
    .policy("per-unit", 0, 7)
)
COST = 100 * 2_500_000 + 20 * 10_000_000
"""Of the tokens of `response`."""


class World:
    """One gateway, folded in one of both ways."""

    def __init__(self, *, columnar: bool) -> None:
        self.log = Log()
        self.log.control(VIEW)
        self.gateway = Gateway(self.log)
        self.columnar = columnar

    def fold(self, *events: dict[str, Any], at_us: int = 1_000_000) -> None:
        self.gateway.send(events, at_us)

    def rows(self, table: str) -> list[dict[str, Any]]:
        outputs = run(new_fold({1: VIEW}, columnar=self.columnar), self.log.records)
        return [row for _, row in sorted(collapse(outputs)[table].items())]

    def only(self, table: str) -> dict[str, Any]:
        (row,) = self.rows(table)
        return row


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def world(request: pytest.FixtureRequest) -> World:
    return World(columnar=bool(request.param))


def said(row: dict[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


HIT = ("price_status", "provider_cost", "list_cost", "markup", "cache_price", "charge")


def test_a_hit_is_free_and_says_what_the_platform_and_the_tenant_saved(world: World) -> None:
    world.fold(response("r", 0, gateway_cache="exact", searches=0))
    row = world.only("usage_facts")
    assert said(row, HIT) == ("free", 0, 0, 0, 0, 0)
    charge = COST + COST * 15 // 100
    assert (row["avoided_provider_cost"], row["avoided_charge"]) == (COST, charge)
    assert json.loads(row["avoided_usage"]) == {"input_text_uncached": 100, "output_text_visible": 20, "searches": 0}
    assert (row["avoided_input_tokens"], row["avoided_output_tokens"], row["input_text_uncached"]) == (100, 20, None)


def test_a_hit_that_has_a_price_is_charged_a_share_and_no_mark_up(world: World) -> None:
    world.fold(response("r", 0, gateway_cache="semantic", tenant_id="hits"))
    row = world.only("usage_facts")
    charge = COST + COST * 15 // 100
    assert said(row, HIT) == ("priced", 0, 0, 0, charge // 5, charge // 5)
    assert (row["avoided_provider_cost"], row["avoided_charge"]) == (COST, charge)
    (window,) = world.rows("usage_windows")
    assert (window["cache_price"], window["charge"], window["provider_cost"]) == (charge // 5, charge // 5, 0)
    assert row["window_cost"] == charge // 5


def test_who_is_not_charged_pays_no_cache_price_and_avoids_no_charge(world: World) -> None:
    world.fold(
        response("a", 0, gateway_cache="exact", tenant_id="hits", identity_source="header_claim"),
        response("b", 0, gateway_cache="exact", tenant_id="nobody"),
    )
    for row in world.rows("usage_facts"):
        assert said(row, HIT) == ("free", 0, 0, 0, 0, 0)
        assert (row["avoided_provider_cost"], row["avoided_charge"]) == (COST, 0)


@pytest.mark.parametrize(
    ("tenant", "fields", "status"),
    [
        ("acme", {"model": "unknown"}, "free"),
        ("acme", {"tokens": None}, "free"),
        ("hits", {"model": "unknown"}, "unpriced"),
        ("hits", {"tokens": None}, "no_usage"),
        ("hits", {"images": 1}, "unpriced"),
    ],
)
def test_an_echo_without_a_price_is_null_and_never_zero(
    world: World, tenant: str, fields: dict[str, Any], status: str
) -> None:
    world.fold(response("r", 0, gateway_cache="exact", tenant_id=tenant, **fields))
    row = world.only("usage_facts")
    amount = 0 if status == "free" else None
    assert said(row, HIT) == (status, amount, amount, amount, amount, amount)
    assert (row["avoided_provider_cost"], row["avoided_charge"]) == (None, None)


def test_what_is_no_hit_has_no_cache_price_and_avoids_nothing(world: World) -> None:
    world.fold(response("r", 0, tenant_id="hits", gateway_cache="miss"))
    row = world.only("usage_facts")
    assert (row["cache_price"], row["avoided_provider_cost"], row["avoided_charge"], row["avoided_usage"]) == (
        *(0, None, None),
        "",
    )
    assert row["charge"] == COST + COST * 15 // 100


def test_a_fact_names_the_cost_centre_that_bears_what_its_plan_absorbs(world: World) -> None:
    world.fold(response("a", 0, tenant_id="hits"), response("b", 0))
    assert [said(row, ("retry_rule", "retry_cost_centre")) for row in world.rows("usage_facts")] == [
        ("final_only", "cc-9"),
        ("all_provider_charged", "retries"),
    ]


POLICY = ("price_status", "billed_by", "list_cost", "provider_cost", "policy_cost", "markup", "charge")


def test_the_platforms_own_guardrail_costs_no_provider_anything(world: World) -> None:
    world.fold(policy("r", 0, "d"))
    cost = 3_000_000 + 3 * 7
    assert said(world.only("policy_facts"), POLICY) == ("priced", "internal", 0, 0, cost, 450_003, cost + 450_003)
    (window,) = world.rows("usage_windows")
    assert said(window, ("provider", "list_cost", "provider_cost", "policy_cost")) == ("", 0, 0, cost)


def test_a_guardrail_that_a_provider_bills_is_provider_cost_by_the_tokens_it_scanned(world: World) -> None:
    world.fold(policy("r", 0, "d", policy_id="bedrock", units=None, scanned_tokens=2_000))
    cost = 1_000 + 2_000 * 150
    assert said(world.only("policy_facts"), POLICY) == ("priced", "aws", cost, cost, cost, 45_150, cost + 45_150)
    (window,) = world.rows("usage_windows")
    assert said(window, ("provider", "list_cost", "provider_cost", "policy_cost")) == ("aws", cost, cost, cost)


@pytest.mark.parametrize(
    ("fields", "status", "charge"),
    [
        ({"policy_id": "bedrock", "scanned_tokens": None}, "unpriced", None),
        ({"policy_id": "bedrock", "scanned_tokens": 0}, "priced", 1_150),
        ({"policy_id": "per-unit", "units": None}, "unpriced", None),
        ({"policy_id": "per-unit", "units": 0}, "priced", 0),
        ({"policy_id": "per-unit", "units": 2, "scanned_tokens": 9}, "priced", 16),
    ],
)
def test_a_quantity_that_was_not_stated_has_no_price_and_an_explicit_zero_has(
    world: World, fields: dict[str, Any], status: str, charge: int | None
) -> None:
    world.fold(policy("r", 0, "d", **fields))
    assert said(world.only("policy_facts"), ("price_status", "charge")) == (status, charge)


def test_a_decision_that_a_metered_call_made_is_priced_there_and_billed_by_nobody(world: World) -> None:
    guard = response("guard", 0, purpose="policy_evaluation")
    world.fold(policy("r", 0, "before", evaluator_request_id="guard"), guard)
    world.fold(policy("r", 5, "after", evaluator_request_id="guard"))
    for row in world.rows("policy_facts"):
        assert said(row, POLICY) == ("free", "", 0, 0, 0, 0, 0)
    assert said(world.only("usage_facts"), ("policy_cost", "token_cost", "provider_cost")) == (COST, 0, COST)


def test_a_decision_that_comes_late_posts_to_its_own_hour_and_leaves_the_attempt_alone(world: World) -> None:
    hour = 3_600_000_000
    world.fold(response("r", 0))
    before = world.only("usage_facts")
    for at_us in (10 * 60_000_000, 3 * hour):
        world.fold(policy("r", at_us, f"d{at_us}", started_us=0), at_us=at_us)
    rows = {row["decision_id"]: row for row in world.rows("policy_facts")}
    assert [row["usage_hour"] - START_US for row in rows.values()] == [0, 0]
    assert {row["posted_hour"] - START_US for row in rows.values()} == {0, 2 * hour}, "grace is half an hour"
    assert {row["request_id"] for row in rows.values()} == {"r"}
    assert world.only("usage_facts") == before


def test_a_call_that_its_caller_left_is_charged_for_what_the_provider_made(world: World) -> None:
    world.fold(response("r", 0, status="cancelled", delivered=False, tokens=(100, 7), tenant_id="hits"))
    row = world.only("usage_facts")
    cost = 100 * 2_500_000 + 7 * 10_000_000
    assert said(row, ("price_status", "provider_cost", "charge", "retry_rule")) == (
        *("priced", cost, cost + cost * 15 // 100),
        "final_only",
    )


def test_rows_that_were_written_hold_what_the_fold_says(world: World) -> None:
    world.fold(response("r", 0, gateway_cache="exact"), policy("r", 0, "d", scanned_tokens=5))
    (output,) = run(new_fold({1: VIEW}, columnar=world.columnar), world.log.records)
    assert to_rows("policy_facts", output.tables["policy_facts"])[0]["scanned_tokens"] == 5
