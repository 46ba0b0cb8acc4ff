"""Amounts of one fact from its lines, the plan and the evidence: the sums, the mark-up, who bears it.

charge = token_cost + model_cost + policy_cost + markup + cache_price - absorbed
provider_cost is token, model and policy cost without what the platform bills itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatemeter.processors.corrections.rows import AMOUNTS
from gatemeter.processors.corrections.truths import amounts_of
from gatemeter.processors.explaining.lines import DECISION_LINES, Line
from gatemeter.processors.metadata.views import Attribution
from gatemeter.processors.pricing.components import UNALLOCATED, Amounts, half_even, is_charged
from gatemeter.schemas.tables import BUCKETS

Money = dict[str, int | None]
"""Amounts by `AMOUNTS`, ints of 10⁻¹² currency units; None where nothing had a price."""


@dataclass(frozen=True, slots=True)
class Markup:
    """One rounding of the mark-up: `pico` = base × ppm / 10⁶, half-even."""

    of: str
    base_pico: int
    ppm: int
    pico: int


def markups(lines: Sequence[Line], ppm: int) -> list[Markup]:
    """The mark-up is rounded once on tokens (or a decision) and once on fees; what is empty has none."""
    tokens = [line for line in lines if line.name in BUCKETS]
    decided = [line for line in lines if line.name in DECISION_LINES]
    fees = [line for line in lines if line not in tokens and line not in decided]
    groups = (("tokens", tokens), ("fees", fees), ("decision", decided))
    return [
        Markup(of, base, ppm, half_even(base, ppm))
        for of, group in groups
        if group and (base := sum(line.provider_pico or 0 for line in group)) is not None
    ]


def added_up(
    lines: Sequence[Line], attribution: Attribution, evidence_grade: str, *, internal: bool = False
) -> Amounts:
    """The amounts that priced lines give; none of them may lack a price. `internal`: no provider bills them."""
    charged = is_charged(attribution, evidence_grade)
    parts = dict.fromkeys(("token_cost", "model_cost", "policy_cost"), 0)
    for line in lines:
        parts[line.component] += line.provider_pico or 0
    cost = sum(parts.values())
    markup = sum(each.pico for each in markups(lines, attribution.plan.markup_ppm)) if charged else 0
    return Amounts(
        price_status="priced",
        list_cost=0 if internal else sum(line.list_pico or 0 for line in lines),
        provider_cost=0 if internal else cost,
        **parts,
        markup=markup,
        absorbed=0 if charged else cost,
        absorbed_to="" if charged else UNALLOCATED,
        charge=cost + markup if charged else 0,
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts of an attempt or decision in every total: after corrections and the retry rule."""

    money: Money
    absorbed_to: str
    retry_cost: int | None


@dataclass(frozen=True, slots=True)
class RetryRule:
    """The rule of a fact, and the cost centre that bears what it absorbs; a decision has neither."""

    rule: str = ""
    cost_centre: str = ""


def after_retry_rule(money: Mapping[str, int | None], absorbed_to: str, retry: RetryRule, role: str) -> Counted:
    """`final_only` charges the answering attempt alone and absorbs the charge of the others.

    `retry_cost` is the charge of an attempt that did not answer, where it is charged. `role` is '' of a decision.
    """
    charge, absorbed = money["charge"], money["absorbed"]
    if role in ("", "answered"):
        return Counted(dict(money), absorbed_to, None if charge is None else 0)
    if retry.rule != "final_only":
        return Counted(dict(money), absorbed_to, charge)
    if charge is None:
        return Counted({**money, "absorbed": None}, absorbed_to, None)
    shifted = {**money, "charge": 0, "absorbed": None if absorbed is None else absorbed + charge}
    return Counted(shifted, retry.cost_centre if absorbed_to == "" and charge else absorbed_to, 0)


def money_of(row: Mapping[str, Any]) -> Money:
    """The amounts of a row of usage facts, lines, corrections or the ledger."""
    return {name: row[name] for name in AMOUNTS}


def money_of_decision(row: Mapping[str, Any]) -> Money:
    """The amounts of a row of policy facts: its cost is all policy cost."""
    return amounts_of("decision", row)


def as_money(amounts: Amounts) -> Money:
    """Of `price_usage` or `price_decision`."""
    return {name: getattr(amounts, name) for name in AMOUNTS}
