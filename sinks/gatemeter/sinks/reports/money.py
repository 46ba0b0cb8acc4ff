"""Decimals of ClickHouse as ints of 10⁻¹² units and back, with every digit."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact
from typing import Any, Final

# 38 digits fit; more than the 28 of the default context, and a digit lost is an error.
_EXACT: Final = Context(prec=76, traps=[Inexact])


def pico_of(amount: Decimal | None) -> int:
    """Units of 10⁻¹². None (nothing had a price) is 0: the unpriced quantity stands beside it."""
    if amount is None:
        return 0
    return int(_EXACT.scaleb(amount, 12).to_integral_exact(context=_EXACT))


def text_of(pico: int) -> str:
    """All twelve digits as text: 1 → '0.000000000001'."""
    return f"{_EXACT.create_decimal(f'{pico}e-12'):f}"


def number(value: Any) -> int:
    """A count of ClickHouse; NULL and '' count nothing."""
    return int(value or 0)
