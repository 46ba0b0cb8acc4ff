"""Commitments and exchange rates on the real engine: from the operator log and facts to statements."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.commitments import commitments_status
from gatemeter.cli.report import report
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.commitments import settlements
from gatemeter.sinks.terms.months import HOUR_US
from support.facts import NOON_US, decision, fact
from support.terms import MARCH, commitment_datum, log_row, rate_datum

UNIT = 10**12
app = typer.Typer()
for command in (report, commitments_status):
    app.command(command.__name__)(command)
Run = Callable[..., Result]


def cost(request_id: str, amount: int, offset: int, **changes: Any) -> dict[str, Any]:
    """A fact of `amount` USD without mark-up."""
    pico = amount * UNIT
    money = {"list_cost": pico, "provider_cost": pico, "token_cost": pico, "markup": 0, "charge": pico}
    return fact(request_id, offset=offset, **(money | changes))


@pytest.fixture
def write(clickhouse_database: ClickHouseSettings) -> Callable[..., None]:
    sink = ClickHouseSink(clickhouse_database)
    return lambda table, *rows: sink.write(table, rows_to_arrow(table, list(rows)))


@pytest.fixture
def run(clickhouse_database: ClickHouseSettings) -> Run:
    def run_command(name: str, *words: str) -> Result:
        where = ["--clickhouse-url", clickhouse_database.url, "--clickhouse-user", clickhouse_database.user]
        where += ["--clickhouse-password", clickhouse_database.password]
        where += ["--clickhouse-database", clickhouse_database.database]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [name, *words, *where])

    return run_command


@pytest.fixture
def filled(write: Callable[..., None]) -> None:
    """March: 300 USD of gpt-4o covered in region eu, 50 elsewhere; a commitment of 744 a month for it, one unused."""
    write(
        "usage_facts",
        cost("a", 200, 1, region="eu"),
        cost("b", 100, 2, region="eu", served_model="gpt-4o-2024", model="alias", tenant_id="globex"),
        cost("c", 50, 3, region="us"),
        cost("d", 7, 4, region="eu", provider="anthropic"),
        fact("e", offset=5, region="eu", price_status="unpriced", currency="", provider_cost=None, charge=None),
    )
    named = commitment_datum("ptu", models=["gpt-4o", "gpt-4o-2024"], region="eu", amount="1", per="hour")
    write(
        "operator_log",
        log_row("Commitment", "ptu", named | {"amount": "9"}, 1),
        log_row("Commitment", "ptu", named, 2),  # a later record of the same id and start replaces
        log_row("Commitment", "idle", commitment_datum("idle", provider="cohere", amount="12.50"), 3),
        log_row("FxRate", "USD/EUR", rate_datum(rate="0.91", effective_from=NOON_US), 4),
    )


@pytest.mark.usefixtures("filled")
def test_use_of_a_month_is_set_against_its_commitments(clickhouse_client: Client) -> None:
    idle, ptu = settlements(clickhouse_client, "2026-03", MARCH.end_us)
    assert (ptu.fee_pico, ptu.used_pico, ptu.unused_pico) == (744 * UNIT, 300 * UNIT, 444 * UNIT)
    assert (ptu.attempts, ptu.unpriced_attempts) == (3, 1)
    assert (idle.fee_pico, idle.unused_pico, idle.attempts) == (12_500_000_000_000, 12_500_000_000_000, 0)
    so_far = settlements(clickhouse_client, "2026-03", NOON_US + 1)[1]
    assert (so_far.hours, so_far.until_us, so_far.running) == (13, NOON_US + HOUR_US, True)
    assert len(settlements(clickhouse_client, "", MARCH.end_us)) == 4  # March and, for an hour, April
    assert settlements(clickhouse_client, "2026-02", MARCH.end_us) == []


def test_decisions_that_a_provider_bills_are_among_its_use(
    write: Callable[..., None], clickhouse_client: Client
) -> None:
    billed = {"billed_by": "aws", "policy_cost": UNIT, "provider_cost": UNIT, "charge": UNIT, "markup": 0}
    write("policy_facts", decision("g", "a", offset=6, **billed), decision("h", "a", offset=7))
    any_use, models = (commitment_datum(name, provider="aws", amount="9") for name in ("any", "models"))
    write(
        "operator_log",
        log_row("Commitment", "any", any_use, 1),
        log_row("Commitment", "models", models | {"models": ["nova"]}, 2),
    )
    any_line, models_line = settlements(clickhouse_client, "2026-03", MARCH.end_us)
    assert (any_line.used_pico, any_line.attempts, models_line.attempts) == (UNIT, 1, 0)


@pytest.mark.usefixtures("filled")
def test_the_statement_shows_what_was_not_used_on_a_line_of_its_own(run: Run) -> None:
    shown = run("report", "--month", "2026-03").stdout
    assert "Statement 2026-03: commitments in USD" in shown
    assert "ptu 744.00 300.00 444.00 0.00 744.00 40.32" in " ".join(shown.split())
    assert "what is unused is in no tenant's total; ptu: 1 attempts have no price" in shown
    lines = json.loads(run("report", "--month", "2026-03", "--json").stdout)
    unused = [line for line in lines if "commitment_id" in line]
    assert [(line["commitment_id"], line["unused"], line["posted_to"]) for line in unused] == [
        ("idle", "12.500000000000", "unallocated"),
        ("ptu", "444.000000000000", "unallocated"),
    ]
    rows = list(csv.DictReader(io.StringIO(run("report", "--month", "2026-03", "--csv").stdout)))
    assert [(row["tenant_id"], row["commitment"], row["commitment_unused"]) for row in rows] == [
        ("acme", "", ""),
        ("globex", "", ""),
        ("", "idle", "12.500000000000"),
        ("", "ptu", "444.000000000000"),
    ]
    assert "commitment" not in run("report", "--month", "2026-03", "--tenant", "acme").stdout
    status = json.loads(run("commitments_status", "--period", "2026-03", "--json").stdout)
    assert status == unused
    assert "commitments in USD" in run("commitments_status", "--period", "2026-03").stdout


@pytest.mark.usefixtures("filled")
def test_a_statement_in_another_currency_says_its_rate_and_adds_up(run: Run, clickhouse_client: Client) -> None:
    before = clickhouse_client.query("SELECT sum(charge) FROM charge_lines").result_rows
    shown = run("report", "--month", "2026-03", "--currency", "EUR").stdout
    assert "amounts in EUR" in shown and "324.87" in shown  # 357 USD
    assert "1 USD = 0.91 EUR, in force from 2026-03-01T12:00:00Z, source: bank" in shown
    lines = json.loads(run("report", "--month", "2026-03", "--currency", "EUR", "--json").stdout)
    converted = [line["in_currency"] for line in lines]
    assert [line.get("total", line.get("unused")) for line in converted] == ["233.87", "91.00", "11.38", "404.04"]
    assert converted[0]["rate"] == {
        "pair": "USD/EUR",
        "rate": "0.91",
        "effective_from": "2026-03-01T12:00:00Z",
        "as_of": "2026-03-31T23:59:59.999999Z",
        "source": "bank",
    }
    assert lines[0]["total"] == "257.000000000000"
    rows = list(csv.DictReader(io.StringIO(run("report", "--month", "2026-03", "--currency", "EUR", "--csv").stdout)))
    assert sum(Decimal(row["in_currency_total"] or "0") for row in rows) == Decimal("324.87")
    assert clickhouse_client.query("SELECT sum(charge) FROM charge_lines").result_rows == before


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("report", "--month", "2026-03", "--currency", "GBP"),
            "--currency: there is no exchange rate USD/GBP",
        ),
        (("report", "--currency", "euro"), "--currency: must be an ISO 4217 code such as EUR, got 'euro'"),
        (("commitments_status", "--period", "2026-13"), "--period: must be YYYY-MM, 1970-01 to 2199-12, got '2026-13'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(run: Run, words: tuple[str, ...], says: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {says}")


@pytest.mark.usefixtures("filled")
def test_the_views_hold_the_latest_record_of_each_term(clickhouse_client: Client) -> None:
    found = clickhouse_client.query("SELECT commitment_id, amount, region, service_tier FROM commitments ORDER BY 1")
    assert found.result_rows == [("idle", Decimal("12.5"), None, None), ("ptu", Decimal(1), "eu", None)]
    rate = clickhouse_client.query("SELECT base, quote, rate, effective_to FROM fx_rates").result_rows
    assert rate == [("USD", "EUR", Decimal("0.91"), None)]


def test_without_commitments_nothing_is_said_of_them(run: Run, write: Callable[..., None]) -> None:
    write("usage_facts", cost("a", 1, 1))
    assert "commitment" not in run("report").stdout
    assert "no commitment was in force" in run("commitments_status").stdout
