"""Where quantities differ: which part of each difference has which cause.

A difference is what the provider counts beyond the gateway. The rules run in the order of `RULES`; each takes its part
of what is left, and what no rule takes is unmetered use (more) or a missing provider line (less). A rule takes a part
only where the records of that very key carry it: a stolen key is never explained away by a cancelled stream elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gatemeter.processors.reconciling.sides import Key, Sides, Tolerances

DAY: Final = timedelta(days=1)
_MAX_SHIFT_HOURS: Final = 14


@dataclass(slots=True)
class Part:
    """A part of a key's difference."""

    cause: str
    quantity: Fraction
    evidence: dict[str, Any] = field(default_factory=dict)


class Differences:
    """What is left of the difference of each key, and the parts that were taken."""

    def __init__(self, left: Mapping[Key, Fraction]) -> None:
        self.left = {key: quantity for key, quantity in left.items() if quantity}
        self.parts: dict[Key, list[Part]] = defaultdict(list)

    def take(self, key: Key, cause: str, quantity: Fraction, **evidence: Any) -> None:
        """Takes `quantity` of what is left of a key."""
        if not quantity:
            return
        self.parts[key].append(Part(cause, quantity, evidence))
        rest = self.left.get(key, Fraction(0)) - quantity
        if rest:
            self.left[key] = rest
        else:
            self.left.pop(key, None)

    def by_series(self) -> dict[tuple[str, ...], list[Key]]:
        """The keys with a difference, by series, in order of days."""
        found: dict[tuple[str, ...], list[Key]] = defaultdict(list)
        for key in sorted(self.left):
            found[key.series].append(key)
        return found


def explain(sides: Sides, left: Mapping[Key, Fraction], tolerances: Tolerances) -> dict[Key, list[Part]]:
    """The parts of each key's difference; they add up to it."""
    differences = Differences(left)
    for rule in RULES:
        rule(sides, differences, tolerances)
    return dict(differences.parts)


def _metered_twice(sides: Sides, differences: Differences, _: Tolerances) -> None:
    """Two gateways metered one call, and no authority is set between them: the gateways say more by just that."""
    for key, quantity in list(differences.left.items()):
        twice = sides.metered[key].twice if key in sides.metered else 0
        if twice and quantity <= -twice:
            differences.take(key, "duplicate", Fraction(-twice), metered_twice=twice)


def _billed_twice(sides: Sides, differences: Differences, _: Tolerances) -> None:
    """A line of the export is there again, byte by byte, and the provider counts more by at least that."""
    for key, quantity in list(differences.left.items()):
        repeated = Fraction(sides.invoiced[key].repeated_quantity) if key in sides.invoiced else Fraction(0)
        if repeated and quantity >= repeated:
            differences.take(key, "duplicate", repeated, billed_twice=str(sides.invoiced[key].repeated_quantity))


def _other_tier(_: Sides, differences: Differences, __: Tolerances) -> None:
    """The provider counts in one tier or class what the gateway counts in another, on the same day."""
    groups: dict[tuple[Any, ...], list[Key]] = defaultdict(list)
    for key in sorted(differences.left):
        groups[key[:4]].append(key)
    for keys in groups.values():
        more = [key for key in keys if differences.left[key] > 0]
        less = [key for key in keys if differences.left[key] < 0]
        for here in more:
            for there in less:
                quantity = min(differences.left.get(here, Fraction(0)), -differences.left.get(there, Fraction(0)))
                if quantity > 0:
                    differences.take(here, "tier_or_batch", quantity, metered_as=_place(there))
                    differences.take(there, "tier_or_batch", -quantity, billed_as=_place(here))


def _place(key: Key) -> str:
    return f"{key.service_tier or 'standard'} {key.workload_class}"


def _time_zone(sides: Sides, differences: Differences, _: Tolerances) -> None:
    """The provider's day begins some hours earlier or later than the calendar says: in each scope one shift for all."""
    scopes: dict[str, list[Key]] = defaultdict(list)
    for key in sides.all_keys():
        scopes[key.scope].append(key)
    hours = _Hours(sides)
    for keys in scopes.values():
        billed = [key for key in keys if key in sides.invoiced and sides.invoiced[key].lines]
        shift = _shift(hours, differences, billed)
        if shift is None:
            continue
        for key in keys:
            moved, left = hours.moved(key, shift), differences.left.get(key, Fraction(0))
            if abs(left - moved) < abs(left):
                differences.take(key, "time_zone_edge", moved, provider_day_begins_hours_later=shift)


def _shift(hours: _Hours, differences: Differences, keys: list[Key]) -> int | None:
    """The shift in hours that makes most of the differences exactly; None where none makes two of them, and half of
    what it says of all keys. `keys`: those with a line; that a day is not billed at all does not tell where it went."""
    left = {key: differences.left[key] for key in keys if key in differences.left}
    best: tuple[int, int] | None = None
    for shift in sorted(range(-_MAX_SHIFT_HOURS, _MAX_SHIFT_HOURS + 1), key=lambda hour: (abs(hour), hour)):
        exact = sum(quantity == hours.moved(key, shift) for key, quantity in left.items()) if shift else 0
        if exact < 2 or (best is not None and exact <= best[0]):
            continue
        told = sum(key in left or hours.moved(key, shift) != 0 for key in keys)
        if 2 * exact >= told:
            best = (exact, shift)
    return None if best is None else best[1]


