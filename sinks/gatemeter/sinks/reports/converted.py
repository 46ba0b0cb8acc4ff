"""The statement in another currency: by the exchange rate at the end of the month, rounded so that lines add up.

Stored amounts never change, and each line keeps the currency that it is stored in beside the converted amounts. The
total of a month is exact, then rounded half-even once; lines get it by largest remainder (ties by tenant, then stored
currency), and components get their line's total in the same way. 0.334 + 0.333 + 0.333 EUR are 0.34 + 0.33 + 0.33 = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from gatemeter.sinks.reports.cents import PICO_DIGITS, apportion, minor_digits, round_half_even
from gatemeter.sinks.reports.statement import StatementLine
from gatemeter.sinks.terms.commitments import Settlement
from gatemeter.sinks.terms.exchange import Conversion, Exchange
from gatemeter.sinks.terms.months import Month, month_of


@dataclass(frozen=True, slots=True)
class ConvertedLine:
    """`stored` in `currency`. `cents` by component, absorbed, total and retry_cost, in the currency's smallest unit.

    `conversion` None: it is stored in this currency, or nothing had a price.
    """

    stored: StatementLine
    currency: str
    conversion: Conversion | None
    cents: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ConvertedSettlement:
    """`stored` in `currency`. `cents`: fee, used, unused and overage; used + unused − overage = fee."""

    stored: Settlement
    currency: str
    conversion: Conversion | None
    cents: Mapping[str, int]


class Converter:
    """To one currency, each month by the rate at its end. `now_us` says which month runs."""

    def __init__(self, exchange: Exchange, currency: str, now_us: int) -> None:
        self.currency = currency
        self._exchange, self._now_us = exchange, now_us

    def lines(self, lines: Sequence[StatementLine]) -> list[ConvertedLine]:
        """Lines month by month. Raises `NoRate` where a stored currency has no rate."""
        months = sorted({line.month for line in lines})
        return [
            converted
            for month in months
            for converted in self._month(month, [line for line in lines if line.month == month])
        ]

    def settlements(self, settlements: Iterable[Settlement]) -> list[ConvertedSettlement]:
        """The same of commitments. Raises `NoRate`."""
        return [self._settlement(settlement) for settlement in settlements]

    def _month(self, first: date, lines: Sequence[StatementLine]) -> list[ConvertedLine]:
        month = month_of(f"{first:%Y-%m}")
        conversions = [self._conversion(month, line.currency) for line in lines]
        parts = [_converted(line.parts(), conversion) for line, conversion in zip(lines, conversions, strict=True)]
        keys = [f"{line.tenant_id}\0{line.currency}" for line in lines]
        exact = {key: sum(amounts.values(), Fraction(0)) for key, amounts in zip(keys, parts, strict=True)}
        totals = apportion(exact, self.currency)
        return [
            ConvertedLine(line, self.currency, conversion, self._cents(line, conversion, amounts, totals[key]))
            for line, conversion, amounts, key in zip(lines, conversions, parts, keys, strict=True)
        ]

    def _cents(
        self, line: StatementLine, conversion: Conversion | None, parts: Mapping[str, Fraction], total: int
    ) -> dict[str, int]:
        cents = apportion(parts, self.currency, total)
        retries = _converted({"retry_cost": line.pico["retry_cost"]}, conversion)["retry_cost"]
        return cents | {
            "absorbed": -cents["absorbed"],
            "total": total,
            "retry_cost": round_half_even(retries, self._unit_pico),
        }

    @property
    def _unit_pico(self) -> int:
        unit: int = 10 ** (PICO_DIGITS - minor_digits(self.currency))
        return unit

    def _settlement(self, settlement: Settlement) -> ConvertedSettlement:
        conversion = self._conversion(settlement.month, settlement.currency)
        stored = {"used": settlement.used_pico, "unused": settlement.unused_pico, "overage": -settlement.overage_pico}
        cents = apportion(_converted(stored, conversion), self.currency)
        fee = sum(cents.values())
        return ConvertedSettlement(
            settlement, self.currency, conversion, cents | {"overage": -cents["overage"], "fee": fee}
        )

    def _conversion(self, month: Month, stored: str) -> Conversion | None:
        if stored in ("", self.currency):
            return None
        return self._exchange.at_end_of(month, stored, self.currency, self._now_us)


def _converted(pico: Mapping[str, int], conversion: Conversion | None) -> dict[str, Fraction]:
    factor = Fraction(1) if conversion is None else conversion.factor
    return {name: amount * factor for name, amount in pico.items()}
