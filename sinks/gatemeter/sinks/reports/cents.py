"""Amounts in whole cents that still add up: only statements round, and they round by largest remainder.

The total is rounded half-even; each line gets its amount rounded down, and the cents that are left go one each to the
lines with the largest remainders, ties to the smaller key. So lines add up to the total, and no line is off by a cent
or more: 0.4 + 0.4 + 0.2 cents are a total of 1 cent, which goes to the first line.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

PICO_DIGITS: Final = 12

# ISO 4217 currencies whose smallest unit is not a hundredth.
_MINOR_DIGITS: Final = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def minor_digits(currency: str) -> int:
    """Digits after the point of a currency's smallest unit: 2 for most."""
    return _MINOR_DIGITS.get(currency, 2)


def round_half_even(pico: int | Fraction, unit_pico: int) -> int:
    """`pico` in whole units of `unit_pico`; a half goes to the even neighbour: 0.5 → 0, 1.5 → 2, −0.5 → 0."""
    units, rest = divmod(pico, unit_pico)
    return units + (2 * rest > unit_pico or (2 * rest == unit_pico and units % 2 == 1))


def apportion(
    lines_pico: Mapping[str, int] | Mapping[str, Fraction], currency: str, total: int | None = None
) -> dict[str, int]:
    """Each line in the currency's smallest unit, adding up to the half-even rounded total, in the order of `lines`.

    `lines_pico`: amounts in 10⁻¹² units by key; they may be negative. `total`: what they must add up to where that is
    given already: their sum rounded up or down to a whole unit.
    """
    unit_pico: int = 10 ** (PICO_DIGITS - minor_digits(currency))
    exact: dict[str, Fraction] = {key: Fraction(pico) for key, pico in lines_pico.items()}
    units = {key: pico // unit_pico for key, pico in exact.items()}
    rounded = round_half_even(sum(exact.values(), Fraction(0)), unit_pico) if total is None else total
    by_remainder = sorted(exact, key=lambda key: (-(exact[key] % unit_pico), key))
    for key in by_remainder[: rounded - sum(units.values())]:
        units[key] += 1
    return units


def format_minor(units: int, currency: str) -> str:
    """Whole smallest units for people, with the currency's digits: 123456 USD cents → '1,234.56'."""
    return f"{Decimal(plain_minor(units, currency)):,}"


def plain_minor(units: int, currency: str) -> str:
    """The same for machines: 123456 USD cents → '1234.56'."""
    digits = minor_digits(currency)
    whole, rest = divmod(abs(units), 10**digits)
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{'-' if units < 0 else ''}{whole}{fraction}"
