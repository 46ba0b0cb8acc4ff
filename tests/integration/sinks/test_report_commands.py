"""`gatemeter migrate`, `report` and `audit` on the real engine."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gatemeter.cli.audit import audit
from gatemeter.cli.migrate import migrate
from gatemeter.cli.report import report
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from gatemeter.sinks.reports.statement import COMPONENTS, statement
from support.clickhouse import ClickHouse
from support.facts import blank_row, checkpoint, decision, fact

app = typer.Typer()
for command in (migrate, report, audit):
    app.command()(command)

CENT = 10**10
Run = Callable[..., Result]


@pytest.fixture
def run(clickhouse_database: ClickHouseSettings, tmp_path: Path) -> Run:
    password_file = tmp_path / "password"
    password_file.write_text(clickhouse_database.password + "\n")

    def run_command(*words: str, **changes: str) -> Result:
        options = {
            "url": clickhouse_database.url,
            "user": clickhouse_database.user,
            "password-file": str(password_file),
            "database": clickhouse_database.database,
        } | changes
        given = [word for name, value in options.items() for word in (f"--clickhouse-{name}", value)]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, *given])

    return run_command


@pytest.fixture
def filled(clickhouse_database: ClickHouseSettings) -> ClickHouseSettings:
    sink = ClickHouseSink(clickhouse_database)

    def write(table: str, *rows: dict[str, Any]) -> None:
        sink.write(table, rows_to_arrow(table, list(rows)))

    unknown = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "model_cost", "markup", "charge"))
    money = {
        "provider_cost": 8 * CENT // 10,
        "token_cost": 4 * CENT // 10,
        "model_cost": 4 * CENT // 10,
        "markup": 2 * CENT // 10,
        "charge": CENT,
    }
    yen = ("provider_cost", "token_cost", "charge")
    write(
        "usage_facts",
        fact("a", 1, status="error", offset=1, **money),
        fact("a", 2, offset=2, **money),
        fact("b", offset=3, price_status="unpriced", currency="", usage_consistency="mismatch", **unknown),
        fact("c", offset=4, tenant_id="globex", currency="JPY", markup=0, **dict.fromkeys(yen, 7 * 10**12)),
        fact("guard", offset=5, purpose="policy_evaluation", policy_cost=30, token_cost=0),
    )
    write("policy_facts", decision("d", "a", offset=6))
    window = blank_row("usage_windows") | {"topic": "gatemeter.events"}
    write(
        "usage_windows",
        blank_row("usage_windows")
        | {"topic": "gatemeter.events", "currency": "USD", "input_tokens": 360, "charge": 99},
        blank_row("usage_windows")
        | {"topic": "gatemeter.events", "currency": "JPY", "input_tokens": 120, "charge": 33},
        window | {"currency": "", "input_tokens": 120, "charge": 33},
        window | {"currency": "USD", "policy_id": "pii", "charge": 6},
    )
    write("ingest_batches", checkpoint(responses_fresh=5, events_received=6, events_admitted=6))
    return clickhouse_database


def test_the_statement_counts_the_tenants_own_calls_and_all_its_money(filled: ClickHouseSettings) -> None:
    acme, globex = statement(connect(filled))
    assert (acme.tenant_id, acme.currency, f"{acme.month:%Y-%m}") == ("acme", "USD", "2026-03")
    assert {name: acme.counts[name] for name in ("requests", "attempts", "retries", "decisions")} == {
        "requests": 2,
        "attempts": 3,
        "retries": 1,
        "decisions": 1,
    }
    assert (acme.counts["input_tokens"], acme.counts["answered_input_tokens"]) == (300, 200)
    assert (acme.counts["unpriced_tokens"], acme.counts["unpriced_attempts"]) == (120, 1)
    assert (acme.counts["inconsistent_attempts"], globex.counts["inconsistent_attempts"]) == (1, 0)
    assert acme.pico["total"] == 2 * CENT + 33 + 6
    assert acme.pico["policy_cost"] == 30 + 5
    assert (acme.pico["retry_cost"], acme.pico["internal_policy_cost"]) == (CENT, 5)
    assert sum(acme.pico[name] for name in COMPONENTS) - acme.pico["absorbed"] == acme.pico["total"]
    assert globex.cents()["total"] == 7  # yen have no cents


def test_cents_of_the_statement_add_up(filled: ClickHouseSettings) -> None:
    cents = statement(connect(filled))[0].cents()
    others = dict.fromkeys(("policy_cost", "markup", "cache_price", "absorbed"), 0)
    assert cents == {"token_cost": 1, "model_cost": 1, **others, "total": 2}


def test_report_filters_by_tenant_and_month(filled: ClickHouseSettings, run: Run) -> None:
    only = json.loads(run("report", "--json", "--tenant", "globex").stdout)
    assert [(line["tenant_id"], line["total"]) for line in only] == [("globex", "7.000000000000")]
    assert json.loads(run("report", "--json", "--month", "2026-02").stdout) == []
    assert len(json.loads(run("report", "--json", "--month", "2026-03").stdout)) == 2


def test_report_prints_a_table_json_and_csv(filled: ClickHouseSettings, run: Run) -> None:
    table = run("report")
    assert table.exit_code == 0
    for shown in ("acme", "globex", "amounts in USD", "0.02", "of which retries", "0.01", "unpriced tokens", "120"):
        assert shown in table.stdout
    assert "attempts whose tokens do not add up to the provider's own total: 1" in table.stdout
    assert "of which estimated" not in table.stdout
    (line, _) = json.loads(run("report", "--json").stdout)
    assert line["total"] == "0.020000000039"
    assert line["rounded"]["total"] == "0.02"
    rows = list(csv.DictReader(io.StringIO(run("report", "--csv").stdout)))
    assert (rows[0]["tenant_id"], rows[0]["input_text_uncached"], rows[0]["total"]) == ("acme", "300", line["total"])


def test_estimated_money_is_told_apart_where_there_is_any(clickhouse_database: ClickHouseSettings, run: Run) -> None:
    money = {"token_cost": 3 * CENT, "model_cost": 0, "markup": 0, "charge": 3 * CENT}
    rows = [fact("cut", usage_source="estimated", **money), fact("whole", **money)]
    ClickHouseSink(clickhouse_database).write("usage_facts", rows_to_arrow("usage_facts", rows))
    table = " ".join(run("report").stdout.split())  # captions are as wide as their table
    for shown in ("of which estimated", "0.06", "0.03", "because the provider reported none: 120"):
        assert shown in table
    (line,) = json.loads(run("report", "--json").stdout)
    assert (line["total"], line["estimated_charge"]) == ("0.060000000000", "0.030000000000")


def test_audit_is_zero_where_all_adds_up(filled: ClickHouseSettings, run: Run) -> None:
    result = run("audit", "--only", "conservation")
    assert (result.exit_code, "6 events = 6 admitted + 0 duplicate" in result.stdout) == (0, True)
    answer = json.loads(run("audit", "--json", "--only", "conservation").stdout)
    assert (answer["conservation"], answer["clean"], answer["first_problem"]) == ("ok", True, "")
    assert [check["check"] for check in answer["checks"]] == ["conservation"]
    assert answer["totals"]["events_received"] == 6


def test_audit_is_one_and_names_the_first_thing_that_is_wrong(
    filled: ClickHouseSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    sink = ClickHouseSink(filled)
    wrong = checkpoint(next_offset=11, records=11, records_batches=11, events_received=6, events_admitted=5)
    sink.write("ingest_batches", rows_to_arrow("ingest_batches", [wrong]))
    result = run("audit", "--json")
    assert result.exit_code == 1
    expected = "gatemeter.events[0]: events received are not admitted + duplicate + conflict + quarantined"
    assert json.loads(result.stdout)["conservation"].startswith(expected)
    assert expected in result.stderr


def test_audit_of_nothing_is_not_ok(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    result = run("audit")
    assert result.exit_code == 1
    assert "nothing has been ingested" in result.stderr


def test_migrate_says_what_it_did(clickhouse: ClickHouse, run: Run) -> None:
    fresh = clickhouse.empty()
    assert "0001_tables.sql" in run("migrate", database=fresh.database).stdout
    assert "up to date" in run("migrate", database=fresh.database).stdout
    clickhouse.drop(fresh)


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (("report", "--month", "2026-13"), {}, "--month: must be YYYY-MM"),
        (("report", "--json", "--csv"), {}, "--csv: must not be given beside --json"),
        (("report",), {"url": "nonsense"}, "--clickhouse-url: must be http"),
        (("report",), {"database": "no such"}, "--clickhouse-database: must be"),
        (("audit",), {"password-file": "/nothing/there"}, "--clickhouse-password-file: must be a readable"),
        (("audit", "--only", "everything"), {}, "--only: must be one of conservation, completeness, windows"),
        (("audit",), {"user": "nobody"}, "Authentication failed"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    run: Run, words: tuple[str, ...], changes: dict[str, str], message: str
) -> None:
    result = run(*words, **changes)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
