"""One attempt's or decision's money from quantities, a rate and a plan: components that are disjoint and add up.

Amounts are ints of 10⁻¹² currency units. A mark-up is rounded half-even to 10⁻¹² once a component line.

    token_cost + model_cost + policy_cost = provider_cost + what the platform bills itself (internal policy cost)
    charge = token_cost + model_cost + policy_cost + markup + cache_price - absorbed

A hit of the gateway's cache costs nothing; a plan may price it as a share of the charge that it avoided. Of a hit that
avoided 10.00 with 20 %: `cache_price` 2.00, `avoided_charge` 10.00, the tenant saves 8.00. No mark-up is put on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.views import Attribution, PolicyPrice, Rate, RateTier
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS

PPM: Final = 1_000_000
UNALLOCATED: Final = "unallocated"
CACHE_HITS: Final = frozenset({"exact", "semantic"})
DECISION_QUANTITIES: Final = {"units": "pico_per_unit", "scanned_tokens": "pico_per_scanned_token"}
"""What a POLICY may state of itself, with the price of one."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts of one fact; all None where they are not known (`price_status` unpriced or no_usage).

    `avoided_…`: what a cache hit would have cost, None of all else and where its echo has no price; in no total.
    """

    price_status: str
    list_cost: int | None
    provider_cost: int | None
    token_cost: int | None
    model_cost: int | None
    policy_cost: int | None
    markup: int | None
    absorbed: int | None
    absorbed_to: str
    charge: int | None
    cache_price: int | None = 0
    avoided_provider_cost: int | None = None
    avoided_charge: int | None = None


def unknown(price_status: str) -> Amounts:
    """No amount is known: null, never zero."""
    return Amounts(price_status, None, None, None, None, None, None, None, "", None, None)


FREE: Final = Amounts("free", 0, 0, 0, 0, 0, 0, 0, "", 0)


def half_even(amount: int, ppm: int) -> int:
    """`amount × ppm / 10⁶`, rounded half-even. A half goes to the even neighbour: 0.5 → 0, 1.5 → 2."""
    quotient, rest = divmod(amount * ppm, PPM)
    return quotient + (rest * 2 > PPM or (rest * 2 == PPM and quotient % 2 == 1))


def is_charged(attribution: Attribution, evidence_grade: str) -> bool:
    """Whether the tenant pays; else the provider cost posts to `unallocated`."""
    return attribution.attribution == "attributed" and (
        evidence_grade == "A" or attribution.plan.accept_claimed_identity
    )


def tier_of(rate: Rate, input_tokens: int) -> RateTier:
    """The tier of a request; it prices all its tokens.

    With a tier above 200,000: 200,000 input tokens pay the base rate; from 200,001 on all pay the tier's.
    """
    chosen = rate.tiers[0]
    for tier in rate.tiers[1:]:
        if input_tokens > tier.input_tokens_above:
            chosen = tier
    return chosen


def _cost(quantities: Mapping[str, Any], names: tuple[str, ...], prices: Mapping[str, int]) -> int | None:
    """Sum of quantity × price; None where something was used that has no price."""
    total = 0
    for name in names:
        quantity = quantities[name]
        if quantity:
            if name not in prices:
                return None
            total += quantity * prices[name]
    return total


def has_usage(event: Mapping[str, Any]) -> bool:
    """Whether any bucket or meter is known; an explicit zero is known."""
    return any(event[name] is not None for name in BUCKETS) or any(event[name] is not None for name in METERS)


def echo(event: Mapping[str, Any]) -> str:
    """What a cache hit said that the avoided call would have used, as JSON; '{}' where it said nothing."""
    known = {name: event[name] for name in (*BUCKETS, *METERS) if event[name] is not None}
    return json.dumps(known, separators=(",", ":"))


def quantities_of(fact: Mapping[str, Any]) -> dict[str, Any]:
    """Buckets and meters that a fact's price goes by: its own, or what its hit of a cache echoed."""
    if fact["gateway_cache"] not in CACHE_HITS or not fact["avoided_usage"]:
        return {name: fact[name] for name in (*BUCKETS, *METERS)}
    echoed: dict[str, Any] = json.loads(fact["avoided_usage"])
    return {name: echoed.get(name) for name in (*BUCKETS, *METERS)}


