"""Both sides of a reconciliation read and brought to one grain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from gatemeter.processors.metadata.views import RateTier
from gatemeter.processors.reconciling.grain import Grain, grain_of, renamed, tier, workload
from gatemeter.processors.reconciling.invoiced import BilledLine
from gatemeter.processors.reconciling.metered import QUANTITIES
from gatemeter.processors.reconciling.prices import REQUEST, split_cost
from gatemeter.processors.reconciling.settings import Settings
from gatemeter.processors.reconciling.sides import Charge, Invoiced, Key, Metered, Sides, Traffic, side_of

POLICY: Final = "policy"
"""The token type of decisions that a provider bills; the model is the policy."""


PAYER: Final = ("account", "project", "key_id")


@dataclass(slots=True)
class _Around:
    cancelled: int = 0
    retried: int = 0
    untold: int = 0


class Comparison:
    """Takes lines of the provider first, then what was metered; `sides` has both at one grain.

    `price_of`: the prices of a group of attempts, None where no card has them.
    """

    def __init__(
        self, settings: Settings, calendar: ZoneInfo, price_of: Callable[[Mapping[str, Any]], RateTier | None]
    ):
        self._settings, self._price_of = settings, price_of
        self._day = _days_in(calendar)
        self.grain = Grain(frozenset(), frozenset())
        self._types: Mapping[str, str] = {}
        self._around: dict[tuple[date, str, str, str, str], _Around] = defaultdict(_Around)
        self._largest: dict[tuple[str, str, str, str], dict[str, int]] = defaultdict(dict)
        self.sides = Sides()

    def bill(self, lines: Iterable[BilledLine], repeated: Iterable[BilledLine]) -> None:
        """The provider's side. Must come first: the grain is that of its lines."""
        read = list(lines)
        usage = [line for line in read if line.is_usage]
        models = {self._model_of(line) for line in usage}
        self.grain = grain_of(models, {line.names["token_type"] for line in usage})
        self._types = {name: self.grain.token_type(name) for name in (*QUANTITIES, REQUEST)}
        counted = {(line.day, line.names["account"]) for line in usage if line.names["content"] == "usage"}
        for line in usage:
            self._bill(line, (line.day, line.names["account"]) in counted)
        for line in repeated:
            invoiced = self.sides.invoiced[self._key_of_line(line)]
            invoiced.repeated_quantity += line.quantity or Decimal(0)
            invoiced.repeated_cost += line.amount or 0
        for line in read:
            if not line.is_usage:
                scope = self._settings.scope_of_line(line.names)
                what = line.names["line_item"] or line.names["charge_category"]
                category = line.names["charge_category"]
                self.sides.charges.append(
                    Charge(line.day, scope, category, what, line.amount or 0, self._model_of(line))
                )

    def _bill(self, line: BilledLine, is_counted: bool) -> None:
        invoiced = self.sides.invoiced.setdefault(self._key_of_line(line), Invoiced())
        # An account's usage report counts what its cost report sells: quantities of both are one quantity.
        counts = line.quantity is not None and (line.names["content"] != "cost" or not is_counted)
        quantity = (line.quantity or Decimal(0)) if counts else Decimal(0)
        if counts:
            invoiced.quantity = (invoiced.quantity or Decimal(0)) + quantity
        if line.amount is not None:
            invoiced.cost = (invoiced.cost or 0) + line.amount
            invoiced.lines += line.lines
        payer = "/".join(line.names[name] or "-" for name in PAYER)
        invoiced.payers[payer] = invoiced.payers.get(payer, Decimal(0)) + quantity

    def _model_of(self, line: BilledLine) -> str:
        return renamed(line.names["model"], self._settings.models)

    def _key_of_line(self, line: BilledLine) -> Key:
        names = line.names
        return Key(
            line.day,
            self._settings.scope_of_line(names),
            self._model_of(line),
            self.grain.token_type(names["token_type"]),
            tier(names["service_tier"]),
            workload(names["workload_class"]),
        )

    def meter(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Groups of attempts (`metered.usage_groups`)."""
        for group in groups:
            day, hour = self._day(group["hour_us"])
            costs = split_cost(group, self._price_of(group))
            for name, key in self._keys(group, day, {*costs, *_used(group)}):
                metered = self.sides.metered.setdefault(key, Metered())
                quantity, estimated = _quantity(group, name), int(group.get(f"estimated_{name}") or 0)
                metered.quantity += quantity
                metered.cost += costs.get(name, 0)
                metered.estimated += estimated
                if estimated:
                    metered.estimated_cost += costs.get(name, 0) * estimated // quantity
                metered.by_hour[hour] = metered.by_hour.get(hour, 0) + quantity
            self._add_traffic(group, day)

    def _add_traffic(self, group: Mapping[str, Any], day: date) -> None:
        place = next(self._keys(group, day, [REQUEST]))[1]
        where = (place.scope, place.model, place.service_tier, place.workload_class)
        around = self._around[(day, *where)]
        around.cancelled += group["cancelled"]
        around.retried += group["retried"]
        around.untold += group["untold"]
        largest = self._largest[where]
        for name in _used(group):
            side = side_of(self._types[name])
            largest[side] = max(largest.get(side, 0), group[f"largest_{name}"])

    def meter_twice(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Groups of what a second gateway metered too (`metered.twice_metered`)."""
        for group in groups:
            day, _ = self._day(group["hour_us"])
            for name, key in self._keys(group, day, _used(group)):
                if key in self.sides.metered:
                    self.sides.metered[key].twice += _quantity(group, name)

    def decide(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Groups of decisions that the provider bills (`metered.decision_groups`)."""
        for group in groups:
            day, hour = self._day(group["hour_us"])
            scope = self._settings.scope_of_traffic(group)
            key = Key(day, scope, self.grain.model(group["policy_id"]), POLICY, "", workload(""))
            metered = self.sides.metered.setdefault(key, Metered())
            metered.quantity += group["decisions"]
            metered.cost += group["cost"]
            metered.by_hour[hour] = metered.by_hour.get(hour, 0) + group["decisions"]

    def finish(self, billed_days: frozenset[date], rounded_to: int, *, has_cost: bool, converted: bool) -> None:
        """Completes `sides`. Where no amounts are imported, quantities alone are compared, at the gateway's prices."""
        sides = self.sides
        sides.traffic = {
            place: Traffic(each.cancelled, each.retried, each.untold, self._largest[place[1:]])
            for place, each in self._around.items()
        }
        sides.billed_days, sides.rounded_to, sides.converted = billed_days, rounded_to, converted
        if not has_cost:
            for key, invoiced in sides.invoiced.items():
                metered = sides.metered.get(key)
                if metered is not None and metered.quantity and invoiced.quantity is not None:
                    invoiced.cost = round(Fraction(invoiced.quantity) * metered.cost / metered.quantity)

    def _keys(self, group: Mapping[str, Any], day: date, names: Iterable[str]) -> Iterator[tuple[str, Key]]:
        scope = self._settings.scope_of_traffic(group)
        model = self.grain.model(group["billed_model"])
        place = tier(group["service_tier"]), workload(group["workload_class"])
        for name in names:
            yield name, Key(day, scope, model, self._types[name], *place)


def _used(group: Mapping[str, Any]) -> list[str]:
    return [name for name in QUANTITIES if group[name]]


def _quantity(group: Mapping[str, Any], name: str) -> int:
    return int(group["priced_attempts"] if name == REQUEST else group[name] or 0)


def _days_in(calendar: ZoneInfo) -> Callable[[int], tuple[date, int]]:
    """Day and hour of that day (0 is its first) of an hour of usage in microseconds UTC."""

    @cache
    def day_of(hour_us: int) -> tuple[date, int]:
        at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
        local = at.astimezone(calendar)
        begins = datetime(local.year, local.month, local.day, tzinfo=calendar).astimezone(UTC)
        return local.date(), (at - begins) // timedelta(hours=1)

    return day_of
