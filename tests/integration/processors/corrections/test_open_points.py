"""What is open in a month, kind by kind; what is settled, discarded, corrected or of another month is not."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.month_states import MonthState, last_copied, month_states
from gatemeter.processors.corrections.open_points import KINDS, OpenPoint, month_bounds, open_points
from gatemeter.processors.corrections.staging import stage
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.corrections import RUN, commit_row, replacing
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, decision, fact

APRIL = month_bounds("2026-04")[0]
EPOCH = f"{NOON_US}-1-000000000000000a"


class Month:
    """A database to look into."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.client, self.sink = client, ClickHouseSink(settings)

    def write(self, table: str, *rows: dict[str, Any]) -> None:
        self.sink.write(table, rows_to_arrow(table, list(rows)))

    def points(self, period: str = "2026-03") -> dict[str, OpenPoint]:
        return {point.kind: point for point in open_points(self.client, period, looks=1)}


@pytest.fixture
def month(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Month:
    return Month(clickhouse_database, clickhouse_client)


def orphan(request_id: str, **changes: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("charge", "token_cost", "provider_cost", "markup", "absorbed", "list_cost"))
    row = fact(request_id, response_hash="", version=1, status="orphan", has_response=False, price_status="no_usage")
    return row | unknown | {"fresh": False, "window_tokens": 0, "window_cost": 0} | changes


def unpriced(request_id: str, **changes: Any) -> dict[str, Any]:
    return fact(request_id, price_status="unpriced", charge=None, token_cost=None, provider_cost=None, **changes)


def received(epoch: str, **changes: Any) -> dict[str, Any]:
    row = blank_row("gateway_epochs") | {"gateway_id": "gw", "epoch": epoch, "topic": "gatemeter.events"}
    return row | {"first_sequence": 0, "next_sequence": 5, "heartbeat_sequence": 9} | changes


def test_a_month_in_which_all_is_well_has_no_open_points(month: Month) -> None:
    month.write("usage_facts", fact("r1", window_tokens=0, window_cost=0))
    found = month.points()
    assert tuple(found) == KINDS
    assert {kind: point.count for kind, point in found.items() if kind != "conservation"} == dict.fromkeys(
        KINDS[:-1], 0
    )


def test_attempts_and_decisions_without_a_price_or_usage_are_counted_by_kind(month: Month) -> None:
    next_month = {"usage_hour": APRIL, "posted_hour": APRIL, "request_started_at": APRIL}
    month.write(
        "usage_facts",
        fact("good"),
        unpriced("r1"),
        unpriced("r2", **next_month),
        orphan("r3"),
        orphan("r4", **next_month),
        orphan("b1", status="in_progress", workload_class="batch"),
        orphan("b2", status="in_progress", workload_class="batch", **next_month),
        fact("r5", price_status="no_usage", charge=None, input_text_uncached=None, output_text_visible=None),
    )
    month.write("policy_facts", decision("d1", "r1", price_status="unpriced", charge=None, policy_cost=None))
    found = month.points()
    assert found["unpriced"] == OpenPoint("unpriced", 2, ("gw/r1/1", "gw/d1"))
    assert found["orphans"] == OpenPoint("orphans", 1, ("gw/r3/1",))
    assert found["without_usage"] == OpenPoint("without_usage", 1, ("gw/r5/1",))
    assert found["carried_over"] == OpenPoint("carried_over", 1, ("gw/b1/1",))
    assert month.points("2026-04")["carried_over"].count == 2  # one of them since March


def test_missing_events_and_silent_epochs_are_those_of_the_month(month: Month) -> None:
    april = f"{APRIL}-1-000000000000000b"
    month.write("gateway_epochs", received(EPOCH), received(april, recorded_at=APRIL + 1))
    found = month.points()
    assert found["missing"] == OpenPoint("missing", 4, (f"gw {EPOCH} gatemeter.events[0]",))
    assert found["unclosed"] == OpenPoint("unclosed", 1, (f"gw {EPOCH}",))
    gone = blank_row("quarantine_discards") | {"gateway_id": "gw", "epoch": EPOCH, "topic": "gatemeter.events"}
    month.write("quarantine_discards", gone | {"first_sequence": 5, "next_sequence": 8, "discard_offset": 3})
    assert month.points()["missing"].count == 1
    month.write("gateway_epochs", received(EPOCH, heartbeat_sequence=9, recorded_at=APRIL + HOUR_US))
    found = month.points()
    assert (found["missing"].count, found["unclosed"].count) == (1, 0)  # it lived on in April


def test_refused_records_count_until_they_are_discarded(month: Month) -> None:
    refused = blank_row("quarantine") | {"topic": "gatemeter.events", "event_index": -1, "reason": "bad_mac"}
    month.write("quarantine", refused | {"offset": 4}, refused | {"offset": 5, "record_digest": "b"})
    month.write("quarantine", refused | {"offset": 6, "record_digest": "c", "recorded_at": APRIL})
    assert month.points()["quarantine"].count == 2
    gone = blank_row("quarantine_discards") | {"topic": "gatemeter.events", "offset": 5, "event_index": -1}
    month.write("quarantine_discards", gone | {"discard_offset": 9})
    assert month.points()["quarantine"] == OpenPoint("quarantine", 1, ("gatemeter.events[0]@4 bad_mac",))


def test_a_conflict_counts_until_its_attempt_has_a_correction_by_hand(month: Month) -> None:
    conflict = blank_row("exceptions") | {"kind": "conflict", "gateway_id": "gw", "request_id": "r1", "attempt": 1}
    month.write("exceptions", conflict, conflict | {"offset": 1, "kind": "bad_attestation"})
    assert month.points()["conflicts"] == OpenPoint("conflicts", 1, ("conflict gw/r1/1",))
    staged = stage(month.sink, RUN, [replacing("r1", cause="manual")])
    assert month.points()["conflicts"].count == 1
    month.write("commits", commit_row(staged))
    assert month.points()["conflicts"].count == 0


def test_what_evidence_saw_and_nobody_metered_counts_in_the_month_of_its_start(month: Month) -> None:
    seen = blank_row("evidence") | {"topic": "gatemeter.events", "gateway_id": "agent", "kind": "RESPONSE"}
    month.write("evidence", seen | {"request_id": "r1", "attempt": 1})
    month.write("evidence", seen | {"request_id": "r2", "offset": 1, "request_started_at": APRIL})
    month.write("ingest_batches", checkpoint(posting_floor=APRIL))
    assert month.points()["unmetered"] == OpenPoint("unmetered", 1, ("gatemeter.events/0/0/0 agent/r1/1",))


def test_partitions_that_do_not_add_up_are_named(month: Month) -> None:
    month.write("ingest_batches", checkpoint(records=9))
    found = month.points()["conservation"]
    assert found.count == 1
    assert found.examples[0].startswith("gatemeter.events[0]: offsets without a record")


def test_months_go_from_the_first_seal_to_the_hour_after_the_last(month: Month) -> None:
    assert month_states(month.client) == []
    assert last_copied(month.client) == -1
    seal = blank_row("seals")
    hours = [APRIL - 3 * HOUR_US + number * HOUR_US for number in range(5)]
    rows = [seal | {"number": number, "posted_hour": hour} for number, hour in enumerate(hours)]
    month.write("seals", *rows[:2])
    assert month_states(month.client) == [MonthState("2026-03", "open", 2, 3)]
    month.write("seals", *rows[2:3])
    assert month_states(month.client) == [MonthState("2026-03", "sealed", 3, 3), MonthState("2026-04", "open", 0, 720)]
    month.write("seals", *rows[3:])
    month.write("closed_periods", blank_row("closed_periods") | {"period": "2026-03"})
    assert month_states(month.client) == [MonthState("2026-03", "closed", 3, 3), MonthState("2026-04", "open", 2, 720)]
    assert last_copied(month.client) == 4
