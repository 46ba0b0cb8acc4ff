"""Traces that broke earlier drafts of the protocol: workers that die, partitions that move, logs made anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gatemeter.processors.fold.types import MINUTE_US, LoudStop
from gatemeter.processors.partition import Output
from support.logs import (
    PRICES,
    Gateway,
    Log,
    assert_conserved,
    build,
    collapse,
    new_fold,
    received,
    request,
    response,
    run,
    standard_view,
    window_total,
)

SECOND = 1_000_000
pytestmark = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
VIEW = build(standard_view())
VIEWS = {1: VIEW}


def new_log() -> tuple[Log, Gateway]:
    log = Log()
    log.control(VIEW)
    return log, Gateway(log)


def each(log: Log, columnar: bool, checkpoint: Mapping[str, Any] | None = None) -> list[Output]:
    """One fold call a record, from a checkpoint on."""
    fold = new_fold(VIEWS, columnar=columnar, checkpoint=checkpoint)
    return [fold.fold([record]) for record in log.records]


def test_trace_02_a_refused_response_is_admitted_by_the_quarantine_replay_and_only_by_it(columnar: bool) -> None:
    with_key = build(standard_view().gateway("gw-c", "c-1"), 2)
    log = Log()
    log.control(VIEW)
    Gateway(log).send([request("waits", 0)], 0)  # so that a replay begins below the refused record
    refused = Gateway(log, "gw-c", "c-1").send([response("r1", SECOND)], SECOND)
    first = run(new_fold(VIEWS, columnar=columnar), log.records)
    log.control(with_key, 2 * SECOND)
    second = new_fold(VIEWS | {2: with_key}, columnar=columnar, checkpoint=first[-1].checkpoint)
    moved = [second.fold(log.records)]
    assert moved[-1].checkpoint is not None
    assert moved[-1].checkpoint["replay_from"] <= refused.offset
    third = new_fold(VIEWS | {2: with_key}, columnar=columnar, checkpoint=moved[-1].checkpoint)
    log.again(refused, 3 * SECOND)
    moved.append(third.fold(log.records))
    tables = collapse([*first, *moved])
    assert [row["reason"] for row in tables["quarantine"].values()] == ["unknown_key"]
    (fact,) = tables["usage_facts"].values()
    assert fact["offset"] == 4
    last = moved[-1].checkpoint
    assert last is not None
    assert (last["events_admitted"], last["events_duplicate"], last["records_quarantined"]) == (2, 0, 1)
    assert_conserved(last)


def test_trace_03_a_second_fold_after_a_price_change_prices_as_the_first(columnar: bool) -> None:
    dearer = build(standard_view().rate("openai", "gpt", dict.fromkeys(PRICES, 10**9), card_id="dear", from_us=1), 2)
    log, gateway = new_log()
    gateway.send([response("r1", SECOND)], SECOND)
    before = run(new_fold({1: VIEW, 2: dearer}, columnar=columnar), log.records)
    log.control(dearer, 2 * SECOND)
    gateway.send([response("r2", 3 * SECOND)], 3 * SECOND)
    again = run(new_fold({1: VIEW, 2: dearer}, columnar=columnar), log.records)
    tables = collapse([*before, *again])
    cards = {row["request_id"]: row["rate_card_id"] for row in tables["usage_facts"].values()}
    assert cards == {"r1": "card", "r2": "dear"}
    assert collapse(again) == tables


def test_trace_08_a_log_that_was_created_again_stops_the_worker(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", SECOND)], SECOND)
    gateway.send([response("r2", 2 * SECOND)], 2 * SECOND)
    checkpoint = each(log, columnar)[-1].checkpoint
    other, stranger = new_log()
    for second in (1, 2, 3):
        stranger.send([response(f"new-{second}", second * SECOND)], second * SECOND)
    fold = new_fold(VIEWS, columnar=columnar, checkpoint=checkpoint)
    with pytest.raises(LoudStop, match="re-created"):
        fold.fold(other.records)
    with pytest.raises(LoudStop, match="ends at offset 2"):
        fold.check_log_bounds(earliest=0, end=2)
    fold.check_log_bounds(earliest=0, end=3)


def test_trace_09_a_replay_from_the_middle_of_an_exchange_writes_no_second_fact(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([request("r1", SECOND)], SECOND)
    gateway.send([response("r1", 5 * SECOND, started_us=SECOND)], 5 * SECOND)
    for minute in (1, 8, 14, 16, 40):
        gateway.send([], minute * MINUTE_US)
    whole = each(log, columnar)
    expected = collapse(whole)
    for output in whole:
        resumed = each(log, columnar, output.checkpoint)
        assert collapse([*whole, *resumed]) == expected
        last = resumed[-1].checkpoint or output.checkpoint
        assert last is not None
        assert (last["responses_fresh"], last["orphans"], last["requests"]) == (1, 0, 1)


def test_trace_10_an_orphan_is_not_lost_with_the_flush_that_wrote_it(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([request("r1", SECOND)], SECOND)
    gateway.send([], 20 * MINUTE_US)
    gateway.send([], 60 * MINUTE_US)
    _, asked, expired, later = each(log, columnar)
    assert "usage_facts" in expired.tables
    assert "usage_facts" not in later.tables
    assert asked.checkpoint is not None
    assert asked.checkpoint["replay_from"] <= 1
    resumed = each(log, columnar, asked.checkpoint)
    (fact,) = collapse(resumed)["usage_facts"].values()
    assert fact["status"] == "orphan"


def test_trace_13_a_zombie_and_its_successor_count_once(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([request("r1", 0), response("r1", SECOND, started_us=0)], SECOND)
    zombie = each(log, columnar)
    owner = run(new_fold(VIEWS, columnar=columnar), log.records)
    reply_lost = [*zombie, *owner, *owner, *zombie]
    assert collapse(reply_lost) == collapse(owner)
    checkpoints = [output.checkpoint for output in reply_lost if output.checkpoint]
    for row in checkpoints:
        assert_conserved(row)
    newest = max(checkpoints, key=lambda row: int(row["next_offset"]))
    assert (newest["events_admitted"], newest["responses_fresh"]) == (2, 1)
    gateway.send([response("r2", 2 * SECOND)], 2 * SECOND)
    resumed = each(log, columnar, newest)[-1].checkpoint
    assert_conserved(resumed)
    assert resumed is not None
    assert resumed["events_admitted"] == 3


def test_trace_19_rows_and_intervals_without_checkpoint_are_neither_skipped_nor_counted_twice(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", SECOND)], SECOND)
    saved = each(log, columnar)[-1]
    gateway.send([response("r2", 2 * SECOND), response("r2", 2 * SECOND)], 2 * SECOND)
    lost = each(log, columnar, saved.checkpoint)
    again = each(log, columnar, saved.checkpoint)
    assert received(lost) == received(again)
    assert {entry[:3] for entry in received(lost)} == {("gw-a", gateway.epoch, 1), ("gw-a", gateway.epoch, 2)}
    assert collapse([*lost, *again]) == collapse(again)
    last = again[-1].checkpoint
    assert_conserved(last)
    assert last is not None
    assert (last["events_admitted"], last["events_duplicate"]) == (2, 1)
    assert window_total(collapse([saved, *lost, *again]), "attempts") == 2
