"""Why something had no price, in words: the first thing that stands in the way, and what would have had one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gatemeter.processors.explaining.lines import Line
from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION, RateKey
from gatemeter.processors.metadata.views import PolicyPrice, RateCard, View
from gatemeter.processors.pricing.components import unstated
from gatemeter.processors.sealing.hours import utc

NAMED: Final = 5
"""At most so many alternatives are named."""


def why_no_rate(fact: Mapping[str, Any], view: View) -> str:
    """Why no card in force prices an attempt: card, provider, model, service tier, workload class, region or time."""
    at_us = fact["request_started_at"]
    provider, model = fact["provider"], fact["served_model"] or fact["model"]
    cards = [card for card in view.cards if card.in_force(at_us)]
    if not cards:
        return f"no rate card was in force at {utc(at_us)}"
    names = "card in force " + f"({_some(card.card_id for card in cards)})"
    of_provider = [key for card in cards for key in card.spans if key[0] == provider]
    if not of_provider:
        return f"no {names} has the provider {provider!r}"
    of_model = [key for key in of_provider if key[1] == model]
    if not of_model:
        return f"no {names} has the model {model!r} of {provider!r}"
    of_tier = [key for key in of_model if key[2] == fact["service_tier"]]
    if not of_tier:
        known = _some(tier_name(key[2]) for key in of_model)
        return f"no {names} has the service tier {tier_name(fact['service_tier'])!r} of {model!r}; it has {known}"
    of_class = [key for key in of_tier if key[3] in (fact["workload_class"], ANY_CLASS)]
    if not of_class:
        known = _some(key[3] for key in of_tier)
        return f"no {names} has the workload class {fact['workload_class']!r} of {model!r}; it has {known}"
    of_region = [key for key in of_class if key[4] in (fact["region"], ANY_REGION)]
    if not of_region:
        known = _some(key[4] for key in of_class)
        return f"no {names} has the region {fact['region']!r} of {model!r}; it has {known}"
    return f"no {names} has a price of {model!r} at {utc(at_us)}; it has one {_spans(cards, of_region)}"


def why_no_price(lines: Iterable[Line], card_id: str) -> str:
    """Which lines the card has no price for."""
    missing = [line for line in lines if line.list_price_pico is None or line.provider_price_pico is None]
    said = _some(f"{line.name} ({line.quantity:,})" for line in missing)
    return f"card {card_id!r} has no price for {said}: a part of a price is none"


def why_no_policy_price(decision: Mapping[str, Any], price: PolicyPrice | None) -> str:
    """Why a decision had no price: its policy is in no list in force, or it does not state what that is priced by."""
    if price is None:
        at = utc(decision["request_started_at"])
        return f"no price list in force at {at} has the policy {decision['policy_id']!r} or '*'"
    missing = unstated(decision, price).replace("_", " ")
    return f"list {price.prices_id!r} has a price a {missing.removesuffix('s')}, and the decision says no {missing}"


def tier_name(service_tier: str) -> str:
    """The standard tier has no name."""
    return service_tier or "standard"


def _some(names: Iterable[str]) -> str:
    found = sorted(set(names))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def _spans(cards: Sequence[RateCard], keys: Sequence[RateKey]) -> str:
    spans = {
        (span.effective_from_us, span.effective_to_us)
        for card in cards
        for key in keys
        for span in card.spans.get(key, ())
    }
    return _some(f"[{utc(start)}, {'open' if end is None else utc(end)})" for start, end in spans)
