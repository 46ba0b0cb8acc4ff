"""Exchange rates: what one currency is in another at an instant, for statements only. Stored amounts never change.

The rate of the pair itself goes before the inverse one (USD → EUR may be said as 1 EUR = 1.08 USD: then it is divided,
exactly). There is no way over a third currency, and no rate is ever taken for 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gatemeter.sinks.terms.dated import Term, TermError, check_decimal, check_text, dates_of, newest
from gatemeter.sinks.terms.months import Month, utc_text

MAX_RATE: Final = 10**9
_PAIR: Final = re.compile(r"([A-Z]{3})/([A-Z]{3})")


class NoRate(Exception):
    """No rate of a pair at an instant; the text says which and how to add one."""

    def __init__(self, base: str, quote: str, at_us: int) -> None:
        super().__init__(
            f"there is no exchange rate {base}/{quote} (nor {quote}/{base}) at {utc_text(at_us)}: "
            "add one with gatemeter fx apply"
        )
        self.base, self.quote, self.at_us = base, quote, at_us


@dataclass(frozen=True, slots=True)
class FxRate(Term):
    """One unit of `base` is `rate` units of `quote`."""

    base: str
    quote: str
    rate: Decimal
    source: str

    @property
    def pair(self) -> str:
        """BASE/QUOTE."""
        return f"{self.base}/{self.quote}"


@dataclass(frozen=True, slots=True)
class Conversion:
    """How amounts of `base` become amounts of `quote`: by `rate`, of the pair or of its inverse.

    `as_of_us`: the instant that was asked for.
    """

    base: str
    quote: str
    rate: FxRate
    as_of_us: int

    @property
    def factor(self) -> Fraction:
        """Units of the quote in a unit of the base, exactly."""
        rate = Fraction(self.rate.rate)
        return rate if self.rate.base == self.base else 1 / rate

    @property
    def text(self) -> str:
        """The rate for people, with date and source."""
        rate = self.rate
        ended = rate.effective_to_us is not None and rate.effective_to_us <= self.as_of_us
        until = f", the last known one, which ended {utc_text(rate.effective_to_us or 0)}" if ended else ""
        return (
            f"1 {rate.base} = {rate.rate:f} {rate.quote}, in force from {utc_text(rate.effective_from_us)}{until}, "
            f"source: {rate.source}"
        )


def fx_rate_of(datum: Mapping[str, Any]) -> FxRate:
    """The rate of a decoded record. Raises `TermError`, naming the field and the range."""
    match = _PAIR.fullmatch(datum["pair"])
    if match is None or match[1] == match[2]:
        raise TermError(f"pair must be two different ISO 4217 codes such as USD/EUR, got {datum['pair']!r}")
    rate = check_decimal("rate", datum["rate"])
    if not 0 < rate <= MAX_RATE:
        raise TermError(f"rate must be above 0 and at most {MAX_RATE}, got {datum['rate']}")
    return FxRate(match[1], match[2], rate, check_text("source", datum["source"]), **dates_of(datum))


class Exchange:
    """All published rates."""

    def __init__(self, rates: Iterable[FxRate]) -> None:
        self._by_pair: dict[str, list[FxRate]] = {}
        for rate in rates:
            self._by_pair.setdefault(rate.pair, []).append(rate)

    def at_end_of(self, month: Month, base: str, quote: str, now_us: int) -> Conversion:
        """The rate in force at the end of a month; while it runs, the one in force now, else the last known one.

        Raises `NoRate`.
        """
        running = now_us < month.end_us
        at_us = now_us if running else month.end_us - 1
        pairs = [self._by_pair.get(f"{base}/{quote}", ()), self._by_pair.get(f"{quote}/{base}", ())]
        found = next(filter(None, (newest(rates, at_us) for rates in pairs)), None)
        if found is None and running:
            found = next(filter(None, (_last_known(rates, at_us) for rates in pairs)), None)
        if found is None:
            raise NoRate(base, quote, at_us)
        return Conversion(base, quote, found, at_us)


def _last_known(rates: Sequence[FxRate], at_us: int) -> FxRate | None:
    """Of the rates that began before an instant the one that ended last."""
    begun = [rate for rate in rates if rate.effective_from_us <= at_us]
    return max(begun, key=lambda rate: (rate.effective_to_us or at_us, rate.effective_from_us), default=None)
