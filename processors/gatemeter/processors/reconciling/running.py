"""One reconciliation: a provider's period, read from ClickHouse, compared, every difference with a cause.

Days before and after the period are read too, because what a provider counts on another day lies there; findings are
those of the period's own days.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from gatemeter.processors.reconciling.amounts import findings
from gatemeter.processors.reconciling.comparing import Comparison
from gatemeter.processors.reconciling.grain import Grain
from gatemeter.processors.reconciling.invoiced import (
    Covered,
    Days,
    billed_lines,
    calendars,
    covered,
    repeated_lines,
    rounded_to,
)
from gatemeter.processors.reconciling.metered import Span, decision_groups, twice_metered, usage_groups
from gatemeter.processors.reconciling.prices import Prices, published_prices
from gatemeter.processors.reconciling.settings import ReconcileError, Settings, calendar_of
from gatemeter.processors.reconciling.sides import Finding, Key, Sides
from gatemeter.sinks.rows import query_rows
from gatemeter.sinks.terms.months import Month, month_of
from gatemeter.sinks.terms.published import exchange

ALL_CLASSES: Final = ""
WORKLOAD_CLASSES: Final = ("realtime", "batch")
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is reconciled. `period`: YYYY-MM in the provider's calendar. `workload_class` and `currency`: '' is all, and
    the one that there is."""

    provider: str
    period: str
    workload_class: str = ALL_CLASSES
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One reconciliation and what came of it; amounts in 10⁻¹² units of `currency`.

    `missing_days`: days of the period that no import speaks of: they are not compared. `span`: the period's hours.
    """

    run_id: str
    made_at_us: int
    wanted: Wanted
    settings: Settings
    currency: str
    facts_through_us: int
    imports: tuple[str, ...]
    missing_days: tuple[date, ...]
    keys: tuple[Key, ...]
    sides: Sides
    grain: Grain
    span: Span
    findings: tuple[Finding, ...]

    @property
    def provider_cost(self) -> int:
        """What the gateway's facts cost on the days that were compared."""
        return sum(each.cost for key in self.keys if (each := self.sides.metered.get(key)))

    @property
    def estimated_cost(self) -> int:
        """The part of it that was priced from estimated tokens."""
        return sum(each.estimated_cost for key in self.keys if (each := self.sides.metered.get(key)))

    @property
    def invoiced(self) -> int:
        """What the provider billed, charges without use included."""
        used = sum(each.cost or 0 for key in self.keys if (each := self.sides.invoiced.get(key)))
        return used + sum(finding.amount for finding in self.findings if finding.key is None)

    @property
    def by_cause(self) -> dict[str, tuple[int, int]]:
        """By cause the amount and the number of findings."""
        found: dict[str, tuple[int, int]] = {}
        for finding in self.findings:
            amount, count = found.get(finding.cause, (0, 0))
            found[finding.cause] = (amount + finding.amount, count + 1)
        return found


def new_run_id(at: datetime) -> str:
    """Time (UTC) and 64 random bits; later runs sort later. Example: R20261124T123444Z-5f0c1a2b3c4d5e6f."""
    return f"R{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"


def reconcile(client: Client, wanted: Wanted, settings: Settings, at: datetime) -> Run:
    """Compares and explains; writes nothing. `at`: now, UTC.

    Raises `ReconcileError`, `NoRate`, `ValueError` for another form of month, `SinkUnavailable`, `SinkRefused`.
    """
    if wanted.workload_class not in (ALL_CLASSES, *WORKLOAD_CLASSES):
        known = ", ".join(WORKLOAD_CLASSES)
        raise ReconcileError(f"--workload-class must be one of {known}, got {wanted.workload_class!r}")
    month = month_of(wanted.period)
    calendar = calendar_of(settings.calendar)
    first, end = month.first, month.next().first
    around = timedelta(days=max(1, settings.tolerances.late_days))
    days = Days(wanted.provider, first - around, end + around, wanted.workload_class)
    imported = covered(client, days)
    compared = sorted(day for day in imported.days if first <= day < end)
    if not compared:
        raise ReconcileError(
            f"no billing import speaks of {wanted.provider!r} in {wanted.period}: "
            "gatemeter billing import FILE --format …"
        )
    _check_calendars(calendars(client, days), wanted, settings)
    prices = published_prices(client)
    span = Span(wanted.provider, _us(days.first, calendar), _us(days.end, calendar), wanted.workload_class)
    currency = _currency(client, span, days, wanted)
    comparison = _compare(client, settings, calendar, prices, days, span, imported, currency, month, at)
    sides = comparison.sides
    keys = [key for key in sides.all_keys() if first <= key.day < end]
    other = _other_prices(prices, wanted.provider, calendar)
    found = [finding for finding in findings(sides, settings.tolerances, other) if first <= finding.day < end]
    return Run(
        new_run_id(at),
        int(at.timestamp() * _US),
        wanted,
        settings,
        currency,
        _facts_through(client),
        imported.imports,
        tuple(day for day in _each(first, end) if day not in imported.days),
        tuple(keys),
        sides,
        comparison.grain,
        span_of(wanted.provider, wanted.period, wanted.workload_class, settings),
        tuple(sorted(found, key=_order)),
    )


