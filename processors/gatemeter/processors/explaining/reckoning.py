"""The calculation of one fact done again: its lines, its amounts, the rules that applied, and what does not agree.

`reckon_usage` and `reckon_decision` are pure. They use the rules of the fold (`pricing.components`) and the view that
the fold used, and hold three things against each other: what the lines add up to, what the fold's rule gives, and what
the table says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatemeter.processors.corrections.rows import AMOUNTS
from gatemeter.processors.explaining import wording
from gatemeter.processors.explaining.amounts import (
    Markup,
    Money,
    added_up,
    as_money,
    markups,
    money_of,
    money_of_decision,
)
from gatemeter.processors.explaining.attribution import PlanApplied, plan_of
from gatemeter.processors.explaining.lines import Line, Savings, Tier, decision_lines, usage_lines
from gatemeter.processors.explaining.reasons import why_no_policy_price, why_no_price, why_no_rate
from gatemeter.processors.explaining.terms import RateSource, Terms, matched_model, rate_of
from gatemeter.processors.metadata.attributing import who_of
from gatemeter.processors.metadata.entries import INTERNAL, Dated
from gatemeter.processors.metadata.views import Attribution, PolicyPrice, Rate, RateTier, View
from gatemeter.processors.pricing.components import (
    CACHE_HITS,
    FREE,
    Amounts,
    biller,
    has_usage,
    price_decision,
    price_hit,
    price_usage,
    quantities_of,
    tier_of,
    unknown,
)
from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS
from gatemeter.sinks.reports.money import text_of

_TERMS = ("attribution", "attribution_note", "cost_centre", "business_unit", "organisation")


@dataclass(frozen=True, slots=True)
class PolicySource(Dated):
    """Where a decision's price stands: the list in force. Its dates are those of the list."""

    prices_id: str
    pico_per_decision: int
    pico_per_unit: int
    pico_per_scanned_token: int
    billed_by: str


@dataclass(frozen=True, slots=True)
class Reckoned:
    """How one fact got its amounts. `recorded`: what its row says; `reckoned`: what the lines give.

    `matched_model`: served_model or model, whichever has the price; '' where none has. `rules`: what applied, in words.
    `problems`: what does not agree, one line each.
    """

    price_status: str
    currency: str
    lines: tuple[Line, ...]
    markups: tuple[Markup, ...]
    recorded: Money
    reckoned: Money
    plan: PlanApplied
    source: RateSource | PolicySource | None
    tier: Tier | None
    matched_model: str
    savings: Savings | None
    rules: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Priced:
    """A usage with its rate looked up."""

    rate: Rate | None
    tier: RateTier | None
    lines: tuple[Line, ...]


def reckon_usage(fact: Mapping[str, Any], terms: Terms) -> Reckoned:
    """Of a row of `usage_facts`. Raises `TermsMissing`."""
    view = terms.view(fact["metadata_offset"])
    attribution = view.attribution_of(who_of(fact), fact["request_started_at"])
    # a REQUEST without an answer is never priced, and names no card
    rate = rate_of(fact, view) if fact["has_response"] else None
    hit = fact["has_response"] and fact["gateway_cache"] in CACHE_HITS
    # what a hit of the cache echoes is priced as a call is, and then avoided
    bought = {**fact, **quantities_of(fact)}
    used = fact["has_response"] and has_usage(bought)
    tokens = input_tokens(bought)
    tier = None if rate is None else tier_of(rate, tokens)
    priced = _Priced(rate, tier, tuple(usage_lines(bought, tier)) if used else ())
    amounts = _amounts_of(fact, priced, attribution, used=used)
    lines = () if hit else priced.lines
    expected: dict[str, Any] = {
        "currency": view.currency(fact["request_started_at"]) if rate is None else rate.currency,
        "rate_card_id": rate.card_id if rate else "",
        "rate_card_hash": rate.card_hash if rate else "",
        "retry_rule": attribution.plan.retry_rule,
        "retry_cost_centre": attribution.plan.retry_cost_centre,
        **_terms(amounts, attribution),
    }
    problems = [*_disagreement(fact, expected), *_unequal(money_of(fact), as_money(amounts))]
    ruled = _ruled(bought, rate, attribution)
    problems += [f"the fold's rule disagrees: {text}" for text in _unequal(as_money(ruled), as_money(amounts))]
    problems += _wrong_echo(fact, bought) if hit else []
    source, matched = _source(fact, terms, view, priced)
    chosen = None if rate is None or tier is None else Tier(tokens, tier.input_tokens_above, _bounds(rate))
    why_unpriced = _why_unpriced(fact, view, priced, amounts)
    saved = _savings(fact, priced, amounts, why_unpriced) if hit else None
    plan = plan_of(fact, view, attribution)
    rules = [
        *wording.of_status(fact, amounts.price_status, why_unpriced),
        *(wording.of_rate(fact, matched, source, chosen) if priced.lines and source else ()),
        *wording.of_charge(fact, view, attribution, amounts),
    ]
    return Reckoned(
        price_status=amounts.price_status,
        currency=expected["currency"],
        lines=lines,
        markups=_markups(lines, plan, amounts),
        recorded=money_of(fact),
        reckoned=as_money(amounts),
        plan=plan,
        source=source,
        tier=chosen,
        matched_model=matched,
        savings=saved,
        rules=tuple(rules),
        problems=tuple(problems),
    )


