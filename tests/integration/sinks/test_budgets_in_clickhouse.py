"""Budgets on the real engine: spend, crossings as exceptions, and what a correction does not take back."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.budgets import budgets_check, budgets_status
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.budget_watch import look_at_budgets
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.budgets import budget_statuses
from support.facts import HOUR_US, NOON_US, decision, fact
from support.terms import MARCH, budget_datum, log_row

UNIT = 10**12
app = typer.Typer()
for command in (budgets_check, budgets_status):
    app.command(command.__name__)(command)
Write = Callable[..., None]


@pytest.fixture
def sink(clickhouse_database: ClickHouseSettings) -> ClickHouseSink:
    return ClickHouseSink(clickhouse_database)


@pytest.fixture
def write(sink: ClickHouseSink) -> Write:
    return lambda table, *rows: sink.write(table, rows_to_arrow(table, list(rows)))


@pytest.fixture
def run(clickhouse_database: ClickHouseSettings) -> Callable[..., Result]:
    def run_command(name: str, *words: str) -> Result:
        where = ["--clickhouse-url", clickhouse_database.url, "--clickhouse-user", clickhouse_database.user]
        where += ["--clickhouse-password", clickhouse_database.password]
        where += ["--clickhouse-database", clickhouse_database.database]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [name, *words, *where])

    return run_command


def charged(request_id: str, amount: int, offset: int, **changes: Any) -> dict[str, Any]:
    pico = amount * UNIT
    return fact(request_id, offset=offset, **({"token_cost": pico, "markup": 0, "charge": pico} | changes))


@pytest.fixture
def filled(write: Write) -> None:
    """March 1st: acme 600 USD (one line in EUR, one without a price), globex 300 USD, and 40 absorbed to its centre."""
    write(
        "usage_facts",
        charged("a", 600, 1, cost_centre="cc-1"),
        charged("b", 9, 2, cost_centre="cc-1", currency="EUR"),
        charged("c", 300, 3, tenant_id="globex", cost_centre="cc-2"),
        charged("d", 0, 4, tenant_id="x", absorbed=40 * UNIT, absorbed_to="cc-2"),
        fact("e", offset=5, cost_centre="cc-1", price_status="unpriced", currency="", charge=None),
    )
    write("policy_facts", decision("p", "a", offset=6, cost_centre="cc-1", charge=2 * UNIT, policy_cost=2 * UNIT))
    write(
        "operator_log",
        log_row("Budget", "acme", budget_datum("acme"), 1),
        log_row("Budget", "centre", budget_datum("centre", scope="cost_centre", subject="cc-2", amount="400"), 2),
        log_row("Budget", "later", budget_datum("later", effective_from=MARCH.end_us), 3),
    )


@pytest.mark.usefixtures("filled")
def test_a_tenants_spend_is_its_charges_and_a_cost_centres_also_what_was_absorbed_to_it(
    clickhouse_client: Client,
) -> None:
    acme, centre = budget_statuses(clickhouse_client, "2026-03", NOON_US)
    assert (acme.spend_pico, acme.percent, acme.crossed) == (602 * UNIT, Decimal("60.20"), (50,))
    assert (acme.unpriced_lines, acme.other_currencies) == (1, ("EUR",))
    assert (centre.spend_pico, centre.percent, centre.crossed) == (340 * UNIT, Decimal("85.00"), (50, 80))
    assert (acme.forecast_pico, centre.unpriced_lines) == (None, 0)  # no whole day yet
    next_day = budget_statuses(clickhouse_client, "2026-03", NOON_US + 24 * HOUR_US)
    assert next_day[0].forecast_pico == 31 * 602 * UNIT
    assert budget_statuses(clickhouse_client, "2026-02", NOON_US) == []


@pytest.mark.usefixtures("filled")
def test_a_crossing_is_recorded_once_and_stays_when_the_spend_falls(
    clickhouse_client: Client, sink: ClickHouseSink, write: Write
) -> None:
    look_at_budgets(clickhouse_client, sink, "2026-03", NOON_US)
    query = "SELECT budget_id, period, threshold_percent, spend, amount, recorded_at FROM budget_crossings ORDER BY ALL"
    first = clickhouse_client.query(query).result_rows
    assert [row[:5] for row in first] == [
        ("acme", "2026-03", 50, Decimal(602), Decimal(1000)),
        ("centre", "2026-03", 50, Decimal(340), Decimal(400)),
        ("centre", "2026-03", 80, Decimal(340), Decimal(400)),
    ]
    write("usage_facts", charged("a", 100, 1, cost_centre="cc-1", version=(1 << 63) + 1))  # revised downwards
    acme, _ = look_at_budgets(clickhouse_client, sink, "2026-03", NOON_US + HOUR_US)
    assert (acme.spend_pico, acme.crossed, acme.unrecorded) == (102 * UNIT, (), ())
    assert [crossing.threshold_percent for crossing in acme.below_again] == [50]
    assert clickhouse_client.query(query).result_rows == first
    write("usage_facts", charged("f", 5_000, 7, cost_centre="cc-1"))
    look_at_budgets(clickhouse_client, sink, "2026-03", NOON_US + 2 * HOUR_US)
    acme_rows = [row[2:4] for row in clickhouse_client.query(query).result_rows if row[0] == "acme"]
    assert acme_rows == [(50, Decimal(602)), (80, Decimal(5_102)), (100, Decimal(5_102))]


@pytest.mark.usefixtures("filled")
def test_the_commands_tell_and_check_alone_records(run: Callable[..., Result], clickhouse_client: Client) -> None:
    shown = " ".join(run("budgets_status", "--period", "2026-03").stdout.split())
    assert "acme tenant acme ann 1,000.00 602.00 60.20 602.00 USD 50 %" in shown
    assert "centre: 80 % is crossed, found now" in shown
    assert "acme: 1 lines have no price and are in no amount acme: charges in EUR are not counted" in shown
    assert clickhouse_client.query("SELECT count() FROM exceptions").result_rows == [(0,)]
    found = run("budgets_check", "--period", "2026-03", "--json")
    assert found.exit_code == 1
    assert [line["newly_crossed"] for line in json.loads(found.stdout)] == [[50], [50, 80]]
    again = run("budgets_check", "--period", "2026-03")
    assert again.exit_code == 0
    assert "80 % was crossed with 340.00 of 400.00 USD, found " in again.stdout
    (line, _) = json.loads(run("budgets_status", "--period", "2026-03", "--json").stdout)
    assert (line["spend"], line["forecast"], line["recorded"][0]["below_again"]) == ("602.000000000000",) * 2 + (False,)


def test_without_budgets_nothing_is_said(run: Callable[..., Result]) -> None:
    assert "no budget is in force" in run("budgets_check").stdout
    refused = run("budgets_status", "--period", "March")
    assert refused.exit_code == 2 and refused.stderr.startswith("error: --period: must be YYYY-MM, 1970-01 to")


@pytest.mark.usefixtures("filled")
def test_the_view_holds_the_budgets_as_they_were_applied(clickhouse_client: Client) -> None:
    found = clickhouse_client.query("SELECT budget_id, scope, of, amount, thresholds, owner FROM budgets ORDER BY 1")
    assert found.result_rows[:2] == [
        ("acme", "tenant", "acme", Decimal(1000), [50, 80, 100], "ann"),
        ("centre", "cost_centre", "cc-2", Decimal(400), [50, 80, 100], "ann"),
    ]
