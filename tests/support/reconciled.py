"""Both sides of a reconciliation made by hand: equal at first, then changed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from gatemeter.processors.reconciling.sides import Invoiced, Key, Metered, Sides, Traffic

FIRST = date(2026, 10, 1)
INPUT, OUTPUT = "input_text_uncached", "output_text_visible"
PRICES = {INPUT: 2_500_000, OUTPUT: 10_000_000}


def key(day: int = 1, token_type: str = INPUT, **names: str) -> Key:
    """A key of October 2026, model gpt-4o, realtime."""
    said = {"scope": "", "model": "gpt-4o", "service_tier": "", "workload_class": "realtime"} | names
    return Key(FIRST + timedelta(days=day - 1), token_type=token_type, **said)


def metered(quantity: int, token_type: str = INPUT, **more: Any) -> Metered:
    """Tokens at the rate card's price, all of them at noon."""
    return Metered(quantity, quantity * PRICES[token_type], by_hour={12: quantity}, **more)


def invoiced(quantity: int | None, token_type: str = INPUT, cost: int | None = None, **more: Any) -> Invoiced:
    """A line of tokens, at the rate card's price where no cost is given."""
    said = None if quantity is None else Decimal(quantity)
    return Invoiced(said, (quantity or 0) * PRICES[token_type] if cost is None else cost, lines=1, **more)


def both(*keys: Key, quantity: int = 1_000) -> Sides:
    """Sides that agree, on 31 billed days."""
    sides = Sides(billed_days=frozenset(FIRST + timedelta(days=day) for day in range(31)))
    for each in keys:
        sides.metered[each] = metered(quantity, each.token_type)
        sides.invoiced[each] = invoiced(quantity, each.token_type)
    return sides


def around(sides: Sides, of: Key, **traffic: Any) -> None:
    """Says what attempts a key is part of."""
    sides.traffic[of.day, of.scope, of.model, of.service_tier, of.workload_class] = Traffic(**traffic)
