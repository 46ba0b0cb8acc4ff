"""From differences of quantity to money: every key's variance becomes findings that add up to it exactly.

A variance is what the provider bills beyond the gateway's cost. It has a part for each part of the quantity, at the
provider's price of one unit, and the rest is a matter of price. Where the rest is no more than the provider's rounding,
the gateway's own price values the quantities and the rest is rounding: 1,000,000 tokens at 2.50 a million, billed as
2.50, has none; billed as 2.51 by a provider that rounds to cents, 0.01 of a price difference, since a line is off by
half a cent at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

from gatemeter.processors.reconciling.causes import CATEGORIES
from gatemeter.processors.reconciling.quantities import Part, explain
from gatemeter.processors.reconciling.sides import Charge, Finding, Invoiced, Key, Metered, Sides, Tolerances

OtherPrices = Callable[[Key], Mapping[str, int]]
"""By tier and class ('flex realtime') what the rate card asks for one unit of a key's token type elsewhere, 10⁻¹²."""

_PAYERS: Final = 5
_DIGITS: Final = Context(prec=12)
_DAYS_OF_A_PRICE: Final = 3
_SAME_RATE_PPM: Final = 1_000
"""How far apart two ratios may be that come from one exchange rate or one price, in millionths."""


def findings(sides: Sides, tolerances: Tolerances, other_prices: OtherPrices = lambda _: {}) -> list[Finding]:
    """The findings of both sides, by key, and of the charges that belong to no use."""
    return [*_Findings(sides, tolerances, other_prices).all(), *map(_of_charge, sides.charges)]


def variance(sides: Sides, key: Key) -> int:
    """What the provider bills of a key beyond the gateway's cost."""
    metered, invoiced = sides.metered.get(key), sides.invoiced.get(key)
    billed = 0 if invoiced is None or invoiced.cost is None else invoiced.cost
    return billed - (0 if metered is None else metered.cost)


def _of_charge(charge: Charge) -> Finding:
    evidence = {"category": charge.category, "what": charge.what}
    cause = CATEGORIES[charge.category]
    return Finding(cause, charge.day, charge.scope, charge.amount, None, None, charge.model, evidence)


@dataclass(frozen=True, slots=True)
class _Priced:
    """A key whose quantities are known. `ours`, `theirs`: price of one unit, None where nobody knows it."""

    key: Key
    variance: int
    metered_quantity: int
    invoiced_quantity: Fraction
    ours: Fraction | None
    theirs: Fraction | None
    off: Fraction
    """What the invoice's quantity costs there beyond what it would cost here."""

    step: Fraction
    """How much of that is the provider's rounding."""

    allowed: Fraction
    """The same and what the settings let pass."""


