"""Budgets: what a tenant or a cost centre may spend a month, how much it has spent, and where it is heading.

A budget tells and never blocks. 800 of 1,000 spent crosses a threshold of 80 %; 799.99 does not.

The forecast of a running month: what its whole days (UTC) cost, and for each day that is left, today counted whole, the
mean of the last seven whole days (those of the month before too, but none before the first day of metering); never less
than what is spent. 700 spent in the last seven whole days and ten days left forecast another 1,000. Without any whole
day there is no forecast; of a month that is over it is what was spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from gatemeter.sinks.terms.dated import (
    Term,
    TermError,
    check_amount,
    check_choice,
    check_currency,
    check_text,
    dates_of,
    half_even,
    newest,
)
from gatemeter.sinks.terms.months import Month, day_of

SCOPES: Final = ("tenant", "cost_centre")
MEAN_DAYS: Final = 7
MAX_THRESHOLDS: Final = 20
MAX_PERCENT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Budget(Term):
    """`thresholds`: per cent of `amount_pico`, rising. Only charges in `currency` count."""

    budget_id: str
    scope: str
    subject: str
    amount_pico: int
    currency: str
    thresholds: tuple[int, ...]
    owner: str

    def crossed(self, spend_pico: int) -> tuple[int, ...]:
        """The thresholds that a spend has reached."""
        return tuple(percent for percent in self.thresholds if 100 * spend_pico >= percent * self.amount_pico)

    def percent(self, spend_pico: int) -> Decimal:
        """The spend in per cent of the limit, half-even to two decimals."""
        return Decimal(half_even(Fraction(10_000 * spend_pico, self.amount_pico))).scaleb(-2)


def budget_of(datum: Mapping[str, Any]) -> Budget:
    """The budget of a decoded record. Raises `TermError`, naming the field and the range."""
    thresholds = tuple(datum["thresholds"])
    rising = all(low < high for low, high in pairwise(thresholds))
    within = all(1 <= percent <= MAX_PERCENT for percent in thresholds)
    if not (0 < len(thresholds) <= MAX_THRESHOLDS and rising and within):
        accepted = f"1 to {MAX_THRESHOLDS} rising whole per cents of 1 to {MAX_PERCENT}"
        raise TermError(f"thresholds must be {accepted}, got {list(thresholds)}")
    amount_pico = check_amount("amount", datum["amount"])
    if not amount_pico:
        raise TermError(f"amount must be above 0, got {datum['amount']}")
    return Budget(
        check_text("budget_id", datum["budget_id"]),
        check_choice("scope", datum["scope"], SCOPES),
        check_text("subject", datum["subject"]),
        amount_pico,
        check_currency("currency", datum["currency"]),
        thresholds,
        check_text("owner", datum["owner"]),
        **dates_of(datum),
    )


def forecast(days: Mapping[date, int], month: Month, now_us: int, first_day: date | None) -> int | None:
    """The month's spend as it will be, 10⁻¹² units, rounded half-even once; None where no day is whole yet.

    `days`: spend by day of the month and of the seven days before it. `first_day`: the first of metering, None: never.
    """
    start, after, today = month.first, day_of(month.end_us), day_of(now_us)
    spent = sum(pico for day, pico in days.items() if start <= day < after)
    if today >= after:
        return spent
    if today < start or first_day is None:
        return None
    mean_of = [today - timedelta(days=back) for back in range(1, MEAN_DAYS + 1)]
    whole = [day for day in mean_of if day >= first_day]
    if not whole:
        return None
    so_far = sum(pico for day, pico in days.items() if start <= day < today)
    to_come = Fraction(sum(days.get(day, 0) for day in whole) * (after - today).days, len(whole))
    return max(spent, so_far + half_even(to_come))


def version_for(versions: Iterable[Budget], month: Month, now_us: int) -> Budget | None:
    """The version that counts in a month: in force at its last instant, of a running month now."""
    return newest(versions, min(now_us, month.end_us - 1))
