"""Exceptions on the real engine: found once, with their state, beside what the fold wrote, told to a webhook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.exceptions import exceptions_find, exceptions_list, exceptions_show
from gatemeter.cli.exceptions_acts import (
    exceptions_acknowledge,
    exceptions_assign,
    exceptions_reopen,
    exceptions_resolve,
)
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.exceptions.endpoint import Webhook
from gatemeter.sinks.exceptions.finding import find_exceptions
from gatemeter.sinks.exceptions.thresholds import Thresholds
from gatemeter.sinks.exceptions.webhook import tell
from support.facts import HOUR_US, NOON_US, blank_row, fact
from support.webhooks import receiving

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
DAY_US = 24 * HOUR_US
UNIT = 10**12
app = typer.Typer()
for command in (
    *(exceptions_find, exceptions_list, exceptions_show, exceptions_acknowledge, exceptions_assign),
    *(exceptions_reopen, exceptions_resolve),
):
    app.command(command.__name__)(command)
Write = Callable[..., None]


@pytest.fixture
def write(clickhouse_database: ClickHouseSettings) -> Iterator[Write]:
    sink = ClickHouseSink(clickhouse_database)
    yield lambda table, *rows: sink.write(table, rows_to_arrow(table, list(rows)))
    sink.close()


@pytest.fixture
def run(clickhouse_database: ClickHouseSettings) -> Callable[..., Result]:
    def run_command(name: str, *words: str) -> Result:
        where = ["--clickhouse-url", clickhouse_database.url, "--clickhouse-user", clickhouse_database.user]
        where += ["--clickhouse-password", clickhouse_database.password]
        where += ["--clickhouse-database", clickhouse_database.database]
        return CliRunner(env={"COLUMNS": "250"}).invoke(app, [f"exceptions_{name}", *words, *where])

    return run_command


def at(us: int, **changes: Any) -> dict[str, Any]:
    hour = us // HOUR_US * HOUR_US
    return {"posted_hour": hour, "usage_hour": hour, "request_started_at": us, "occurred_at": us} | changes


def unpriced(request_id: str, us: int = NOON_US) -> dict[str, Any]:
    free = {"price_status": "unpriced", "currency": "", "charge": None, "provider_cost": None}
    return fact(request_id, **at(us, model="new-model", **free))


def find(client: Client, *days: date, now: datetime = NOW) -> Any:
    return find_exceptions(client, days or (DAY,), Thresholds(), now)


def test_finding_twice_writes_the_same_and_more_evidence_is_a_change(clickhouse_client: Client, write: Write) -> None:
    write("usage_facts", unpriced("a"), unpriced("b"))
    first = find(clickhouse_client)
    assert [(each.kind, each.requests, each.request_ids) for each in first.all] == [("unpriced", 2, ("a", "b"))]
    again = find(clickhouse_client, now=NOW + timedelta(hours=1))
    assert (again.all, again.new, again.changed) == (first.all, (), ())
    query = "SELECT exception_id, requests, cost, currency, state, seen FROM exception_list"
    expected = (first.new[0], 2, None, "", "open", "240 tokens of openai new-model without a price")
    assert clickhouse_client.query(query).result_rows == [expected]
    write("usage_facts", unpriced("c", NOON_US + HOUR_US))
    more = find(clickhouse_client, now=NOW + timedelta(hours=2))
    assert (more.new, more.changed) == ((), first.new)
    assert clickhouse_client.query(query).result_rows[0][:2] == (first.new[0], 3)


def test_what_is_written_again_or_revised_counts_once(clickhouse_client: Client, write: Write) -> None:
    write("usage_facts", unpriced("a"))
    write("usage_facts", unpriced("a"))
    priced_later = fact("b", **at(NOON_US, response_hash="later", version=(1 << 63) + 1))
    write("usage_facts", unpriced("b"), priced_later)
    assert [(each.kind, each.requests) for each in find(clickhouse_client).all] == [("unpriced", 1)]


def test_a_tenants_own_threshold_is_its_own(clickhouse_client: Client, write: Write) -> None:
    for tenant in ("acme", "globex"):
        orphan = at(NOON_US, status="orphan", tenant_id=tenant)
        write("usage_facts", fact(f"{tenant}-1", **orphan), fact(f"{tenant}-2", **orphan))
    limits = Thresholds(of_tenants={"acme": {"orphans_min": 3}, "other": {"orphans_min": 1}})
    found = find_exceptions(clickhouse_client, (DAY,), limits, NOW).all
    assert [(each.kind, each.tenant_id, each.requests) for each in found] == [("orphans", "globex", 2)]


def test_a_key_in_a_network_in_which_it_was_not_seen_is_told_by_network(
    clickhouse_client: Client, write: Write
) -> None:
    usual, known = ("198.51.100.0/24", "198.51.101.0/24"), {"credential_fingerprint": "fp"}
    for day in range(1, 4):
        for number, network in enumerate(usual):
            write("usage_facts", fact(f"{day}-{number}", **at(NOON_US - day * DAY_US, client_network=network, **known)))
    for number, network in enumerate((usual[0], "203.0.113.0/24", "2001:db8:7::/48", "203.0.113.0/24", "")):
        write("usage_facts", fact(f"now-{number}", **at(NOON_US, client_network=network, **known)))
    write("usage_facts", fact("no-key", **at(NOON_US, client_network="203.0.113.0/24")))
    found = find(clickhouse_client).all
    assert [(each.kind, each.subject, each.request_ids, each.credential_fingerprint) for each in found] == [
        ("new_client_network", "203.0.113.0/24", ("now-1", "now-3"), "fp"),
        ("new_client_network", "2001:db8:7::/48", ("now-2",), "fp"),
    ]
    assert {(each.seen, each.expected) for each in found} == {
        (f"network {each.subject}", "one of 198.51.100.0/24, 198.51.101.0/24") for each in found
    }
    one = Thresholds(of_tenants={"acme": {"known_networks_max": 1}})  # two are usual: no network is
    assert find_exceptions(clickhouse_client, (DAY,), one, NOW).all == ()


def test_an_exception_keeps_its_state_and_a_later_day_opens_another(
    clickhouse_client: Client, write: Write, run: Callable[..., Result]
) -> None:
    write("usage_facts", unpriced("a"))
    (found,) = find(clickhouse_client).new
    assert run("acknowledge", found, "--reason", "asked", "--by", "ann").exit_code == 0
    assert run("assign", found, "--owner", "ann@example.com", "--by", "ann").exit_code == 0
    assert run("resolve", found, "--reason", "card is on its way", "--by", "bob").exit_code == 0
    write("usage_facts", unpriced("b", NOON_US + HOUR_US), unpriced("c", NOON_US + DAY_US))
    later = find(clickhouse_client, DAY, DAY + timedelta(days=1), now=NOW + timedelta(days=1))
    assert later.changed == (found,) and len(later.new) == 1
    states = "SELECT exception_id, state, state_reason, owner FROM exception_list ORDER BY first_seen_at"
    assert clickhouse_client.query(states).result_rows == [
        (found, "resolved", "card is on its way", "ann@example.com"),
        (later.new[0], "open", "", ""),
    ]
    shown = json.loads(run("show", found, "--json").stdout)
    assert [(act["act"], act["who"]) for act in shown["acts"]] == [
        ("acknowledge", "ann"),
        ("assign", "ann"),
        ("resolve", "bob"),
    ]
    assert run("reopen", found, "--reason", "it was not").exit_code == 0
    assert clickhouse_client.query(states).result_rows[0][1:3] == ("open", "it was not")


def test_the_commands_find_list_and_show(run: Callable[..., Result], write: Write) -> None:
    write("usage_facts", unpriced("a"), fact("o", **at(NOON_US, status="orphan", provider_cost=5 * UNIT)))
    found = run("find", "--from", "2026-03-01", "--to", "2026-03-01", "--json")
    assert found.exit_code == 1  # something is new
    data = json.loads(found.stdout)
    assert (data["found"], len(data["new"]), data["told"]) == ({"orphans": 1, "unpriced": 1}, 2, None)
    again = run("find", "--from", "2026-03-01", "--to", "2026-03-01")
    assert again.exit_code == 0
    assert "2 exceptions from 2026-03-01 to 2026-03-01: 0 new, 0 changed" in again.stdout
    rows = json.loads(run("list", "--json").stdout)
    assert [(row["kind"], row["cost"], row["first_seen_at"]) for row in rows] == [
        ("unpriced", None, "2026-03-01T12:00:00Z"),
        ("orphans", "5.000000000000", "2026-03-01T12:00:00Z"),
    ]
    assert "1 requests without an answer" in run("list", "--kind", "orphans").stdout
    assert "no such exceptions" in run("list", "--tenant", "globex").stdout
    assert "no such exceptions" in run("list", "--from", "2026-03-02").stdout
    assert "a price in force" in run("show", rows[0]["exception_id"]).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "nothing"), 1, "there is no exception 'nothing'"),
        (("resolve", "nothing", "--reason", "why"), 1, "there is no exception 'nothing'"),
        (("resolve", "nothing", "--reason", " "), 1, "reason: must be 1 to 1000 printable characters"),
        (("list", "--state", "closed"), 2, "--state: must be one of open, acknowledged, resolved, got 'closed'"),
        (("list", "--severity", "bad"), 2, "--severity: must be one of info, low, medium, high, critical, got 'bad'"),
        (("find", "--from", "1.3.2026"), 2, "--from: must be a day such as 2026-11-24, in UTC, got '1.3.2026'"),
        (("find", "--from", "2026-03-02", "--to", "2026-03-01"), 2, "--from: must be 0 to 365 days before --to"),
        (("find", "--webhook", "http://example.org"), 2, "webhook: must be https://HOST"),
        (("find", "--thresholds", "/nowhere"), 2, "/nowhere: must be a readable TOML file"),
    ],
)
def test_a_wrong_option_is_one_line(
    run: Callable[..., Result], words: tuple[str, ...], code: int, message: str
) -> None:
    done = run(*words)
    assert done.exit_code == code
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_what_the_fold_wrote_is_in_the_list_and_takes_acts(
    clickhouse_client: Client, write: Write, run: Callable[..., Result]
) -> None:
    budget = {"budget": "b", "scope": "tenant", "subject": "acme", "owner": "ann", "amount": "100", "spend": "81.5"}
    budget |= {"currency": "USD", "threshold_percent": 80}
    identity = {"note": "workload_offboarded", "tenant_id": "acme", "identity_id": "w", "owner": "bob", "events": 4}
    expired = identity | {"note": "credential_expired"}
    rows = (
        ("budgets/b", 0, "budget_crossed", budget, ""),
        ("t", 1, "identity", identity, "r1"),
        ("t", 2, "identity", identity, "r2"),
        ("t", 3, "identity", expired, "r3"),
        ("t", 4, "conflict", {"event": "RESPONSE"}, "r4"),
        ("t", 5, "unpriced", {"model": "m", "events": 2}, "r5"),
    )
    for topic, offset, kind, detail, request_id in rows:
        row = {"topic": topic, "offset": offset, "kind": kind, "detail": json.dumps(detail), "request_id": request_id}
        write("exceptions", blank_row("exceptions") | row)
    listed = clickhouse_client.query(
        "SELECT kind, severity, tenant_id, owner, seen, requests, request_ids, cost, currency FROM exception_list "
        "ORDER BY kind"
    ).result_rows
    assert [tuple(row[:3]) for row in listed] == [
        ("budget_crossed", "medium", "acme"),
        ("conflict", "high", ""),
        ("identity", "high", "acme"),
    ]
    assert listed[0][3:] == ("ann", "81.5 USD spent, 80 % crossed", 0, [], Decimal("81.5"), "USD")
    assert listed[2][3:7] == ("bob", "8 events: workload offboarded", 8, ["r1", "r2"])
    (conflict,) = clickhouse_client.query("SELECT exception_id FROM exception_list WHERE kind = 'conflict'").result_rows
    assert run("resolve", conflict[0], "--reason", "known").exit_code == 0
    state = f"SELECT state FROM exception_list WHERE exception_id = '{conflict[0]}'"
    assert clickhouse_client.query(state).result_rows == [("resolved",)]


@pytest.fixture
def receiver() -> Iterator[Any]:
    with receiving() as server:
        yield server


def test_a_webhook_is_told_once_by_the_id_after_tries_that_failed(
    clickhouse_client: Client, write: Write, receiver: Any
) -> None:
    write("usage_facts", unpriced("a"))
    (found,) = find(clickhouse_client).new
    webhook = Webhook(f"http://127.0.0.1:{receiver.server_port}/x", ("Authorization", "Bearer planted-secret"))
    pauses: list[float] = []
    receiver.answers = [503, 302, 500]
    told = tell(clickhouse_client, webhook, NOW, sleep=pauses.append)
    assert (told.taken, told.problem, pauses) == (0, "the webhook at 127.0.0.1 answered 500", [0.2, 1.0])
    receiver.answers = [503]
    assert tell(clickhouse_client, webhook, NOW, sleep=pauses.append).taken == 1
    assert tell(clickhouse_client, webhook, NOW, sleep=pauses.append).taken == 0
    headers, body = receiver.got[-1]
    assert (headers["Idempotency-Key"], body["exception_id"], body["kind"]) == (found, found, "unpriced")
    assert headers["Authorization"] == "Bearer planted-secret"
    assert len(receiver.got) == 5
    stored = clickhouse_client.query("SELECT * FROM exception_notices").result_rows
    assert "planted" not in str(stored) and "127.0.0.1" not in str(stored)


def test_a_webhook_that_is_away_loses_nothing_and_resolved_or_old_ones_are_not_told(
    clickhouse_client: Client, write: Write, receiver: Any, run: Callable[..., Result]
) -> None:
    write("usage_facts", unpriced("a"), unpriced("b", NOON_US - 5 * DAY_US), fact("o", **at(NOON_US, status="orphan")))
    found = find(clickhouse_client, DAY - timedelta(days=5), DAY)
    orphan = next(each.exception_id for each in found.all if each.kind == "orphans")
    assert run("resolve", orphan, "--reason", "known").exit_code == 0
    away = tell(clickhouse_client, Webhook("http://127.0.0.1:1/"), NOW, sleep=lambda seconds: None)
    assert away.taken == 0 and "could not be reached" in away.problem
    webhook = Webhook(f"http://127.0.0.1:{receiver.server_port}/")
    assert tell(clickhouse_client, webhook, NOW).taken == 1
    assert [body["request_ids"] for _, body in receiver.got] == [["a"]]


def test_the_command_tells_a_webhook_whose_header_is_in_a_file(
    run: Callable[..., Result], write: Write, receiver: Any, tmp_path: Path
) -> None:
    recent = int((datetime.now(UTC) - timedelta(minutes=1)).timestamp()) * 1_000_000
    write("usage_facts", unpriced("a", recent))
    (tmp_path / "header").write_text("X-Key: planted-secret\n")
    where = (
        "--webhook",
        f"http://127.0.0.1:{receiver.server_port}/",
        "--webhook-header-file",
        str(tmp_path / "header"),
    )
    done = run("find", *where)
    assert (done.exit_code, "the webhook took 1" in done.stdout) == (1, True)
    assert receiver.got[0][0]["X-Key"] == "planted-secret"
    assert "planted" not in done.output
