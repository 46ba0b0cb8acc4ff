"""What all terms are: effective-dated values with exact decimals, checked once, and the one that is in force.

Of the versions of an id in force at an instant the one with the greatest `effective_from` holds; where it ends and an
earlier one is still open, the earlier one holds again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Any, Final, TypeVar

T = TypeVar("T", bound="Term")

PICO: Final = 10**12
MAX_AMOUNT: Final = 10**15
"""Largest amount of a term, in currency units."""

_DECIMAL: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
_EXACT: Final = Context(prec=76, traps=[Inexact])


class TermError(ValueError):
    """A value out of its accepted range; the text names the field and the range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A term in force in `[effective_from_us, effective_to_us)`, microseconds UTC; null is open."""

    effective_from_us: int
    effective_to_us: int | None = None

    def __post_init__(self) -> None:
        if self.effective_to_us is not None and self.effective_to_us <= self.effective_from_us:
            span = f"from {self.effective_from_us} to {self.effective_to_us}"
            raise TermError(f"effective_to must be after effective_from, got {span}")

    def in_force(self, at_us: int) -> bool:
        """The start belongs to the term, the end does not."""
        return self.effective_from_us <= at_us and (self.effective_to_us is None or at_us < self.effective_to_us)


def newest(versions: Iterable[T], at_us: int) -> T | None:
    """Of the versions in force at an instant the one that began last; None where none is in force."""
    in_force = [version for version in versions if version.in_force(at_us)]
    return max(in_force, key=lambda version: version.effective_from_us, default=None)


def dates_of(datum: Mapping[str, Any]) -> dict[str, Any]:
    """The dates of a decoded record."""
    return {"effective_from_us": datum["effective_from"], "effective_to_us": datum["effective_to"]}


def check_text(name: str, value: str) -> str:
    """Raises `TermError` unless `value` is 1 to 256 characters without surrounding blanks."""
    if not 0 < len(value) <= 256 or value != value.strip():
        raise TermError(f"{name} must be 1 to 256 characters without blanks around them, got {value!r}")
    return value


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Raises `TermError` unless `value` is one of `choices`."""
    if value not in choices:
        raise TermError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def check_currency(name: str, value: str) -> str:
    """Raises `TermError` unless `value` looks like an ISO 4217 code."""
    if not re.fullmatch(r"[A-Z]{3}", value):
        raise TermError(f"{name} must be an ISO 4217 code such as USD, got {value!r}")
    return value


def check_decimal(name: str, text: str) -> Decimal:
    """An exact decimal that is not negative, in digits without exponent. Raises `TermError`."""
    if not _DECIMAL.fullmatch(text):
        raise TermError(f"{name} must be a decimal such as 1250.50, got {text!r}")
    return _EXACT.create_decimal(text)


def check_amount(name: str, text: str) -> int:
    """An amount in 10⁻¹² currency units. Raises `TermError` above `MAX_AMOUNT` or with more than twelve decimals."""
    amount = check_decimal(name, text)
    if amount > MAX_AMOUNT or len(text.partition(".")[2].rstrip("0")) > 12:
        raise TermError(f"{name} must be 0 to {MAX_AMOUNT} with at most 12 decimals, got {text}")
    return int(_EXACT.scaleb(amount, 12))


def half_even(exact: Fraction) -> int:
    """The nearest whole number; a half goes to the even neighbour."""
    return round(exact)
