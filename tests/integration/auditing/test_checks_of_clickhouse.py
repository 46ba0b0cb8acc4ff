"""Checks that need nothing but ClickHouse: completeness by epoch, windows against facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.audit import Finding, Result
from gatemeter.sinks.reports.completeness import check_completeness
from gatemeter.sinks.reports.windows import check_windows
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, decision, fact

Write = Callable[..., None]
TOPIC = "gatemeter.events"


@pytest.fixture
def write(clickhouse_database: ClickHouseSettings) -> Write:
    sink = ClickHouseSink(clickhouse_database)

    def write_rows(table: str, *rows: dict[str, Any]) -> None:
        sink.write(table, rows_to_arrow(table, list(rows)))

    return write_rows


def epoch(first: int, after: int, **changes: Any) -> dict[str, Any]:
    row = blank_row("gateway_epochs") | {"gateway_id": "gw", "epoch": "e", "topic": TOPIC}
    return row | {"first_sequence": first, "next_sequence": after, "heartbeat_sequence": after} | changes


def kinds(findings: list[Finding]) -> list[str]:
    return [str(finding.result) for finding in findings]


def completeness(client: Client) -> list[Finding]:
    return list(check_completeness(client))


def test_what_was_announced_and_received_is_ok(write: Write, clickhouse_client: Client) -> None:
    write("ingest_batches", checkpoint())
    write("gateway_epochs", epoch(0, 5), epoch(5, 7, closed=True), epoch(0, 0, gateway_id="_tick"))
    write("usage_facts", fact("a", epoch="e", gateway_id="gw", sequence=6))
    (found,) = completeness(clickhouse_client)
    assert (found.result, found.scope, found.what) == (Result.OK, "1 epochs", "7 events received of 1 gateways")


def test_missing_sequences_are_listed_exactly(write: Write, clickhouse_client: Client) -> None:
    write("ingest_batches", checkpoint())
    write("gateway_epochs", epoch(0, 5), epoch(6, 8), epoch(20, 20, spooled=3))
    missing, _ = completeness(clickhouse_client)
    assert missing.result is Result.WRONG
    assert missing.scope == f"gw e {TOPIC}[0]"
    assert missing.what == "13 events are missing: sequences 5, 8 to 19; 3 waited in its spool when it said so"
    assert missing.evidence["missing"] == [(5, 6), (8, 20)]


def test_what_an_operator_gave_up_is_a_note_and_not_missing(write: Write, clickhouse_client: Client) -> None:
    write("ingest_batches", checkpoint())
    write("gateway_epochs", epoch(0, 5), epoch(8, 10, closed=True))
    discard = blank_row("quarantine_discards") | {"topic": TOPIC, "gateway_id": "gw", "epoch": "e"}
    write("quarantine_discards", discard | {"first_sequence": 4, "next_sequence": 7, "reason": "torn"})
    first, second, _ = completeness(clickhouse_client)
    assert (first.result, first.what) == (Result.NOTE, "2 events were given up by an operator (quarantine_discards)")
    assert (second.result, second.evidence["missing"]) == (Result.WRONG, [(7, 8)])


def test_unclosed_epochs_and_dropped_events_are_notes(write: Write, clickhouse_client: Client) -> None:
    write("ingest_batches", checkpoint(log_time=NOON_US + HOUR_US))
    write("gateway_epochs", epoch(0, 5, dropped=7, closed=True), epoch(0, 2, epoch="dead"))
    write("gateway_epochs", epoch(0, 2, epoch="alive", recorded_at=NOON_US + HOUR_US))
    found = completeness(clickhouse_client)
    assert kinds(found) == ["note", "note", "ok"]
    assert "not closed, silent since 2026-03-01 12:00:00 UTC" in found[0].what
    assert "7 events were dropped" in found[1].what


def test_a_fact_beyond_what_is_said_to_be_received_is_wrong(write: Write, clickhouse_client: Client) -> None:
    write("ingest_batches", checkpoint())
    write("gateway_epochs", epoch(0, 5, closed=True))
    judged = decision("d", "a", epoch="e2", sender_gateway_id="policy", sequence=0)
    write("usage_facts", fact("a", epoch="e", sequence=5))
    write("policy_facts", judged)
    first, second, _ = completeness(clickhouse_client)
    assert (first.result, first.evidence) == (Result.WRONG, {"received_to": 5, "facts_to": 6})
    assert second.scope == f"policy e2 {TOPIC}[0]"


def window(**changes: Any) -> dict[str, Any]:
    names = ("window_start", "gateway_id", "tenant_id", "app_id", "workload_id", "provider", "model", "purpose")
    row = fact("x")
    at = {name: row[name] for name in (*names[1:], "evidence_grade", "usage_source", "currency", "topic")}
    measures = {name: row[name] for name in ("list_cost", "provider_cost", "token_cost", "markup", "charge")}
    sums = {"attempts": 1, "input_tokens": 100, "output_tokens": 20, "outcome": "ok", "revision": 1}
    return blank_row("usage_windows") | at | measures | sums | changes


def of_decision(**changes: Any) -> dict[str, Any]:
    row = {"purpose": "policy_evaluation", "policy_id": "pii", "outcome": "allow", "decisions": 1, "attempts": 0}
    nothing = dict.fromkeys(("input_tokens", "output_tokens", "list_cost", "provider_cost", "token_cost"), 0)
    named = {"provider": "", "model": "", "evidence_grade": "", "usage_source": "", **nothing}
    return window(**row, **named, policy_cost=5, markup=1, charge=6, **changes)


def test_windows_that_hold_what_the_facts_added_are_ok(write: Write, clickhouse_client: Client) -> None:
    late = fact("late", fresh=False, window_tokens=0, window_cost=0)
    write("usage_facts", fact("a"), fact("a"), late, fact("b", partition=1))
    write("policy_facts", decision("d", "a"))
    write("usage_windows", window(), window(), window(partition=1), of_decision())
    (found,) = check_windows(clickhouse_client)
    assert (found.result, found.scope) == (Result.OK, "2 partitions")


@pytest.mark.parametrize(
    "measure", ["attempts", "output_tokens", "cache_read_tokens", "latency_us", "markup", "charge"]
)
def test_a_changed_measure_is_named_with_minute_and_dimensions(
    write: Write, clickhouse_client: Client, measure: str
) -> None:
    write("usage_facts", fact("a"))
    row = window()
    write("usage_windows", row | {measure: row[measure] + 5})
    found = next(iter(check_windows(clickhouse_client)))
    assert (found.result, found.scope) == (Result.WRONG, f"{TOPIC}[0]")
    assert "minute 2026-03-01 12:00, gateway_id gw, tenant_id acme, app_id chat" in found.what
    assert f"{measure} +5" in found.what.replace("E-12", "")


def test_money_moved_between_two_tenants_is_found_though_totals_agree(write: Write, clickhouse_client: Client) -> None:
    write("usage_facts", fact("a"), fact("b", tenant_id="globex"))
    write("usage_windows", window(charge=30), window(tenant_id="globex", charge=36))
    found = next(iter(check_windows(clickhouse_client)))
    assert found.result is Result.WRONG
    assert len(found.evidence["differences"]) == 2


def test_a_revision_may_move_usage_to_other_dimensions(write: Write, clickhouse_client: Client) -> None:
    first = fact("a", usage_source="estimated")
    better = fact("a", response_hash="r1", usage_revision=1, input_text_uncached=70, charge=30)
    write("usage_facts", first, better | {"window_tokens": -30, "window_cost": -3})
    nothing = {"attempts": 0, "input_tokens": 0, "output_tokens": 0, "markup": 0, "charge": 0, "list_cost": 0}
    write("usage_windows", window(usage_source="estimated", **nothing, provider_cost=0, token_cost=0))
    write("usage_windows", window(input_tokens=70, charge=30))
    assert kinds(list(check_windows(clickhouse_client))) == ["ok"]
    write("usage_windows", window(input_tokens=71, charge=30, revision=2))
    assert kinds(list(check_windows(clickhouse_client))) == ["wrong"]
