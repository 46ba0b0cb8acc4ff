"""`gatemeter billing` on the real engine: an import counts once, a restatement replaces its days."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.billing_import import billing_import
from gatemeter.cli.billing_reading import billing_lines, billing_list, billing_show
from gatemeter.sinks.billing import FORMATS, BillingWriter, FileBroken, Order, identify, read
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.billing import focus_csv, focus_row, openai_cost, openai_page, wrote

from benchmarks import exports  # isort: skip
from benchmarks.exports import Line  # isort: skip

app = typer.Typer()
for name, command in (
    ("import", billing_import),
    ("list", billing_list),
    ("show", billing_show),
    ("lines", billing_lines),
):
    app.command(name)(command)

DAY = date(2026, 11, 3)
Run = Callable[..., Result]


@pytest.fixture
def run(clickhouse_database: ClickHouseSettings, tmp_path: Path) -> Run:
    password_file = tmp_path / "password"
    password_file.write_text(clickhouse_database.password + "\n")

    def run_command(*words: str | Path) -> Result:
        options = {
            "url": clickhouse_database.url,
            "user": clickhouse_database.user,
            "password-file": str(password_file),
            "database": clickhouse_database.database,
        }
        given = [word for name, value in options.items() for word in (f"--clickhouse-{name}", value)]
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, words), *given])

    return run_command


def in_force(run: Run, *words: str) -> list[dict[str, Any]]:
    done = run("lines", "--json", *words)
    assert done.exit_code == 0, done.output
    lines: list[dict[str, Any]] = json.loads(done.stdout)
    return lines


def test_an_import_is_listed_shown_and_its_lines_are_exact(run: Run, tmp_path: Path) -> None:
    path = wrote(
        tmp_path / "costs.json",
        '{"object":"page","data":[{"start_time":1793664000,"end_time":1793750400,"results":[{"amount":'
        '{"value":0.100000000001,"currency":"usd"},"line_item":"gpt-5.5, input","project_id":"proj_[bold]"}]}]}',
    )
    done = run("import", path, "--format", "openai-costs", "--account", "=1+1", "--by", "ada")
    assert done.exit_code == 0, done.output
    assert "1 lines of openai of 2026-11-03 to 2026-11-03 (UTC)" in done.stdout
    (line,) = in_force(run)
    assert line["amount"] == "0.100000000001"
    assert line["project"] == "proj_[bold]"
    assert (line["model"], line["token_type"]) == ("gpt-5.5", "input_text_uncached")
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["imported_by"], listed["days_in_force"], listed["lines"]) == ("ada", 1, 1)
    shown = run("show", listed["import_id"][:8])
    assert "0.100000000001" in shown.stdout
    assert "=1+1" in shown.stdout
    assert "proj_[bold]" in run("lines").stdout
    assert "0.100000000001" in (table := run("lines", "--csv", "--period", "2026-11").stdout)
    assert ",'=1+1," in table, "no spreadsheet calculates it"
    assert in_force(run, "--period", "2026-10") == []


def test_the_same_file_for_another_account_takes_the_place_of_the_first(run: Run, tmp_path: Path) -> None:
    path = wrote(tmp_path / "costs.json", openai_page(openai_cost(organization_id=None), days=2))
    assert run("import", path, "--format", "openai-costs").exit_code == 0
    done = run("import", path, "--format", "openai-costs", "--account", "org-7")
    assert "which is the same file" in done.stdout
    assert {line["account"] for line in in_force(run)} == {"org-7"}
    listed = json.loads(run("list", "--json").stdout)
    assert [each["days_in_force"] for each in listed] == [2, 0]


def test_an_empty_export_that_two_accounts_have_alike_takes_nothing_from_either(run: Run, tmp_path: Path) -> None:
    empty = wrote(tmp_path / "empty.json", openai_page(days=2))
    full = wrote(tmp_path / "full.json", openai_page(openai_cost(organization_id=None), days=2))
    for path, account in ((empty, "a"), (full, "a"), (empty, "b")):
        assert run("import", path, "--format", "openai-costs", "--account", account).exit_code == 0
    assert {line["account"] for line in in_force(run)} == {"a"}


def test_the_same_file_again_changes_nothing(run: Run, tmp_path: Path, clickhouse_client: Client) -> None:
    path = wrote(tmp_path / "costs.json", openai_page(openai_cost(), days=2))
    assert run("import", path, "--format", "openai-costs").exit_code == 0
    before = clickhouse_client.query("SELECT * FROM billing_imports").result_rows
    again = run("import", path, "--format", "openai-costs")
    assert again.exit_code == 0
    assert "already imported" in again.stdout
    state = json.loads(run("import", path, "--format", "openai-costs", "--json").stdout)["state"]
    assert state == "already imported"
    assert clickhouse_client.query("SELECT * FROM billing_imports").result_rows == before
    assert len(in_force(run)) == 1


def test_a_restatement_replaces_its_days_also_where_it_has_no_line(run: Run, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    exports.write_openai_costs(
        first,
        [
            Line(DAY, "m", "output_total", amount=Decimal(3)),
            Line(date(2026, 11, 4), "m", "output_total", amount=Decimal(5)),
        ],
    )
    second = tmp_path / "second.json"
    exports.write_openai_costs(second, [Line(DAY, "m", "output_total", amount=Decimal(4))], days=[date(2026, 11, 5)])
    third = tmp_path / "third.json"
    exports.write_openai_costs(third, [], days=[date(2026, 11, 4)])
    for path, expected in ((first, ["3", "5"]), (second, ["4", "5"]), (third, ["4"])):
        assert run("import", path, "--format", "openai-costs").exit_code == 0
        assert [line["amount"] for line in in_force(run)] == expected
    listed = {row["file_name"]: row["days_in_force"] for row in json.loads(run("list", "--json").stdout)}
    assert listed == {"first.json": 0, "second.json": 2, "third.json": 1}


def test_costs_do_not_replace_usage(run: Run, tmp_path: Path) -> None:
    costs, usage = tmp_path / "costs.json", tmp_path / "usage.json"
    exports.write_anthropic_cost(costs, [Line(DAY, "claude-opus-5", "output_total", amount=Decimal("0.0123"))])
    exports.write_anthropic_usage(usage, [Line(DAY, "claude-opus-5", "output_total", quantity=10)])
    done = run("import", costs, "--format", "anthropic-cost")
    assert "leaves out the priority tier" in done.stdout
    assert run("import", usage, "--format", "anthropic-usage").exit_code == 0
    lines = in_force(run)
    assert [(line["content"], line["amount"], line["quantity"]) for line in lines] == [
        ("cost", "0.0123", None),
        ("usage", None, "10"),
    ]
    assert len(in_force(run, "--content", "usage")) == 1


def test_bad_rows_are_listed_and_the_rest_is_imported(run: Run, tmp_path: Path) -> None:
    good, bad = focus_row(), focus_row(BilledCost="1,234.5", ChargeDescription="key sk-live-0123456789abcdef")
    path = wrote(tmp_path / "azure.csv", focus_csv(good, bad, focus_row(BillingCurrency="QQQ")))
    done = run("import", path, "--format", "focus")
    assert done.exit_code == 0
    assert "2 rows cannot be read" in done.stdout
    assert "must be a number" in done.stdout
    assert "must be an ISO 4217 code such as USD, got 'QQQ'" in done.stdout
    (listed,) = json.loads(run("list", "--json").stdout)
    shown = json.loads(run("show", listed["import_id"], "--json").stdout)
    assert [(row["line"], row["field"]) for row in shown["rejected_rows"]] == [(3, "amount"), (4, "currency")]
    assert "sk-live" not in done.output + json.dumps(shown) + run("lines", "--csv").stdout


def test_nothing_counts_where_no_row_can_be_read_or_strict_is_given(run: Run, tmp_path: Path) -> None:
    bad = focus_row(BilledCost="x")
    path = wrote(tmp_path / "bad.csv", focus_csv(bad))
    mixed = wrote(tmp_path / "mixed.csv", focus_csv(focus_row(), bad))
    other = wrote(tmp_path / "vm.csv", focus_csv(focus_row(ServiceCategory="Compute")))
    for file, words, why in (
        (path, (), "none of 1 rows can be read"),
        (mixed, ("--strict",), "1 rows cannot be read, and --strict was given"),
        (other, (), "all 1 rows are of services that are none of AI"),
    ):
        done = run("import", file, "--format", "focus", *words)
        assert done.exit_code == 1
        assert why in done.stderr
    assert json.loads(run("list", "--json").stdout) == []
    assert run("import", mixed, "--format", "focus").exit_code == 0
    assert len(in_force(run)) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--format", "bill"), "--format: must be one of openai-costs, "),
        (("--format", "focus", "--calendar", "Moon/Base"), "--calendar: must be a time zone such as"),
        (("--format", "focus", "--covers", "all"), "--covers: must be buckets, period or seen, got 'all'"),
        (("--format", "focus", "--mapping", "/nowhere.toml"), "--mapping: nowhere.toml cannot be read"),
        (("--format", "openai-costs"), "expected openai-costs, which comes as json; it is csv; it looks like focus"),
        (("--format", "focus", "--max-unpacked-mib", "0"), "--max-unpacked-mib"),
    ],
)
def test_a_wrong_option_is_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    path = wrote(tmp_path / "azure.csv", focus_csv(focus_row()))
    done = run("import", path, *words)
    assert done.exit_code == 2
    assert why in " ".join(done.stderr.split())
    assert run("show", "abc").exit_code == 2


def test_an_import_that_broke_off_does_not_count_until_it_is_made_again(
    run: Run, tmp_path: Path, clickhouse_client: Client
) -> None:
    path = tmp_path / "costs.json"
    exports.write_openai_costs(path, [Line(DAY, "m", "output_total", amount=Decimal(n)) for n in range(1, 6)])
    order = Order((path,), FORMATS["openai-costs"])
    writer = BillingWriter(clickhouse_client)
    read(order, identify(order), writer)  # and then it is killed
    assert clickhouse_client.query("SELECT count() FROM billing_lines").result_rows == [(5,)]
    assert in_force(run) == []
    assert run("import", path, "--format", "openai-costs").exit_code == 0
    assert [line["amount"] for line in in_force(run)] == ["1", "2", "3", "4", "5"]


def test_a_file_that_is_cut_off_does_not_count(run: Run, tmp_path: Path, clickhouse_client: Client) -> None:
    path = tmp_path / "costs.csv.gz"
    exports.write_openai_csv(path, [Line(DAY, "m", "output_total", amount=Decimal(n)) for n in range(1, 3_000)])
    path.write_bytes(path.read_bytes()[:-2_000])
    order = Order((path,), FORMATS["openai-csv"])
    with pytest.raises(FileBroken, match="is cut off"):
        read(order, identify(order), BillingWriter(clickhouse_client))
    done = run("import", path, "--format", "openai-csv")
    assert done.exit_code == 2
    assert "costs.csv.gz: is cut off" in done.stderr
    assert in_force(run) == []