def reckon_decision(fact: Mapping[str, Any], terms: Terms) -> Reckoned:
    """Of a row of `policy_facts`. Raises `TermsMissing`."""
    view = terms.view(fact["metadata_offset"])
    attribution = view.attribution_of(who_of(fact), fact["request_started_at"])
    price = view.policy_price(fact["policy_id"], fact["request_started_at"])
    ruled = price_decision(fact, price, attribution, fact["evidence_grade"])
    lines = () if fact["evaluator_request_id"] else tuple(decision_lines(fact, price))
    billed_by, grade = biller(fact, price), fact["evidence_grade"]
    priced = ruled.price_status == "priced"
    amounts = added_up(lines, attribution, grade, internal=billed_by == INTERNAL) if priced else ruled
    expected = {
        "currency": view.currency(fact["request_started_at"]) if price is None else price.currency,
        "prices_id": price.prices_id if price else "",
        "billed_by": billed_by,
        **_terms(amounts, attribution),
    }
    problems = [*_disagreement(fact, expected), *_unequal(money_of_decision(fact), as_money(amounts))]
    problems += [f"the fold's rule disagrees: {text}" for text in _unequal(as_money(ruled), as_money(amounts))]
    plan = plan_of(fact, view, attribution)
    unpriced = why_no_policy_price(fact, price) if amounts.price_status == "unpriced" else ""
    return Reckoned(
        price_status=amounts.price_status,
        currency=expected["currency"],
        lines=lines,
        markups=_markups(lines, plan, amounts),
        recorded=money_of_decision(fact),
        reckoned=as_money(amounts),
        plan=plan,
        source=_policy_source(view, price),
        tier=None,
        matched_model="",
        savings=None,
        rules=(*wording.of_decision(fact, unpriced), *wording.of_charge(fact, view, attribution, amounts)),
        problems=tuple(problems),
    )


def input_tokens(fact: Mapping[str, Any]) -> int:
    """All input buckets together, cached ones too: what the context tier goes by."""
    return sum(fact[name] or 0 for name in INPUT_BUCKETS)


def _amounts_of(fact: Mapping[str, Any], priced: _Priced, attribution: Attribution, *, used: bool) -> Amounts:
    """What the lines give; where nothing was bought, what that means."""
    if not fact["has_response"]:
        return FREE if fact["status"] == "denied" else unknown("no_usage")
    lacking = any(line.list_price_pico is None or line.provider_price_pico is None for line in priced.lines)
    if not used:
        amounts = unknown("no_usage")
    elif priced.rate is None or lacking:
        amounts = unknown("unpriced")
    else:
        amounts = added_up(priced.lines, attribution, fact["evidence_grade"])
    return price_hit(amounts, attribution, fact["evidence_grade"]) if fact["gateway_cache"] in CACHE_HITS else amounts


