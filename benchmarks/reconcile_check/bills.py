"""What each provider bills for the month: true at first; each planted difference changes it and says what must be
found."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Final

from benchmarks.exports import Line
from benchmarks.reconcile_check.world import DAYS, PROVIDERS, Card, Use

PICO: Final = Decimal(10) ** 12
EXPORTED: Final = {
    "input_text_uncached": "input_text_uncached",
    "input_text_cache_read": "input_text_cache_read",
    "output_text_visible": "output_total",
    "output_text_reasoning": "output_total",
}
"""What exports count our buckets in."""

PRICED_AS: Final = {name: bucket for bucket, name in reversed(EXPORTED.items())}
OUR_RATE: Final = Decimal("1.08")
"""USD for one EUR, as published to gatemeter."""

THEIR_RATE: Final = Decimal("1.10")
"""USD for one EUR, as Azure's bill was converted."""

ROUNDED_TO: Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a finding must be. `token_type` '' and `model` '': a charge without use."""

    provider: str
    cause: str
    day: date
    project: str
    model: str
    token_type: str
    workload_class: str = "realtime"


@dataclass(slots=True)
class Plant:
    """One planted difference: what must be found where, in 10⁻¹² of the gateway's currency."""

    kind: str
    expected: dict[Place, int] = field(default_factory=lambda: defaultdict(int))


class Bills:
    """Lines by provider and the plants. Lines are exact: amounts are quantity × price."""

    def __init__(self, card: Card, used: list[Use], seed: int) -> None:
        self.card, self.used = card, used
        self.plants: list[Plant] = []
        self._rng = random.Random(seed)
        self._shifted: set[tuple[str, str]] = set()
        self.lines: dict[str, list[Line]] = {name: [] for name in PROVIDERS}

    def plant(self, kind: str) -> Plant:
        """A new planted difference."""
        self.plants.append(Plant(kind))
        return self.plants[-1]

    def bill(self) -> None:
        """What providers bill for the uses, which must be complete: `billed_tokens` where they differ."""
        for name in PROVIDERS:
            self.lines[name] = self._true_lines(name)

    def _true_lines(self, name: str) -> list[Line]:
        provider = PROVIDERS[name]
        sums: dict[tuple[date, str, str, str], int] = defaultdict(int)
        for use in self.used:
            if use.provider != name:
                continue
            calendar = "UTC" if (name, use.project) in self._shifted else provider.calendar
            for bucket, quantity in (use.billed_tokens or use.tokens).items():
                sums[use.day(calendar), use.project, use.model, EXPORTED[bucket]] += quantity
        return [
            Line(
                day,
                model,
                token_type,
                quantity,
                self.amount(name, model, token_type, quantity),
                account=provider.account,
                project=provider.project(project),
                key_id=f"key_{project}",
                region=provider.region,
            )
            for (day, project, model, token_type), quantity in sorted(sums.items())
            if quantity and day in DAYS
        ]

    def pico(
        self, provider: str, model: str, token_type: str, quantity: int | Fraction, workload_class: str = ""
    ) -> int:
        """A quantity at the card's price, 10⁻¹²."""
        return round(quantity * self.card.price(provider, model, PRICED_AS[token_type], workload_class))

    def amount(self, provider: str, model: str, token_type: str, quantity: int, workload_class: str = "") -> Decimal:
        """The same in currency units."""
        return Decimal(self.pico(provider, model, token_type, quantity, workload_class)).scaleb(-12)

    def change(
        self, provider: str, chosen: Callable[[Line], bool], changed: Callable[[Line], Iterable[Line]]
    ) -> list[Line]:
        """Puts `changed(line)` in the place of each chosen line; the lines that were chosen."""
        before = [line for line in self.lines[provider] if chosen(line)]
        self.lines[provider] = [
            new for line in self.lines[provider] for new in (changed(line) if chosen(line) else (line,))
        ]
        return before

    def shift(self, provider: str, project: str) -> None:
        """The provider exports a project in UTC days, whatever its calendar is."""
        self._shifted.add((provider, project))


def place(provider: str, cause: str, line: Line) -> Place:
    """Where a finding about a line must be."""
    project = line.project.removeprefix(f"{provider}-")
    return Place(provider, cause, line.day, project, line.model, line.token_type, line.workload_class or "realtime")


def pico(amount: Decimal | None) -> int:
    """Currency units as 10⁻¹²."""
    return int((amount or Decimal(0)) * PICO)


def rounded(amount: Decimal) -> Decimal:
    """As a provider rounds that bills millionths."""
    return amount.quantize(ROUNDED_TO, ROUND_HALF_EVEN)


def later(line: Line, days: int) -> Line:
    """The line on a later day."""
    return replace(line, day=line.day + timedelta(days=days))