class _Hours:
    """Quantities near midnight."""

    def __init__(self, sides: Sides) -> None:
        self._metered = sides.metered

    def moved(self, key: Key, shift: int) -> Fraction:
        """What a key gains where its day begins `shift` hours later: the first hours of the next day, less its own."""
        if shift > 0:
            return self._first(key._replace(day=key.day + DAY), shift) - self._first(key, shift)
        return self._last(key._replace(day=key.day - DAY), -shift) - self._last(key, -shift)

    def _first(self, key: Key, hours: int) -> Fraction:
        metered = self._metered.get(key)
        return Fraction(sum(metered.by_hour.get(hour, 0) for hour in range(hours)) if metered else 0)

    def _last(self, key: Key, hours: int) -> Fraction:
        metered = self._metered.get(key)
        return Fraction(sum(metered.by_hour.get(hour, 0) for hour in range(24 - hours, 25)) if metered else 0)


def _later(sides: Sides, differences: Differences, tolerances: Tolerances) -> None:
    """What a day lacks is there some days later, as it was; or the last days of the export lack it still."""
    for keys in differences.by_series().values():
        for key in keys:
            lacking = -differences.left.get(key, Fraction(0))
            if lacking <= 0:
                continue
            for days in range(1, tolerances.late_days + 1):
                later = key._replace(day=key.day + days * DAY)
                if differences.left.get(later) == lacking:
                    differences.take(key, "late_usage", -lacking, billed_on=later.day.isoformat())
                    differences.take(later, "late_usage", lacking, used_on=key.day.isoformat())
                    break
            else:
                _still_to_come(sides, differences, key)


def _still_to_come(sides: Sides, differences: Differences, key: Key) -> None:
    """A part of the last day that the export covers may follow with the next days; a whole series that lacks does
    not."""
    last = max(sides.billed_days, default=None)
    invoiced = sides.invoiced.get(key)
    if key.day == last and invoiced is not None and invoiced.lines:
        differences.take(key, "late_usage", differences.left[key], export_ends=key.day.isoformat())


def _keys_of_others(sides: Sides, differences: Differences, _: Tolerances) -> None:
    """A key of the provider all of whose use is beyond what gateways metered, each time that it was billed, is none of
    theirs: failed attempts of others do not explain it. Never the only one that is billed in its scope."""
    used: dict[tuple[str, str], dict[Key, Decimal]] = defaultdict(dict)
    for key in sides.all_keys():
        payers = sides.invoiced[key].payers if key in sides.invoiced else {}
        for payer, quantity in payers.items():
            if quantity > 0:
                used[key.scope, payer][key] = quantity
    billed = Counter(scope for scope, _ in used)
    for (scope, payer), quantities in sorted(used.items(), key=lambda each: (-sum(each[1].values()), each[0])):
        beyond = all(differences.left.get(key, Fraction(0)) >= quantity for key, quantity in quantities.items())
        if not beyond or billed[scope] == 1:
            continue
        for key, quantity in quantities.items():
            differences.take(key, "unmetered", Fraction(quantity), billed_to=[f"{payer} {quantity.normalize():f}"])


def _estimated(sides: Sides, differences: Differences, tolerances: Tolerances) -> None:
    """Our estimates are off by no more than the settings allow."""
    for key, quantity in list(differences.left.items()):
        estimated = sides.metered[key].estimated if key in sides.metered else 0
        if estimated and abs(quantity) * 100 <= estimated * tolerances.estimated_percent:
            differences.take(key, "estimated_tokens", quantity, estimated=estimated)


def _unknown_attempts(sides: Sides, differences: Differences, _: Tolerances) -> None:
    """Attempts whose usage nobody told were billed: no more than as many as there are, each as large as the largest.

    More than that is not theirs, and then none of it is: it is unmetered, whole. Each kind has its part by its number.
    """
    for key, quantity in list(differences.left.items()):
        traffic = sides.around(key)
        if quantity <= 0 or not traffic.attempts or quantity > traffic.at_most(key.token_type):
            continue
        kinds = (
            ("cancelled_streams", traffic.cancelled),
            ("retries_charged", traffic.retried),
            ("estimated_tokens", traffic.untold),
        )
        left, among = quantity, traffic.attempts
        for cause, attempts in kinds:
            part = left if attempts == among else Fraction(int(left * attempts / among))
            differences.take(key, cause, part, attempts=attempts)
            left, among = left - part, among - attempts


def _tolerated(sides: Sides, differences: Differences, tolerances: Tolerances) -> None:
    for key, quantity in list(differences.left.items()):
        invoiced = sides.invoiced.get(key)
        if invoiced is None or invoiced.quantity is None:
            continue
        if abs(quantity) * 1_000_000 <= Fraction(invoiced.quantity) * tolerances.quantity_ppm:
            differences.take(key, "within_tolerance", quantity)


def _the_rest(_: Sides, differences: Differences, __: Tolerances) -> None:
    for key, quantity in list(differences.left.items()):
        differences.take(key, "unmetered" if quantity > 0 else "missing_provider_line", quantity)


Rule = Callable[[Sides, Differences, Tolerances], None]
RULES: Final[Iterable[Rule]] = (
    _tolerated,
    _metered_twice,
    _billed_twice,
    _time_zone,
    _other_tier,
    _later,
    _keys_of_others,
    _estimated,
    _unknown_attempts,
    _the_rest,
)
