"""Component lines: quantity × unit price = amount, one line a bucket, meter or fee, list and provider price beside.

Amounts and prices are ints of 10⁻¹² currency units, prices of one token or one unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.processors.metadata.views import PolicyPrice, RateTier
from gatemeter.processors.pricing.components import DECISION_QUANTITIES
from gatemeter.schemas.tables import BUCKETS, METERS

REQUEST_FEE: Final = "request"
DECISION_LINES: Final = ("decision", *DECISION_QUANTITIES)
UNITS: Final = {
    **dict.fromkeys(BUCKETS, "token"),
    "images": "image",
    "media_ms": "millisecond",
    "searches": "search",
    "tool_calls": "tool call",
    REQUEST_FEE: "request",
    "decision": "decision",
    "units": "unit",
    "scanned_tokens": "token",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was bought. A price that is None is not in the card: the whole fact is unpriced then."""

    component: str
    name: str
    unit: str
    quantity: int
    list_price_pico: int | None
    provider_price_pico: int | None

    @property
    def list_pico(self) -> int | None:
        """Quantity × list price."""
        return None if self.list_price_pico is None else self.quantity * self.list_price_pico

    @property
    def provider_pico(self) -> int | None:
        """Quantity × provider price."""
        return None if self.provider_price_pico is None else self.quantity * self.provider_price_pico


@dataclass(frozen=True, slots=True)
class Tier:
    """The context tier that priced all tokens; `bounds`: all tiers of the rate."""

    input_tokens: int
    input_tokens_above: int
    bounds: tuple[int, ...]


def usage_lines(fact: Mapping[str, Any], tier: RateTier | None) -> list[Line]:
    """The lines of an attempt: what it used, at the prices of a tier (None: no rate, hence no price).

    A quantity of zero costs nothing and has no line; the fee of a request is a line wherever the card has one.
    """
    is_policy = fact["purpose"] == "policy_evaluation"
    return [
        Line(_component(name, is_policy), name, UNITS[name], quantity, *_prices(tier, name))
        for name, quantity in _bought(fact, tier)
    ]


def _bought(fact: Mapping[str, Any], tier: RateTier | None) -> Iterator[tuple[str, int]]:
    for name in (*BUCKETS, *METERS):
        if fact[name]:
            yield name, fact[name]
    if tier is not None and (REQUEST_FEE in tier.provider_pico or REQUEST_FEE in tier.list_pico):
        yield REQUEST_FEE, 1


def _component(name: str, is_policy: bool) -> str:
    if is_policy:
        return "policy_cost"
    return "token_cost" if name in BUCKETS else "model_cost"


def _prices(tier: RateTier | None, name: str) -> tuple[int | None, int | None]:
    if tier is None:
        return None, None
    return tier.list_pico.get(name), tier.provider_pico.get(name)


def decision_lines(decision: Mapping[str, Any], price: PolicyPrice | None) -> list[Line]:
    """The lines of a policy decision: the decision and, where they have a price, its units and tokens scanned."""
    each = None if price is None else price.pico_per_decision
    lines = [Line("policy_cost", "decision", UNITS["decision"], 1, each, each)]
    for name, price_name in DECISION_QUANTITIES.items():
        unit = None if price is None else getattr(price, price_name)
        if decision[name] and unit != 0:
            lines.append(Line("policy_cost", name, UNITS[name], decision[name], unit, unit))
    return lines


@dataclass(frozen=True, slots=True)
class Savings:
    """What a cache hit did not cost, line by line; in no total. None where it has no price: `reason` says why.

    The platform saves `provider_pico`, the tenant `charge_pico` less what the plan charges for the hit.
    """

    input_tokens: int | None
    output_tokens: int | None
    lines: tuple[Line, ...]
    list_pico: int | None
    provider_pico: int | None
    charge_pico: int | None
    reason: str = ""
