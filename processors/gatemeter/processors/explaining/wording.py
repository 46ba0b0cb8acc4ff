"""The rules that applied to a fact, in words: one sentence a rule, in the order in which they apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatemeter.processors.explaining.attribution import why_not_charged
from gatemeter.processors.explaining.lines import Tier
from gatemeter.processors.explaining.reasons import tier_name
from gatemeter.processors.explaining.terms import RateSource
from gatemeter.processors.fold.inconsistent import MISMATCH
from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.views import Attribution, View
from gatemeter.processors.pricing.components import CACHE_HITS, Amounts


def percent(ppm: int) -> str:
    """Millionths as a percentage with every digit: 150000 → '15 %', 33333 → '3.3333 %'."""
    whole, rest = divmod(ppm, 10_000)
    fraction = f".{rest:04}".rstrip("0") if rest else ""
    return f"{whole}{fraction} %"


def of_status(fact: Mapping[str, Any], price_status: str, why_unpriced: str) -> Iterator[str]:
    """What the kind of fact means for its price."""
    if fact["status"] == "denied":
        yield "denied: a policy refused the request before a provider was called; it costs nothing"
    elif fact["status"] == "orphan":
        yield "orphan: no response came in time; what it used is not known and nothing is charged until it is"
    elif fact["status"] == "in_progress":
        yield "in progress: a batch job without a final state; it is charged once, in the hour of that state"
    elif fact["gateway_cache"] in CACHE_HITS:
        yield from _of_hit(fact, price_status, why_unpriced)
    elif price_status == "no_usage":
        yield "no usage: the provider reported none; NULL is not zero, and nothing is charged until it is known"
    elif price_status == "unpriced":
        yield f"unpriced: {why_unpriced}; it is in no total"
    if fact["usage_source"] == "estimated":
        yield _of_estimate(fact["estimated_with"])
    if fact["usage_consistency"] == MISMATCH:
        yield (
            "the usage does not add up to the provider's own total: the gateway said so, usage_raw has the provider's"
            " words, and it is priced as its buckets say"
        )
    if fact["usage_revision"]:
        yield f"usage revision {fact['usage_revision']}: the highest revision of an attempt counts"


def _of_hit(fact: Mapping[str, Any], price_status: str, why_unpriced: str) -> Iterator[str]:
    said = f"answered from the gateway's cache ({fact['gateway_cache']}): no provider was called"
    if price_status == "free":
        yield f"{said}; it is free"
    elif price_status == "priced":
        yield f"{said}; the plan has a price for it"
    else:
        why = why_unpriced or "the gateway did not say what it avoided"
        yield f"{said}; {price_status}: what it avoided has no price ({why}), so its own price is not known"


def _of_estimate(estimated_with: str) -> str:
    said = "the usage is an estimate, because the provider reported none"
    if not estimated_with:
        return f"{said}: the gateway's own"
    sides, encoding = estimated_with.split(" ")
    return f"{said}: gatemeter counted the text of {sides.replace('+', ' and ')} with {encoding}"


def of_rate(fact: Mapping[str, Any], matched: str, source: RateSource, tier: Tier | None) -> Iterator[str]:
    """Which line of which card, and why that one."""
    if matched == "served_model":
        asked = "" if fact["model"] == fact["served_model"] else f" (asked for: {fact['model']!r})"
        yield f"the served model {fact['served_model']!r} has the price{asked}"
    else:
        yield f"the model asked for, {fact['model']!r}, has the price"
    if fact["service_tier"]:
        yield f"service tier {tier_name(fact['service_tier'])!r} has prices of its own"
    if source.workload_class == fact["workload_class"]:
        yield f"workload class {fact['workload_class']!r} has prices of its own"
    if source.region:
        yield f"region {source.region!r} has prices of its own"
    if tier is not None and len(tier.bounds) > 1:
        yield _of_tier(tier)
    if fact["purpose"] == "policy_evaluation":
        yield "a model call that evaluates a policy: all of it is policy cost"


def _of_tier(tier: Tier) -> str:
    said = f"context tier: {tier.input_tokens:,} input tokens are"
    if tier.input_tokens_above:
        above = f"{tier.input_tokens_above:,}"
        return f"{said} above {above}, so all tokens pay the prices above {above}"
    return f"{said} not above {min(bound for bound in tier.bounds if bound):,}, so all tokens pay the base prices"


def of_charge(fact: Mapping[str, Any], view: View, attribution: Attribution, amounts: Amounts) -> Iterator[str]:
    """Who pays and with which mark-up."""
    if amounts.price_status != "priced":
        return
    refused = why_not_charged(fact, view, attribution)
    if refused:
        yield refused
        return
    plan = attribution.plan
    if fact["evidence_grade"] == "B":
        yield f"the identity is only claimed (grade B); plan {plan.plan_id!r} accepts that"
    if amounts.avoided_charge is not None:
        share = f"{percent(plan.cache_price_ppm)}: {plan.cache_price_ppm:,} millionths"
        yield f"plan {plan.plan_id!r} prices a hit at {share} of the charge that it avoided, rounded half-even to 10⁻¹²"
        return
    if plan.markup_ppm:
        once = "" if "decision_id" in fact else " once on tokens and once on fees"
        share = f"{percent(plan.markup_ppm)}: {plan.markup_ppm:,} millionths"
        yield f"plan {plan.plan_id!r} adds {share}, rounded half-even to 10⁻¹²{once}"
    else:
        yield f"plan {plan.plan_id!r} adds no mark-up"


def of_decision(fact: Mapping[str, Any], why_unpriced: str) -> Iterator[str]:
    """What a policy decision costs, and where else its cost is."""
    if fact["evaluator_request_id"]:
        yield f"a metered model call made it: it is priced once, in request {fact['evaluator_request_id']}"
    elif why_unpriced:
        yield f"unpriced: {why_unpriced}; it is in no total"
    elif fact["billed_by"] == INTERNAL:
        yield "the platform bills it itself: internal policy cost, on no provider's invoice"
    else:
        yield f"billed by {fact['billed_by']}: provider cost, on its invoice"


def of_retry_rule(retry_rule: str, role: str, charge: int | None, absorbed_to: str) -> Iterator[str]:
    """What became of an attempt that did not answer."""
    if role == "answered" or not charge:
        return
    if retry_rule == "final_only":
        yield f"retry rule final_only: this attempt did not answer ({role}), its charge is absorbed by {absorbed_to!r}"
    else:
        yield f"retry rule {retry_rule}: this attempt did not answer ({role}) and is charged; a part called retry cost"