class _Findings:
    def __init__(self, sides: Sides, tolerances: Tolerances, other_prices: OtherPrices) -> None:
        self._sides, self._tolerances, self._other_prices = sides, tolerances, other_prices
        self._repriced = _repriced(sides)
        self._usual = _usual_prices(sides)
        self._priced = {key: self._price(key) for key in sides.all_keys()}
        self._ratios = self._common_ratios()

    def all(self) -> Iterator[Finding]:
        left = {key: priced.invoiced_quantity - priced.metered_quantity for key, priced in self._priced.items()}
        parts = explain(self._sides, left, self._tolerances)
        for key, priced in self._priced.items():
            yield from self._of_key(priced, parts.get(key, []))

    def _price(self, key: Key) -> _Priced:
        metered = self._sides.metered.get(key) or Metered()
        invoiced = self._sides.invoiced.get(key) or Invoiced()
        ours = Fraction(metered.cost, metered.quantity) if metered.quantity else self._usual.get(key.series)
        quantity = self._quantity(key, metered, invoiced, ours)
        cost = invoiced.cost or 0
        theirs = cost / quantity if quantity and invoiced.cost is not None else None
        off = Fraction(0) if ours is None else cost - quantity * ours
        step = Fraction(invoiced.lines * self._sides.rounded_to, 2)
        allowed = step + self._tolerances.amount
        return _Priced(key, variance(self._sides, key), metered.quantity, quantity, ours, theirs, off, step, allowed)

    def _quantity(self, key: Key, metered: Metered, invoiced: Invoiced, ours: Fraction | None) -> Fraction:
        """Where a provider tells amounts alone: as much as they buy at our price; without a price, one thing."""
        if invoiced.quantity is not None:
            return Fraction(invoiced.quantity)
        if invoiced.cost is None:
            return Fraction(0)
        if not ours:
            return Fraction(metered.quantity or 1)
        exact = abs(invoiced.cost - metered.cost) * 2 <= invoiced.lines * self._sides.rounded_to
        if exact or key.series in self._repriced:
            return Fraction(metered.quantity)
        return Fraction(invoiced.cost) / ours

    def _common_ratios(self) -> dict[str, Fraction]:
        """By scope the middle one of what the provider's price is of ours, where all are as good as equal."""
        ratios: dict[str, list[Fraction]] = defaultdict(list)
        for key, priced in self._priced.items():
            if priced.ours and priced.theirs and abs(priced.off) > priced.allowed:
                ratios[key.scope].append(priced.theirs / priced.ours)
        middles = {scope: sorted(found)[len(found) // 2] for scope, found in ratios.items()}
        return {
            scope: middle
            for scope, middle in middles.items()
            if sum(_near(ratio, middle) for ratio in ratios[scope]) * 2 > len(ratios[scope])
        }

    def _of_key(self, priced: _Priced, parts: list[Part]) -> Iterator[Finding]:
        if not parts and not priced.variance:
            return
        rounded = priced.ours is not None and abs(priced.off) <= priced.allowed
        unit = priced.ours if rounded or priced.theirs is None else priced.theirs
        amounts = [round(part.quantity * (unit or 0)) for part in parts]
        left = priced.variance - sum(amounts)
        # What rounding each part to 10⁻¹² left over, or the whole where nobody knows a price, is the last part's.
        if parts and (priced.ours is None or abs(left) <= len(parts)):
            amounts[-1] += left
            left = 0
        for part, amount in zip(parts, amounts, strict=True):
            evidence = part.evidence
            if part.cause == "unmetered":
                evidence = {"billed_to": self._payers(priced.key), **evidence}
            yield self._finding(priced.key, part.cause, amount, part.quantity, evidence)
        if left:
            yield self._of_price(priced, left, rounded=rounded)

    def _payers(self, key: Key) -> list[str]:
        """The accounts, projects and keys with the most of a key's use, each with its quantity."""
        payers = self._sides.invoiced[key].payers
        most = sorted(payers, key=lambda payer: (-payers[payer], payer))[:_PAYERS]
        return [f"{payer} {payers[payer].normalize():f}" for payer in most]

    def _of_price(self, priced: _Priced, amount: int, *, rounded: bool) -> Finding:
        """What is left when all quantities are valued is a matter of price."""
        key = priced.key
        if rounded or abs(amount) <= priced.allowed:
            is_tolerated = self._tolerances.amount > 0 and abs(amount) > priced.step
            return self._finding(key, "within_tolerance" if is_tolerated else "rounding", amount, None, {})
        invoiced = self._sides.invoiced.get(key) or Invoiced()
        if invoiced.repeated_cost and abs(amount - invoiced.repeated_cost) <= priced.allowed:
            return self._finding(key, "duplicate", amount, None, {"billed_twice_pico": str(invoiced.repeated_cost)})
        ours, theirs = priced.ours or Fraction(0), priced.theirs or Fraction(0)
        evidence = {"rate_card_pico": _text(ours), "invoice_pico": _text(theirs)}
        if priced.theirs is None:
            return self._finding(key, "missing_provider_line", amount, None, {**evidence, "billed": "a quantity alone"})
        if not theirs:
            return self._finding(key, "credit", amount, None, {**evidence, "free_quantity": priced.metered_quantity})
        common = self._ratios.get(key.scope)
        if self._sides.converted and common is not None and ours and _near(theirs / ours, common):
            return self._finding(key, "fx", amount, None, {**evidence, "ratio": _text(common)})
        for place, price in self._other_prices(key).items():
            if price and _near(theirs, Fraction(price)) and not _near(ours, Fraction(price)):
                return self._finding(key, "tier_or_batch", amount, None, {**evidence, "billed_as": place})
        return self._finding(key, "price_difference", amount, None, evidence)

    def _finding(
        self, key: Key, cause: str, amount: int, quantity: Fraction | None, evidence: Mapping[str, Any]
    ) -> Finding:
        return Finding(cause, key.day, key.scope, amount, quantity, key, key.model, evidence)


def _usual_prices(sides: Sides) -> dict[tuple[str, ...], Fraction]:
    """What one unit of a series costs over all days: the price on days on which nothing was metered."""
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for key, metered in sides.metered.items():
        sums[key.series][0] += metered.cost
        sums[key.series][1] += metered.quantity
    return {series: Fraction(cost, quantity) for series, (cost, quantity) in sums.items() if quantity}


def _repriced(sides: Sides) -> set[tuple[str, ...]]:
    """Series of which a provider tells amounts alone, and they are the same multiple of ours on three days or more."""
    ratios: dict[tuple[str, ...], list[Fraction]] = defaultdict(list)
    for key, invoiced in sides.invoiced.items():
        metered = sides.metered.get(key)
        if invoiced.quantity is None and invoiced.cost and metered is not None and metered.cost:
            ratios[key.series].append(Fraction(invoiced.cost, metered.cost))
    return {
        series
        for series, found in ratios.items()
        if len(found) >= _DAYS_OF_A_PRICE and all(_near(ratio, found[0]) for ratio in found)
    }


def _near(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) * 1_000_000 <= abs(other) * _SAME_RATE_PPM


def _text(value: Fraction) -> str:
    """A price or ratio for people, to twelve digits."""
    return f"{_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize():f}"
