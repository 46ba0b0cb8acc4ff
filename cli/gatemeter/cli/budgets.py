"""`gatemeter budgets status|check`: spend of a month against its budgets, and what they have crossed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import console
from gatemeter.cli.commitments import check_period
from gatemeter.cli.screen import plain_table
from gatemeter.sinks.budget_watch import look_at_budgets
from gatemeter.sinks.clickhouse import ClickHouseSink, connect
from gatemeter.sinks.reports.budgets import BudgetStatus, Crossing, budget_statuses
from gatemeter.sinks.reports.cents import PICO_DIGITS, format_minor, minor_digits, round_half_even
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.terms.months import month_at, utc_text

Period = Annotated[str, typer.Option("--period", help="YYYY-MM, in UTC; the running month if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")]


@ch.one_line_errors
def budgets_status(
    period: Period = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show what of each budget is spent, its forecast for the month, and the thresholds crossed. Writes nothing.

    Example: gatemeter budgets status --period 2026-11
    """
    now_us, chosen = _chosen(period)
    with ch.reading(url, user, password, password_file, database) as client:
        _print(budget_statuses(client, chosen, now_us), as_json)


@ch.one_line_errors
def budgets_check(
    period: Period = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show the same, and record what was newly crossed as exceptions. Exit code 1: something was newly crossed.

    Workers do it by themselves; this is for months that are over, and for schedulers of your own.

    Example: gatemeter budgets check --period 2026-10
    """
    now_us, chosen = _chosen(period)
    where = ch.settings(url, user, password, password_file, database)
    client, sink = connect(where), ClickHouseSink(where)
    try:
        statuses = look_at_budgets(client, sink, chosen, now_us)
    finally:
        client.close()
        sink.close()
    _print(statuses, as_json)
    if any(status.unrecorded for status in statuses):
        raise typer.Exit(1)


def _chosen(period: str) -> tuple[int, str]:
    now_us = time.time_ns() // 1_000
    if period:
        check_period(period)
    return now_us, period or month_at(now_us).period


def _print(statuses: Sequence[BudgetStatus], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([status_json(status) for status in statuses]))
        return
    if not statuses:
        console.print("no budget is in force")
        return
    console.print(_table(statuses))
    for status in statuses:
        for note in _notes(status):
            console.print(f"{status.budget.budget_id}: {note}", markup=False, soft_wrap=True)


def _table(statuses: Sequence[BudgetStatus]) -> Table:
    title = f"Budgets of {statuses[0].month.period}"
    amounts = ("limit", "spent", "%", "forecast")
    table = plain_table("budget", "of", "owner", *amounts, "cur.", "crossed", title=title, right=amounts)
    for status in statuses:
        budget = status.budget
        forecast = "none yet" if status.forecast_pico is None else _shown(status.forecast_pico, budget.currency)
        table.add_row(
            escape(budget.budget_id),
            escape(f"{budget.scope.replace('_', ' ')} {budget.subject}"),
            escape(budget.owner),
            _shown(budget.amount_pico, budget.currency),
            _shown(status.spend_pico, budget.currency),
            f"{status.percent}",
            forecast,
            budget.currency,
            ", ".join(f"{percent} %" for percent in status.crossed) or "nothing",
        )
    return table


def _notes(status: BudgetStatus) -> Iterator[str]:
    for crossing in status.recorded:
        yield _crossing_text(status, crossing)
    for percent in status.unrecorded:
        yield f"{percent} % is crossed, found now"
    if status.unpriced_lines:
        yield f"{status.unpriced_lines:,} lines have no price and are in no amount"
    if status.other_currencies:
        yield f"charges in {', '.join(status.other_currencies)} are not counted"


def _crossing_text(status: BudgetStatus, crossing: Crossing) -> str:
    spent, limit = (_shown(pico, crossing.currency) for pico in (crossing.spend_pico, crossing.amount_pico))
    text = f"{crossing.threshold_percent} % was crossed with {spent} of {limit} {crossing.currency}"
    below = "; now it is below again" if crossing in status.below_again else ""
    return f"{text}, found {utc_text(crossing.recorded_at_us)}{below}"


def _shown(pico: int, currency: str) -> str:
    unit: int = 10 ** (PICO_DIGITS - minor_digits(currency))
    return format_minor(round_half_even(pico, unit), currency)


def status_json(status: BudgetStatus) -> dict[str, Any]:
    """A status as plain data; amounts as text with all digits."""
    budget = status.budget
    return {
        "budget_id": budget.budget_id,
        "period": status.month.period,
        "scope": budget.scope,
        "subject": budget.subject,
        "owner": budget.owner,
        "currency": budget.currency,
        "amount": text_of(budget.amount_pico),
        "spend": text_of(status.spend_pico),
        "percent": str(status.percent),
        "forecast": None if status.forecast_pico is None else text_of(status.forecast_pico),
        "thresholds": list(budget.thresholds),
        "crossed": list(status.crossed),
        "newly_crossed": list(status.unrecorded),
        "recorded": [
            {
                "threshold_percent": crossing.threshold_percent,
                "found_at": utc_text(crossing.recorded_at_us),
                "spend": text_of(crossing.spend_pico),
                "amount": text_of(crossing.amount_pico),
                "below_again": crossing in status.below_again,
            }
            for crossing in status.recorded
        ],
        "unpriced_lines": status.unpriced_lines,
        "other_currencies": list(status.other_currencies),
    }
