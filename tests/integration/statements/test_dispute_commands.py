"""`gatemeter dispute`: evidence is what the tables held then, a resolution needs a correction that touches it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gatemeter.cli.disputes import dispute_list, dispute_open, dispute_resolve, dispute_show
from gatemeter.cli.statement.command import statement
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.facts import decision, fact
from support.mutations import mutate
from support.sealing import Hours, free, replacement

app = typer.Typer()
for name, command in {
    "open": dispute_open,
    "show": dispute_show,
    "resolve": dispute_resolve,
    "list": dispute_list,
    "statement": statement,
}.items():
    app.command(name)(command)
Run = Callable[..., Result]
WHY = ("--reason", "charged twice", "--by", "J. Doe")


@pytest.fixture
def hours(clickhouse_database: ClickHouseSettings) -> Iterator[Hours]:
    with closing(connect(clickhouse_database)) as client:
        made = Hours(clickhouse_database, client)
        made.usage(fact("a"), fact("b"), fact("g", tenant_id="globex"))
        made.decisions(decision("d", "a"))
        yield made


@pytest.fixture
def run(hours: Hours, clickhouse_database: ClickHouseSettings) -> Run:
    where = ["--clickhouse-url", clickhouse_database.url, "--clickhouse-user", clickhouse_database.user]
    where += ["--clickhouse-password", clickhouse_database.password]
    where += ["--clickhouse-database", clickhouse_database.database]

    def go(*words: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(app, [*words, *where])
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result

    return go


def opened(run: Run, *words: str) -> str:
    dispute: str = json.loads(run("open", *words, *WHY, "--json").stdout)["dispute"]
    return dispute


def test_evidence_is_what_stood_when_it_was_opened(run: Run, hours: Hours) -> None:
    dispute = opened(run, "a")
    hours.usage(fact("a", version=(1 << 63) + 1, charge=77, token_cost=74, usage_revision=1))
    shown = json.loads(run("show", dispute).stdout)
    assert (shown["tenant_id"], shown["period"], shown["request_id"], shown["state"]) == (
        "acme",
        "2026-03",
        "a",
        "open",
    )
    assert [row["charge"] for row in shown["evidence"]["facts"]["usage"]] == [33]
    assert shown["evidence"]["explanation"]["totals"]
    assert [row["decision_id"] for row in shown["evidence"]["facts"]["decisions"]] == ["d"]


def test_evidence_that_was_changed_is_told(run: Run, hours: Hours) -> None:
    dispute = opened(run, "a")
    mutate(hours.client, "dispute_openings", "UPDATE evidence = '{}' WHERE 1")
    assert "its digest differs" in run("show", dispute, exit_code=1).stderr


def test_a_whole_statement_is_disputed_with_its_amounts(run: Run) -> None:
    dispute = opened(run, "--statement", "acme/2026-03")
    evidence = json.loads(run("show", dispute).stdout)["evidence"]
    assert evidence["statement"]["sections"][0]["total"] == "0.000000000072"


def test_it_is_upheld_only_by_a_committed_run_that_touches_it(run: Run, hours: Hours) -> None:
    dispute = opened(run, "a")
    hours.correct(1, replacement("b"), run="of-another-request")
    hours.correct(1, free(-5, tenant_id="globex"), run="of-another-tenant")
    hours.correct(1, replacement("a"), run="right")
    staged = {
        "run_id": "staged",
        "entry": 0,
        "kind": "replace",
        "target": "usage",
        "gateway_id": "gw",
        "request_id": "a",
    }
    hours.client.insert("corrections", [list(staged.values())], column_names=list(staged))
    for wrong, said in (
        ("staged", "is not committed"),
        ("of-another-request", "changes nothing of request 'a'"),
        ("of-another-tenant", "changes nothing of request 'a'"),
    ):
        result = run("resolve", dispute, "--uphold", "--correction", wrong, "--reason", "yes", "--by", "A", exit_code=1)
        assert said in result.stderr
    run("resolve", dispute, "--uphold", "--correction", "right", "--reason", "yes", "--by", "A. Roe")
    (row,) = json.loads(run("list", "--state", "upheld", "--json").stdout)
    assert (row["correction_run_id"], row["resolution"], row["resolved_by"]) == ("right", "yes", "A. Roe")


@pytest.mark.parametrize("row", [free(-5), replacement("b")], ids=["credit", "another request"])
def test_a_disputed_statement_is_upheld_by_what_touches_the_tenant(run: Run, hours: Hours, row: Any) -> None:
    dispute = opened(run, "--statement", "acme/2026-03")
    hours.correct(1, row, run="credit")
    run("resolve", dispute, "--uphold", "--correction", "credit", "--reason", "agreed", "--by", "A")


def test_it_is_resolved_once(run: Run) -> None:
    dispute = opened(run, "a")
    run("resolve", dispute, "--reject", "--reason", "two requests", "--by", "A. Roe")
    again = run("resolve", dispute, "--reject", "--reason", "no", "--by", "B", exit_code=1)
    assert "was rejected at" in again.stderr
    assert "by A. Roe" in again.stderr


def test_it_is_on_the_statement_until_it_is_resolved_and_on_that_one(run: Run) -> None:
    dispute = opened(run, "a")

    def listed(period: str) -> list[tuple[str, str, str]]:
        found = json.loads(run("statement", "--tenant", "acme", "--period", period, "--format", "json").stdout)
        return [(each["dispute_id"], each["state"], each["resolution"]) for each in found["disputes"]]

    assert listed("2026-02") == []
    assert listed("2026-03") == listed("2026-04") == [(dispute, "open", "")]
    run("resolve", dispute, "--reject", "--reason", "two <b>requests</b>", "--by", "A")
    assert listed("2026-04") == [(dispute, "rejected", "two <b>requests</b>")]
    assert listed("2199-01") == []
    page = run("statement", "--tenant", "acme", "--period", "2026-03").stdout
    assert "two &lt;b&gt;requests&lt;/b&gt;" in page


def test_the_list_is_filtered_and_readable(run: Run) -> None:
    opened(run, "a")
    opened(run, "g")
    assert len(json.loads(run("list", "--json").stdout)) == 2
    (row,) = json.loads(run("list", "--tenant", "globex", "--period", "2026-03", "--json").stdout)
    assert (row["request_id"], row["opened_by"], row["resolved_at"]) == ("g", "J. Doe", None)
    assert "charged twice" in run("list").stdout
    assert "no dispute matches" in run("list", "--state", "upheld").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("open", *WHY), 2, "REQUEST_ID: either it or --statement"),
        (("open", "a", "--statement", "acme/2026-03", *WHY), 2, "REQUEST_ID: either it or --statement"),
        (("open", "--statement", "2026-03", *WHY), 2, "--statement: must be TENANT/YYYY-MM"),
        (("open", "--statement", "acme/2026-3", *WHY), 2, "--statement: must be YYYY-MM"),
        (("open", "--statement", "acme/2026-02", *WHY), 1, "nothing is billed to tenant 'acme'"),
        (("open", "nobody", *WHY), 1, "request 'nobody' is not known"),
        (("open", "a", "--gateway", "other", *WHY), 1, "of gateway 'other' is not known"),
        (("open", "a", "--reason", " ", "--by", "J"), 2, "--reason: must not be empty"),
        (("resolve", "x", "--reject", *WHY), 1, "DISPUTE: 'x' is not known"),
        (("resolve", "x", *WHY), 2, "--uphold: either it or --reject"),
        (("resolve", "x", "--uphold", *WHY), 2, "--correction: must be given beside --uphold"),
        (("list", "--period", "2026"), 2, "--period: must be YYYY-MM"),
        (("show", "x"), 1, "DISPUTE: 'x' is not known"),
    ],
)
def test_what_an_operator_can_mend_is_one_line(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    assert said in run(*words, exit_code=code).stderr


def test_neither_secrets_nor_bytes_of_events_are_in_the_evidence(run: Run, hours: Hours) -> None:
    row = fact("s", usage_raw='{"prompt_tokens": 3}') | {"posted_hour": fact("s")["posted_hour"]}
    hours.sink.write("usage_facts", rows_to_arrow("usage_facts", [row]))
    exception = {"topic": "t", "kind": "conflict", "gateway_id": "gw", "request_id": "s", "raw": b"sk-planted-secret"}
    hours.client.insert("exceptions", [list(exception.values())], column_names=list(exception))
    assert "planted" not in run("show", opened(run, "s")).stdout
