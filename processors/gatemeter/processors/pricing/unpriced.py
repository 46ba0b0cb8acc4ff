"""Why usage has no price: what the cards of a view do not know. Nobody is charged by it; people mend cards by it.

unknown_model         no card has the model of this provider
unknown_tier          cards have the model, not in this service tier
unknown_class         cards have the model in this tier, for other workload classes alone
unknown_region        cards have it in this tier and class, for other regions alone
no_price_then         a card has it, at other times
bucket_without_price  the price in force lacks a bucket or meter that was used
unknown_policy        of a decision: no list in force has its policy
no_units              of a decision: its policy is priced by units, and none were stated
no_scanned_tokens     of a decision: its policy is priced by tokens scanned, and none were stated
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION, RateKey
from gatemeter.processors.metadata.views import Rate, View
from gatemeter.processors.pricing.components import DECISION_QUANTITIES, tier_of, unstated
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS

QUANTITIES: Final = (*BUCKETS, *METERS)
REASONS: Final = (
    "unknown_model",
    "unknown_tier",
    "unknown_class",
    "unknown_region",
    "no_price_then",
    "bucket_without_price",
)
DECISION_REASONS: Final = ("unknown_policy", *(f"no_{name}" for name in DECISION_QUANTITIES))


@dataclass(frozen=True, slots=True)
class Lack:
    """`missing`: buckets and meters that were used and have no price, of the line above `input_tokens_above`."""

    reason: str
    missing: tuple[str, ...] = ()
    input_tokens_above: int | None = None


def used_of(quantities: Mapping[str, Any]) -> tuple[str, ...]:
    """The buckets and meters that were used."""
    return tuple(name for name in QUANTITIES if quantities[name])


def input_tokens_of(quantities: Mapping[str, Any]) -> int:
    """All input tokens, which choose the context tier."""
    return sum(quantities[name] or 0 for name in INPUT_BUCKETS)


def why_unpriced(view: View, key: RateKey, used: Sequence[str], input_tokens: int, at_us: int) -> Lack | None:
    """Why the view has no price for what a request used that started at an instant; None: it has one."""
    rate = view.rate(*key, at_us)
    return Lack(why_no_rate(view, key)) if rate is None else lacking(rate, used, input_tokens)


def why_no_rate(view: View, key: RateKey) -> str:
    """Why a view that has no rate for a key at some instant has none: the first thing that no card knows."""
    provider, model, tier, workload, region = key
    places = view.places.get((provider, model))
    if places is None:
        return "unknown_model"
    in_tier = [place[1:] for place in places if place[0] == tier]
    if not in_tier:
        return "unknown_tier"
    regions = {line_region for line_class, line_region in in_tier if line_class in (workload, ANY_CLASS)}
    if not regions:
        return "unknown_class"
    return "no_price_then" if regions & {region, ANY_REGION} else "unknown_region"


def lacking(rate: Rate, used: Sequence[str], input_tokens: int) -> Lack | None:
    """What a rate lacks for these buckets and meters; None: nothing."""
    tier = tier_of(rate, input_tokens)
    priced = tier.list_pico.keys() & tier.provider_pico.keys()
    missing = tuple(name for name in used if name not in priced)
    return Lack("bucket_without_price", missing, tier.input_tokens_above) if missing else None


def why_no_policy_price(view: View, decision: Mapping[str, Any]) -> str:
    """Why a decision has no price: no list in force has its policy, or its price needs what it does not state."""
    price = view.policy_price(decision["policy_id"], decision["request_started_at"])
    return "unknown_policy" if price is None else f"no_{unstated(decision, price)}"