def _wrong_echo(fact: Mapping[str, Any], bought: Mapping[str, Any]) -> list[str]:
    """A hit has no usage of its own, and the tokens that it avoided are those of its echo."""
    found = ["a cache hit must have no usage of its own, only avoided tokens"] if has_usage(fact) else []
    for name, buckets in (("avoided_input_tokens", INPUT_BUCKETS), ("avoided_output_tokens", OUTPUT_BUCKETS)):
        known = [bought[bucket] for bucket in buckets if bought[bucket] is not None]
        if fact[name] != (sum(known) if known else None):
            found.append(f"{name} is {fact[name]}, the echo of the hit gives {sum(known) if known else None}")
    return found


def _savings(fact: Mapping[str, Any], priced: _Priced, amounts: Amounts, why_unpriced: str) -> Savings:
    """What a hit of the gateway's cache avoided, at the prices that the call would have had."""
    known = amounts.avoided_charge is not None
    return Savings(
        fact["avoided_input_tokens"],
        fact["avoided_output_tokens"],
        priced.lines,
        sum(line.list_pico or 0 for line in priced.lines) if known else None,
        amounts.avoided_provider_cost,
        amounts.avoided_charge,
        "" if known else why_unpriced or "the gateway did not say what it avoided",
    )


def _ruled(fact: Mapping[str, Any], rate: Rate | None, attribution: Attribution) -> Amounts:
    """What the fold's own rule gives."""
    if not fact["has_response"]:
        return FREE if fact["status"] == "denied" else unknown("no_usage")
    return price_usage(fact, rate, attribution, fact["evidence_grade"])


def _why_unpriced(fact: Mapping[str, Any], view: View, priced: _Priced, amounts: Amounts) -> str:
    avoided = bool(priced.lines) and fact["gateway_cache"] in CACHE_HITS and amounts.avoided_charge is None
    if amounts.price_status != "unpriced" and not avoided:
        return ""
    return why_no_rate(fact, view) if priced.rate is None else why_no_price(priced.lines, priced.rate.card_id)


def _source(fact: Mapping[str, Any], terms: Terms, view: View, priced: _Priced) -> tuple[RateSource | None, str]:
    """The line that the price stands in, and which of the two models it is of."""
    if priced.rate is None or priced.tier is None:
        return None, ""
    name = matched_model(fact, view, priced.rate)
    return terms.source_of(priced.rate, fact, fact[name], priced.tier.input_tokens_above), name


def _policy_source(view: View, price: PolicyPrice | None) -> PolicySource | None:
    if price is None:
        return None
    for entry in view.policy_prices:
        if any(each is price for each in entry.prices.values()):
            return PolicySource(
                entry.prices_id,
                price.pico_per_decision,
                price.pico_per_unit,
                price.pico_per_scanned_token,
                price.billed_by,
                effective_from_us=entry.effective_from_us,
                effective_to_us=entry.effective_to_us,
            )
    return None


def _bounds(rate: Rate) -> tuple[int, ...]:
    return tuple(tier.input_tokens_above for tier in rate.tiers)


def _markups(lines: tuple[Line, ...], plan: PlanApplied, amounts: Amounts) -> tuple[Markup, ...]:
    if amounts.price_status != "priced" or not plan.charged or not plan.plan.markup_ppm:
        return ()
    return tuple(markups(lines, plan.plan.markup_ppm))


def _terms(amounts: Amounts, attribution: Attribution) -> dict[str, Any]:
    who = {name: getattr(attribution, name.removeprefix("attribution_")) for name in _TERMS}
    return {
        **who,
        "plan_id": attribution.plan.plan_id,
        "price_status": amounts.price_status,
        "absorbed_to": amounts.absorbed_to,
    }


def _disagreement(fact: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {fact[name]!r}, the metadata gives {value!r}"
        for name, value in expected.items()
        if fact[name] != value
    ]


def _unequal(recorded: Mapping[str, int | None], reckoned: Mapping[str, int | None]) -> list[str]:
    return [
        f"{name} is {exact(recorded[name])}, the lines give {exact(reckoned[name])}"
        for name in AMOUNTS
        if recorded[name] != reckoned[name]
    ]


def exact(pico: int | None) -> str:
    """An amount with all its digits; NULL where nothing had a price."""
    return "NULL" if pico is None else text_of(pico)
