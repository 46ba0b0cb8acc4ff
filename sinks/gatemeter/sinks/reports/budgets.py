"""Budgets against spend: how much of each was spent in a month, where it is heading, and what it has crossed.

Spend of a tenant is what it is charged; of a cost centre what its tenants are charged and what was absorbed to it.
Charges in another currency are named beside it and never added, and so is the number of lines without a price.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.terms.budgets import MEAN_DAYS, Budget, forecast, version_for
from gatemeter.sinks.terms.crossings import KIND, month_number
from gatemeter.sinks.terms.months import DAY_US, Month, day_of, month_of
from gatemeter.sinks.terms.published import budgets

_DAYS: Final = """
SELECT
    toDate(usage_hour, 'UTC') AS day, tenant_id, cost_centre, absorbed_to, currency,
    sum(l.charge) AS charged, sum(l.absorbed) AS taken_over, countIf(price_status = 'unpriced') AS unpriced
FROM charge_lines AS l
WHERE usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')
    AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
GROUP BY day, tenant_id, cost_centre, absorbed_to, currency
"""
_FIRST: Final = "SELECT toUnixTimestamp64Micro(min(posted_hour)), count() > 0 FROM usage_facts"
_CROSSED: Final = f"""
SELECT toUnixTimestamp64Micro(recorded_at), detail FROM exceptions FINAL
WHERE kind = '{KIND}' AND offset = {{month:Int64}} ORDER BY recorded_at, event_index
"""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold that was found crossed, with the spend and the limit then; it stays, whatever the spend is now."""

    threshold_percent: int
    recorded_at_us: int
    spend_pico: int
    amount_pico: int
    currency: str


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in a month. `forecast_pico` None: no day is whole yet. `recorded`: crossings among the exceptions."""

    budget: Budget
    month: Month
    spend_pico: int
    forecast_pico: int | None
    recorded: tuple[Crossing, ...]
    unpriced_lines: int
    other_currencies: tuple[str, ...]

    @property
    def percent(self) -> Decimal:
        """The spend in per cent of the limit."""
        return self.budget.percent(self.spend_pico)

    @property
    def crossed(self) -> tuple[int, ...]:
        """The thresholds that the spend has reached now."""
        return self.budget.crossed(self.spend_pico)

    @property
    def unrecorded(self) -> tuple[int, ...]:
        """Thresholds that are crossed and do not stand as exceptions yet."""
        known = {crossing.threshold_percent for crossing in self.recorded}
        return tuple(percent for percent in self.crossed if percent not in known)

    @property
    def below_again(self) -> tuple[Crossing, ...]:
        """Crossings whose threshold the spend does not reach any more: it was corrected, or the limit was raised."""
        return tuple(crossing for crossing in self.recorded if crossing.threshold_percent not in self.crossed)


def budget_statuses(client: Client, period: str, now_us: int) -> list[BudgetStatus]:
    """All budgets that count in a month, by id. Raises `ValueError` for another form of month, `SinkUnavailable`,
    `SinkRefused`."""
    month = month_of(period)
    chosen = _chosen(budgets(client), month, now_us)
    if not chosen:
        return []
    try:
        asked = {"from": month.start_us - MEAN_DAYS * DAY_US, "to": month.end_us}
        days = list(client.query(_DAYS, asked).named_results())
        first_us, metered = client.query(_FIRST).result_rows[0]
        rows = client.query(_CROSSED, {"month": month_number(month)}).result_rows
    except FAILURES as error:
        raise sink_error("read what was spent of budgets", error) from error
    first_day = day_of(first_us) if metered else None
    recorded = _recorded(rows)
    return [_status(budget, month, now_us, days, first_day, recorded.get(budget.budget_id, ())) for budget in chosen]


def _chosen(known: Iterable[Budget], month: Month, now_us: int) -> list[Budget]:
    versions: dict[str, list[Budget]] = {}
    for budget in known:
        versions.setdefault(budget.budget_id, []).append(budget)
    found = (version_for(versions[budget_id], month, now_us) for budget_id in sorted(versions))
    return [budget for budget in found if budget is not None]


def _recorded(rows: Sequence[Sequence[Any]]) -> Mapping[str, tuple[Crossing, ...]]:
    found: dict[str, tuple[Crossing, ...]] = {}
    for at_us, text in rows:
        detail = json.loads(text)
        spend, amount = (pico_of(Decimal(detail[name])) for name in ("spend", "amount"))
        crossing = Crossing(detail["threshold_percent"], at_us, spend, amount, detail["currency"])
        found[detail["budget"]] = (*found.get(detail["budget"], ()), crossing)
    return found


def _status(
    budget: Budget,
    month: Month,
    now_us: int,
    rows: Sequence[Mapping[str, Any]],
    first_day: date | None,
    recorded: tuple[Crossing, ...],
) -> BudgetStatus:
    days: dict[date, int] = {}
    unpriced, others = 0, set[str]()
    for row in rows:
        pico, concerned = _share(budget, row)
        in_month = row["day"] >= month.first
        if concerned and in_month:
            unpriced += row["unpriced"]
        if row["currency"] == budget.currency:
            days[row["day"]] = days.get(row["day"], 0) + pico
        elif row["currency"] and pico and in_month:
            others.add(row["currency"])
    spend = sum(pico for day, pico in days.items() if day >= month.first)
    expected = forecast(days, month, now_us, first_day)
    return BudgetStatus(budget, month, spend, expected, recorded, unpriced, tuple(sorted(others)))


def _share(budget: Budget, row: Mapping[str, Any]) -> tuple[int, bool]:
    """What of a row counts for a budget, and whether the row is of its tenant or cost centre."""
    if budget.scope == "tenant":
        own = row["tenant_id"] == budget.subject
        return (pico_of(row["charged"]) if own else 0), own
    own = row["cost_centre"] == budget.subject
    absorbed = pico_of(row["taken_over"]) if row["absorbed_to"] == budget.subject else 0
    return (pico_of(row["charged"]) if own else 0) + absorbed, own