def price_usage(event: Mapping[str, Any], rate: Rate | None, attribution: Attribution, evidence_grade: str) -> Amounts:
    """The amounts of a RESPONSE. Never a partial price: one used bucket without a price leaves the fact unpriced."""
    if event["gateway_cache"] in CACHE_HITS:
        return price_hit(_price_call(event, rate, attribution, evidence_grade), attribution, evidence_grade)
    return _price_call(event, rate, attribution, evidence_grade)


def price_hit(avoided: Amounts, attribution: Attribution, evidence_grade: str) -> Amounts:
    """The amounts of a hit: it is free, or costs a share of what the call that it avoided would have been charged.

    Where that is not known a free hit stays free, and one that has a price has none: null, never zero.
    """
    ppm = attribution.plan.cache_price_ppm if is_charged(attribution, evidence_grade) else 0
    free = replace(FREE, avoided_provider_cost=avoided.provider_cost, avoided_charge=avoided.charge)
    if not ppm:
        return free
    if avoided.charge is None:
        return avoided
    price = half_even(avoided.charge, ppm)
    return replace(free, price_status="priced", cache_price=price, charge=price)


def _price_call(event: Mapping[str, Any], rate: Rate | None, attribution: Attribution, evidence_grade: str) -> Amounts:
    if not has_usage(event):
        return unknown("no_usage")
    if rate is None:
        return unknown("unpriced")
    tier = tier_of(rate, sum(event[name] or 0 for name in INPUT_BUCKETS))
    tokens = _cost(event, BUCKETS, tier.provider_pico)
    fees = _cost(event, METERS, tier.provider_pico)
    list_tokens = _cost(event, BUCKETS, tier.list_pico)
    list_fees = _cost(event, METERS, tier.list_pico)
    if tokens is None or fees is None or list_tokens is None or list_fees is None:
        return unknown("unpriced")
    fees += tier.provider_pico.get("request", 0)
    list_fees += tier.list_pico.get("request", 0)
    return _priced(event["purpose"], (tokens, fees), list_tokens + list_fees, attribution, evidence_grade)


def _priced(
    purpose: str, lines: tuple[int, int], list_cost: int, attribution: Attribution, evidence_grade: str
) -> Amounts:
    tokens, fees = lines
    provider_cost = tokens + fees
    charged = is_charged(attribution, evidence_grade)
    ppm = attribution.plan.markup_ppm if charged else 0
    markup = half_even(tokens, ppm) + half_even(fees, ppm)
    is_policy = purpose == "policy_evaluation"
    return Amounts(
        price_status="priced",
        list_cost=list_cost,
        provider_cost=provider_cost,
        token_cost=0 if is_policy else tokens,
        model_cost=0 if is_policy else fees,
        policy_cost=provider_cost if is_policy else 0,
        markup=markup,
        absorbed=0 if charged else provider_cost,
        absorbed_to="" if charged else UNALLOCATED,
        charge=provider_cost + markup if charged else 0,
    )


def price_lines(
    purpose: str, lines: tuple[int, int], list_cost: int, attribution: Attribution, evidence_grade: str
) -> Amounts:
    """The amounts of an attempt whose costs (tokens, fees) are known already."""
    return _priced(purpose, lines, list_cost, attribution, evidence_grade)


def price_decision(
    event: Mapping[str, Any], price: PolicyPrice | None, attribution: Attribution, evidence_grade: str
) -> Amounts:
    """The amounts of a POLICY. One made by a metered model call (`evaluator_request_id`) is priced there: zero here.

    What the platform bills itself is policy cost without a provider's: `list_cost` and `provider_cost` are 0.
    """
    if event["evaluator_request_id"]:
        return FREE
    if price is None or unstated(event, price):
        return unknown("unpriced")
    cost = price.pico_per_decision
    cost += sum((event[name] or 0) * getattr(price, price_name) for name, price_name in DECISION_QUANTITIES.items())
    amounts = _priced("policy_evaluation", (cost, 0), cost, attribution, evidence_grade)
    return replace(amounts, list_cost=0, provider_cost=0) if price.billed_by == INTERNAL else amounts


def unstated(event: Mapping[str, Any], price: PolicyPrice) -> str:
    """The first quantity that the price of a decision needs and the POLICY does not state; '' where it states all."""
    missing = (
        name for name, price_name in DECISION_QUANTITIES.items() if event[name] is None and getattr(price, price_name)
    )
    return next(missing, "")


def biller(event: Mapping[str, Any], price: PolicyPrice | None) -> str:
    """Who bills a decision; '' where nothing prices it here."""
    return "" if price is None or event["evaluator_request_id"] else price.billed_by
