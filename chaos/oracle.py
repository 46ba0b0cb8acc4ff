"""What must come out, reckoned from what was said: prices and terms again in plain words, without any code of the fold.

Amounts are ints of 10⁻¹² USD. A gateway tells the oracle of each attempt and decision once; what it re-sends,
repeats or sends late changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

PRICES: Final[dict[str, tuple[str, str, str]]] = {
    "gpt-4.1": ("2", "0.5", "8"),
    "claude-sonnet": ("3", "0.3", "15"),
    "llama": ("0.42", "0.042", "0.84"),
}
"""USD a million tokens of input, cached input, output."""
DISCOUNT: Final = {"gpt-4.1": Decimal("0.95")}
MARKUP: Final = {"retail": Decimal("0.08"), "wealth": Decimal("0.125"), "research": Decimal("0.033333")}
ONLY_THE_ANSWER: Final = frozenset({"wealth", "research"})
"""Tenants who do not pay for attempts that did not answer."""
PER_DECISION: Final = 100_000_000
PER_UNIT: Final = 20_000
ONE: Final = Decimal(1)

MEASURES: Final = (
    "requests",
    "attempts",
    "policy_decisions",
    "input_tokens",
    "output_tokens",
    "list_cost",
    "provider_cost",
    "charge",
)


@dataclass(frozen=True)
class Usage:
    """Tokens of one attempt; None where the gateway does not know them."""

    uncached: int
    cached: int
    output: int


@dataclass
class Line:
    """What one attempt or decision adds to its totals."""

    month: str
    tenant: str
    model: str
    requests: int = 0
    attempts: int = 0
    policy_decisions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    list_cost: int = 0
    provider_cost: int = 0
    charge: int = 0


@dataclass
class Oracle:
    """`lines` by key: (gateway, request, attempt as text), or (gateway, decision, "decision")."""

    lines: dict[tuple[str, str, str], Line] = field(default_factory=dict)

    def attempt(self, call: Mapping[str, Any], usage: Usage | None, *, answered: bool) -> None:
        """An attempt, or a later revision of it. `usage` None: unknown, or no answer came."""
        model, tenant = call["model"], call["tenant_id"]
        line = Line(month_of(call["request_started_at"]), tenant, model, attempts=1)
        line.requests = int(call["attempt"] == 1)  # the attempts of a request share tenant, month and model
        if usage is not None:
            line.input_tokens, line.output_tokens = usage.uncached + usage.cached, usage.output
            line.list_cost, line.provider_cost = _cost(model, usage, ONE), _cost(model, usage, DISCOUNT.get(model, ONE))
            if answered or tenant not in ONLY_THE_ANSWER:
                line.charge = charged(tenant, line.provider_cost)
        self.lines[call["gateway"], call["request_id"], str(call["attempt"])] = line

    def decision(self, call: Mapping[str, Any], decision_id: str, units: int) -> None:
        """A policy decision of the platform's own guardrail: no provider bills it."""
        cost = PER_DECISION + units * PER_UNIT
        line = Line(month_of(call["request_started_at"]), call["tenant_id"], "", policy_decisions=1)
        line.charge = charged(call["tenant_id"], cost)
        self.lines[call["gateway"], decision_id, "decision"] = line

    def totals(self) -> dict[tuple[str, str, str], dict[str, int]]:
        """Sums by month, tenant and model ('' for decisions)."""
        found: dict[tuple[str, str, str], dict[str, int]] = {}
        for line in self.lines.values():
            total = found.setdefault((line.month, line.tenant, line.model), dict.fromkeys(MEASURES, 0))
            said = asdict(line)
            for measure in MEASURES:
                total[measure] += said[measure]
        return found


def _cost(model: str, usage: Usage, factor: Decimal) -> int:
    quantities = (usage.uncached, usage.cached, usage.output)
    prices = [_pico(Decimal(price) * factor) for price in PRICES[model]]
    return sum(quantity * price for quantity, price in zip(quantities, prices, strict=True))


def _pico(per_million: Decimal) -> int:
    return int((per_million * 1_000_000).to_integral_value(ROUND_HALF_EVEN))


def charged(tenant: str, cost: int) -> int:
    """Cost and mark-up; a tenant whom nobody knows is not charged."""
    if tenant not in MARKUP:
        return 0
    return cost + int((cost * MARKUP[tenant]).to_integral_value(ROUND_HALF_EVEN))


def month_of(at_us: int) -> str:
    """As `2026-11-01`, UTC."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-01")
