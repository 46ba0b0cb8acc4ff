"""Allocation rules by hand: who shares what, by which weights, and what stays."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gatemeter.sinks.reports.allocating import Kept, Party, Rule, Used, allocate
from gatemeter.sinks.reports.allocation import lines_of
from gatemeter.sinks.reports.dividing import divide

MARCH = date(2026, 3, 1)
USD = 10**12
A, B, C = (Party("tenant", name) for name in "abc")


def used(tenant: str, charge: int = 0, tokens: int = 0, requests: int = 0, **fields: Any) -> Used:
    base = {"span": 1, "cost_centre": f"cc-{tenant}", "app_id": "app", "provider": "p", "model": "m", "currency": "USD"}
    counts = {"charge": charge, "tokens": tokens, "requests": requests, "unpriced_tokens": 0}
    return Used(**{"month": MARCH, "tenant_id": tenant, **base, **counts, **fields})


def rule(name: str = "r", method: str = "by_tokens", receivers: tuple[Party, ...] = (A, B), **fields: Any) -> Rule:
    base: dict[str, Any] = {"from_us": 0, "to_us": None, "tenant_id": "hub", "app_id": "", "provider": "", "model": ""}
    return Rule(**{"allocation_id": name, **base, "method": method, "receivers": receivers, **fields})


def borne(lines: list[Used], *rules: Rule) -> dict[str, int]:
    """By party what each bears in cents."""
    return {line.party.id: line.total(line.cents) for line in lines_of(lines, allocate(lines, rules))}


def test_ten_by_one_one_one_is_four_three_three() -> None:
    assert divide(10, {C: 1, A: 1, B: 1}) == {A: 4, B: 3, C: 3}
    assert divide(-10, {A: 1, B: 1, C: 1}) == {A: -3, B: -3, C: -4}


def test_tokens_of_the_receivers_weigh() -> None:
    lines = [
        used("hub", 10 * USD, tokens=900),
        used("a", 1 * USD, tokens=30),
        used("b", 0, tokens=10),
        used("c", 5 * USD),
    ]
    assert borne(lines, rule()) == {"hub": 0, "a": 850, "b": 250, "c": 500}


def test_requests_of_the_receivers_weigh() -> None:
    lines = [used("hub", USD), used("a", tokens=99, requests=1), used("b", requests=3)]
    assert borne(lines, rule(method="by_requests")) == {"hub": 0, "a": 25, "b": 75}


def test_fixed_shares_need_no_usage_and_cents_add_up() -> None:
    thirds = rule(method="fixed", receivers=(A, B, C), shares_ppm=(333_333, 333_333, 333_334))
    assert borne([used("hub", USD)], thirds) == {"hub": 0, "a": 33, "b": 33, "c": 34}


def test_a_cost_centre_receives_beside_its_tenants() -> None:
    centre = rule(method="fixed", receivers=(Party("cost_centre", "cc-9"),), shares_ppm=(1_000_000,))
    assert borne([used("hub", USD), used("a", USD, cost_centre="cc-9")], centre) == {"hub": 0, "a": 100, "cc-9": 100}


def test_a_cost_centre_weighs_by_all_of_its_tenants() -> None:
    lines = [
        used("hub", USD),
        used("a", tokens=1),
        used("b", tokens=1, cost_centre="cc-9"),
        used("c", tokens=2, cost_centre="cc-9"),
    ]
    assert borne(lines, rule(receivers=(A, Party("cost_centre", "cc-9"))))["cc-9"] == 75


def test_where_nobody_has_a_weight_it_stays_with_its_owner_and_is_told() -> None:
    lines = [used("hub", USD)]
    allocated = allocate(lines, [rule()])
    assert allocated.kept == (Kept(MARCH, "r", "by_tokens", "hub", "USD", USD),)
    assert borne(lines, rule()) == {"hub": 100}


def test_the_rule_that_says_most_shares_and_nothing_is_shared_twice() -> None:
    lines = [used("hub", USD, app_id="search"), used("hub", USD), used("a", tokens=1), used("b", tokens=1)]
    all_of_hub = rule("all", receivers=(A,))
    search = rule("search", receivers=(B,), app_id="search")
    onward = rule("onward", receivers=(C,), tenant_id="b", method="fixed", shares_ppm=(1_000_000,))
    assert borne(lines, all_of_hub, search, onward) == {"hub": 0, "a": 100, "b": 100, "c": 0}


def test_a_shared_model_of_everybody_is_shared_by_all_usage_of_the_receivers() -> None:
    pool = rule(tenant_id="", model="reserved")
    lines = [used("a", 4 * USD, tokens=10, model="reserved"), used("b", tokens=30)]
    assert borne(lines, pool) == {"a": 100, "b": 300}


def test_versions_hold_in_their_own_span() -> None:
    first = rule(receivers=(A,), from_us=0, to_us=5)
    second = rule(receivers=(B,), from_us=5)
    spans = [
        used("hub", USD, span=1),
        used("hub", 2 * USD, span=2),
        used("a", tokens=1, span=1),
        used("b", tokens=1, span=2),
    ]
    assert borne(spans, first, second) == {"hub": 0, "a": 100, "b": 200}
    assert borne([used("hub", USD, span=0)], first, second) == {"hub": 100}


def test_amounts_of_currencies_are_shared_apart() -> None:
    lines = [used("hub", USD), used("hub", 100 * USD, currency="JPY"), used("a", tokens=1), used("b", tokens=1)]
    found = {(share.currency, share.receiver.id): share.cents for share in allocate(lines, [rule()]).shares}
    assert found == {("USD", "a"): 50, ("USD", "b"): 50, ("JPY", "a"): 50, ("JPY", "b"): 50}


@pytest.mark.parametrize("unpriced", [0, 7])
def test_unpriced_tokens_of_what_is_shared_are_told(unpriced: int) -> None:
    lines = [used("hub", USD, unpriced_tokens=unpriced), used("a", tokens=1)]
    assert allocate(lines, [rule()]).unpriced_tokens == {(MARCH, "r"): unpriced}
