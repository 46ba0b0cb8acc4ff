"""Conservation counts again from the tables, completeness lists what is missing, conflicts are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, decision, exact, fact

Write = Callable[..., None]
TOPIC = "gatemeter.events"


@pytest.fixture
def write(clickhouse_database: ClickHouseSettings) -> Write:
    sink = ClickHouseSink(clickhouse_database)

    def write_rows(table: str, *rows: dict[str, Any]) -> None:
        sink.write(table, rows_to_arrow(table, list(rows)))

    return write_rows


def refused(offset: int, event_index: int) -> dict[str, Any]:
    return blank_row("quarantine") | {"topic": TOPIC, "offset": offset, "event_index": event_index, "raw": b"\xff\x00"}


def conflict(offset: int) -> dict[str, Any]:
    return blank_row("exceptions") | {"topic": TOPIC, "offset": offset, "kind": "conflict", "raw": b"\xff"}


def evidence(offset: int, event_index: int) -> dict[str, Any]:
    return blank_row("evidence") | {"topic": TOPIC, "offset": offset, "event_index": event_index}


def window(**changes: Any) -> dict[str, Any]:
    row = blank_row("usage_windows") | {"topic": TOPIC, "currency": "USD", "tenant_id": "acme", "revision": 1}
    return row | {"input_tokens": 100, "output_tokens": 20, "charge": 33} | changes


def epoch(first: int, after: int, **changes: Any) -> dict[str, Any]:
    row = blank_row("gateway_epochs") | {"gateway_id": "gw", "epoch": "e", "topic": TOPIC}
    return row | {"first_sequence": first, "next_sequence": after, "heartbeat_sequence": after} | changes


GOOD = checkpoint(
    records_batches=7,
    records_operator=1,
    records_quarantined=2,
    events_received=11,
    events_admitted=4,
    events_duplicate=2,
    events_conflict=1,
    events_quarantined=2,
    events_corroborating=2,
    responses_fresh=2,
    responses_late=1,
)


def fill(write: Write, **changes: Any) -> None:
    """Rows that agree with the checkpoint `GOOD`, written twice as after a crash, and rows beyond it."""
    late = fact("late", fresh=False, window_tokens=0, window_cost=0, offset=3)
    orphan = fact("o", has_response=False, fresh=False, window_tokens=0, window_cost=0, status="orphan", charge=None)
    for _ in range(2):
        write("usage_facts", fact("a", offset=1), fact("b", offset=9), fact("beyond", offset=10), late, orphan)
        write("policy_facts", decision("d", "a", offset=2))
        write("usage_windows", window(revision=1), window(revision=10, input_tokens=300, output_tokens=60, charge=99))
        write("usage_windows", window(policy_id="pii", input_tokens=0, output_tokens=0, charge=6))
        write("quarantine", refused(4, -1), refused(5, -1), refused(6, 0), refused(6, 3), refused(11, -1))
        write("exceptions", conflict(7), conflict(12), conflict(7) | {"kind": "start_mismatch"})
        write("evidence", evidence(8, 0), evidence(8, 1), evidence(11, 0))
    write("ingest_batches", checkpoint(next_offset=4, records=3), GOOD | changes, GOOD | changes)


def test_what_adds_up_is_ok_whatever_was_written_twice(write: Write, clickhouse_client: Client) -> None:
    fill(write)
    (row,) = clickhouse_client.query("SELECT * FROM conservation").named_results()
    assert (row["problem"], row["ok"]) == ("", True)
    assert (row["next_offset"], row["fresh_responses_found"], row["late_responses_found"]) == (10, 2, 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"records": 9}, "offsets without a record"),
        ({"records_batches": 8}, "records are not batches"),
        ({"events_admitted": 3}, "events received are not"),
        ({"records_quarantined": 3, "records_batches": 6}, "quarantined records"),
        ({"events_quarantined": 1, "events_admitted": 5}, "quarantined events"),
        ({"events_conflict": 2, "events_admitted": 3}, "conflicts"),
        ({"events_corroborating": 3, "events_admitted": 3}, "corroborating events"),
        ({"responses_fresh": 3}, "fresh responses"),
        ({"responses_late": 0}, "late responses"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(
    write: Write, clickhouse_client: Client, changes: dict[str, int], problem: str
) -> None:
    fill(write, **changes)
    (row,) = clickhouse_client.query("SELECT problem, ok FROM conservation").named_results()
    assert row["problem"].startswith(problem)
    assert not row["ok"]


def test_more_late_responses_counted_than_kept_is_no_problem(write: Write, clickhouse_client: Client) -> None:
    fill(write, responses_late=5)
    assert clickhouse_client.command("SELECT problem FROM conservation") == ""


@pytest.mark.parametrize("change", [{"charge": 100}, {"input_tokens": 301}, {"currency": "EUR"}])
def test_windows_that_differ_from_the_facts_are_found(
    write: Write, clickhouse_client: Client, change: dict[str, Any]
) -> None:
    fill(write)
    write("usage_windows", window(revision=11, input_tokens=300, output_tokens=60, charge=99) | change)
    assert "windows differ" in str(clickhouse_client.command("SELECT problem FROM conservation"))


def test_a_superseded_row_stays_in_the_windows_sum(write: Write, clickhouse_client: Client) -> None:
    later = fact("a", response_hash="later", version=(1 << 63) + 1, window_tokens=-20, window_cost=-3)
    write("usage_facts", fact("a"), later)
    write("usage_windows", window(input_tokens=80, charge=30))
    (row,) = clickhouse_client.query("SELECT * FROM conservation_windows").named_results()
    assert (row["ok"], row["fact_tokens"], row["held_cost"]) == (True, 100, exact(30))


def test_rows_without_any_checkpoint_are_a_problem(write: Write, clickhouse_client: Client) -> None:
    write("usage_facts", fact("a", partition=3))
    (row,) = clickhouse_client.query("SELECT partition, problem FROM conservation").named_results()
    assert row == {"partition": 3, "problem": "rows without a checkpoint"}


def test_completeness_unites_intervals_and_lists_each_gap(write: Write, clickhouse_client: Client) -> None:
    write("gateway_epochs", epoch(0, 5), epoch(3, 8), epoch(8, 8), epoch(0, 5), epoch(10, 12), epoch(20, 20))
    write("gateway_epochs", epoch(0, 4, partition=1, closed=True, emitted=4, recorded_at=NOON_US + HOUR_US))
    rows = clickhouse_client.query("SELECT * FROM completeness ORDER BY partition").named_results()
    first, second = rows
    assert first["missing"] == [(8, 10), (12, 20)]
    assert (first["missing_events"], first["announced_sequence"], first["closed"]) == (10, 20, False)
    assert (second["missing"], second["closed"], second["emitted"]) == ([], True, 4)


def test_a_loss_at_the_beginning_is_missing_too(write: Write, clickhouse_client: Client) -> None:
    write("gateway_epochs", epoch(1, 3), epoch(0, 0, gateway_id="_tick"))
    (row,) = clickhouse_client.query("SELECT gateway_id, missing FROM completeness").named_results()
    assert row == {"gateway_id": "gw", "missing": [(0, 1)]}


def test_conflicting_attempts_are_listed_and_revisions_are_not(write: Write, clickhouse_client: Client) -> None:
    write("usage_facts", fact("ok"), fact("ok", response_hash="r1", usage_revision=1), fact("same"), fact("same"))
    write("usage_facts", fact("content"), fact("content", response_hash="other"))
    write("usage_facts", fact("start"), fact("start", posted_hour=NOON_US + HOUR_US, request_started_at=NOON_US + 1))
    rows = clickhouse_client.query("SELECT * FROM attempt_conflicts ORDER BY request_id").named_results()
    assert [(r["request_id"], r["extra_contents"], r["extra_starts"]) for r in rows] == [
        ("content", 1, 0),
        ("start", 0, 1),
    ]