def _check_calendars(told: Iterable[str], wanted: Wanted, settings: Settings) -> None:
    """The days of the bill must be those that facts are counted by. Raises `ReconcileError`."""
    month, ours = month_of(wanted.period), calendar_of(settings.calendar)
    noons = [datetime(day.year, day.month, day.day, 12) for day in _each(month.first, month.next().first)]
    for name in told:
        if any(calendar_of(name).utcoffset(noon) != ours.utcoffset(noon) for noon in noons):
            raise ReconcileError(
                f"calendar must be {name!r}, whose days the imports of {wanted.provider!r} are of, got "
                f"{settings.calendar!r}: set it under [{wanted.provider}] in --settings, or import with --calendar"
            )


def _order(finding: Finding) -> Any:
    return (finding.day, finding.scope, finding.key or (), finding.cause, finding.amount)


def _compare(
    client: Client,
    settings: Settings,
    calendar: ZoneInfo,
    prices: Prices,
    days: Days,
    span: Span,
    imported: Covered,
    currency: str,
    month: Month,
    at: datetime,
) -> Comparison:
    rates = exchange(client)
    converted: set[str] = set()

    @cache
    def convert(base: str) -> Fraction:
        if base in ("", currency):
            return Fraction(1)
        converted.add(base)
        return rates.at_end_of(month, base, currency, int(at.timestamp() * _US)).factor

    comparison = Comparison(settings, calendar, lambda group: prices.of_group(days.provider, group))
    comparison.bill(billed_lines(client, days, convert), repeated_lines(client, days, convert))
    more = settings.traffic_columns
    edges = prices.edges_us(span.from_us, span.to_us)
    comparison.meter(_of(currency, usage_groups(client, span, prices.bounds, edges, more)))
    comparison.meter_twice(twice_metered(client, span, more))
    comparison.decide(_of(currency, decision_groups(client, span)))
    step = rounded_to(client, days)
    comparison.finish(imported.days, step, has_cost=imported.has_cost, converted=bool(converted))
    return comparison


def _of(currency: str, groups: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Groups of a currency, and those that have none because nothing priced them."""
    return (group for group in groups if group["currency"] in (currency, ""))


_CURRENCIES: Final = """
SELECT DISTINCT currency FROM usage_facts
WHERE provider = {provider:String} AND currency != ''
    AND usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')
    AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
ORDER BY currency
"""
_BILLED_CURRENCIES: Final = """
SELECT DISTINCT currency FROM billing_lines_in_force
WHERE provider = {provider:String} AND billing_day >= {from:Date} AND billing_day < {to:Date} AND currency != ''
ORDER BY currency
"""


def _currency(client: Client, span: Span, days: Days, wanted: Wanted) -> str:
    """The currency of the gateway's costs; where nothing was metered that of the lines."""
    if wanted.currency:
        return wanted.currency
    for query, asked in ((_CURRENCIES, span.asked), (_BILLED_CURRENCIES, days.asked)):
        found = [row["currency"] for row in query_rows(client, "read the currencies", query, asked)]
        if len(found) > 1:
            raise ReconcileError(
                f"--currency must be one of {', '.join(found)}: the costs of {wanted.provider!r} have several"
            )
        if found:
            return str(found[0])
    return "USD"


def _facts_through(client: Client) -> int:
    query = "SELECT toUnixTimestamp64Micro(max(recorded_at)) AS through FROM usage_facts"
    (row,) = query_rows(client, "read how far the facts go", query, {})
    return int(row["through"])


def _other_prices(prices: Prices, provider: str, calendar: ZoneInfo) -> Any:
    @cache
    def elsewhere(key: Key) -> dict[str, int]:
        return prices.elsewhere(provider, key.model, key.token_type, _us(key.day, calendar))

    return elsewhere


def span_of(provider: str, period: str, workload_class: str, settings: Settings) -> Span:
    """The hours of a period in a provider's calendar."""
    month, calendar = month_of(period), calendar_of(settings.calendar)
    return Span(provider, _us(month.first, calendar), _us(month.next().first, calendar), workload_class)


def _each(first: date, end: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((end - first).days))


def _us(day: date, calendar: ZoneInfo) -> int:
    """Midnight of a day of the calendar, microseconds UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=calendar).timestamp()) * _US
