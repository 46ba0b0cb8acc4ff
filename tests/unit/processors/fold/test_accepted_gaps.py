"""A log whose beginning is gone: what an accepted gap carries over, what it does not, and what then still holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from gatemeter.processors.fold import checkpoint as checkpoints
from gatemeter.processors.fold.checkpoint import Snapshot
from gatemeter.processors.fold.state import Clock, Epochs, EpochState
from gatemeter.processors.fold.types import HOUR_US, MINUTE_US, LoudStop
from gatemeter.processors.generations import successor
from support.logs import START_US, Gateway, Log, build, collapse, new_fold, request, response, run, standard_view

SECOND = 1_000_000
VIEW = build(standard_view())
VIEWS = {1: VIEW}


def accepted(checkpoint: Mapping[str, Any], begin: int, gateway: Gateway, settled: int) -> dict[str, Any]:
    """A row as `accept` writes it: floors at the last log time, nothing to replay."""
    clock = Clock(checkpoint["log_time"], checkpoint["posting_floor"], checkpoint["log_time"], 0)
    epochs = {(gateway.gateway_id, gateway.epoch): EpochState(((0, settled),), checkpoint["log_time"])}
    state = checkpoints.encode_state(Snapshot(begin, clock, 1, epochs), [])
    lost = begin - checkpoint["next_offset"]
    places = {"first_offset": begin, "next_offset": begin, "replay_from": begin}
    return {**checkpoint, **places, "state": state, "last_digest": "", "records_skipped": lost}


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_the_fold_goes_on_behind_a_gap_without_counting_anything_again(columnar: bool) -> None:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    events = [response("r1", 0), response("r2", SECOND), request("r3", SECOND)]
    gateway.send(events, SECOND)
    before = run(new_fold(VIEWS, columnar=columnar), log.records)
    checkpoint = before[-1].checkpoint
    assert checkpoint is not None
    gateway.send([response("lost", 2 * SECOND)], 2 * SECOND)
    gateway.send(events, 3 * SECOND, first_sequence=0)
    gateway.send([response("r3", MINUTE_US, started_us=SECOND), response("r4", MINUTE_US)], MINUTE_US)
    gateway.send([request("r5", MINUTE_US), response("r5", 7 * MINUTE_US, started_us=MINUTE_US)], 7 * MINUTE_US)
    row = accepted(checkpoint, 3, gateway, 3)
    fold = new_fold(VIEWS, columnar=columnar, checkpoint=row)
    assert not fold.replaying
    fold.check_log_bounds(earliest=3, end=6)
    after = [fold.fold([record]) for record in log.records[3:]]
    tables = collapse([*before, *after])
    assert {fact["request_id"] for fact in tables["usage_facts"].values()} == {"r1", "r2", "r3", "r4", "r5"}
    last = after[-1].checkpoint
    assert last is not None
    assert last["next_offset"] == last["records"] + last["records_skipped"] == 6
    assert (last["records_skipped"], last["events_duplicate"]) == (1, 3)
    resumed = new_fold(VIEWS, columnar=columnar, checkpoint=last)
    again = resumed.fold(log.records[last["replay_from"] :])
    assert again.tables == {}
    assert collapse([*before, *after, again]) == tables


def test_a_gap_does_not_reopen_an_hour_and_a_lost_memory_adds_nothing_to_windows() -> None:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    gateway.send([response("r1", 3 * HOUR_US)], 3 * HOUR_US)
    checkpoint = run(new_fold(VIEWS, columnar=True), log.records)[-1].checkpoint
    assert checkpoint is not None
    copied = response("r1", 3 * HOUR_US)
    gateway.send([copied, response("late", HOUR_US)], 3 * HOUR_US + SECOND)
    fold = new_fold(VIEWS, columnar=True, checkpoint=accepted(checkpoint, 2, gateway, 1))
    output = fold.fold(log.records[2:])
    facts = collapse([output])["usage_facts"].values()
    assert {(fact["request_id"], fact["fresh"]) for fact in facts} == {("r1", False), ("late", False)}
    assert min(fact["posted_hour"] for fact in facts) - START_US == 2 * HOUR_US
    assert "usage_windows" not in output.tables


def test_the_messages_of_loud_stops_name_the_command_that_goes_on() -> None:
    log = Log()
    log.control(VIEW)
    Gateway(log).send([response("r1", 0)], 0)
    checkpoint = run(new_fold(VIEWS, columnar=True), log.records)[-1].checkpoint
    fold = new_fold(VIEWS, columnar=True, checkpoint=checkpoint)
    with pytest.raises(LoudStop, match=r"accept-gap --events-topic gatemeter\.events --partition 0 --reason"):
        fold.check_log_bounds(earliest=5, end=9)
    with pytest.raises(LoudStop, match=r"topics apply --events-topic gatemeter\.events\.g2"):
        fold.check_log_bounds(earliest=0, end=1)


def test_a_gap_keeps_the_end_of_the_log_checked() -> None:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    gateway.send([response("r1", 0)], 0)
    checkpoint = run(new_fold(VIEWS, columnar=True), log.records)[-1].checkpoint
    assert checkpoint is not None
    fold = new_fold(VIEWS, columnar=True, checkpoint=accepted(checkpoint, 9, gateway, 1))
    with pytest.raises(LoudStop, match="ends at offset 4"):
        fold.check_log_bounds(earliest=4, end=4)


def test_a_discarded_epoch_that_was_never_heard_survives_a_snapshot() -> None:
    epochs = Epochs()
    key = ("gw-a", f"{START_US}-1-{1:016x}")
    epochs.discard(key, 3, 5, START_US)
    assert asdict(epochs.snapshot(START_US + 40)[key]) == {"settled": ((3, 5),), "last_heard_us": 0}
    assert epochs.snapshot(START_US + 31 * 24 * HOUR_US) == {}


@pytest.mark.parametrize(
    ("topic", "after"),
    [("gatemeter.events", "gatemeter.events.g2"), ("gatemeter.events.g2", "gatemeter.events.g3"), ("e.g9", "e.g10")],
)
def test_generations_are_numbered(topic: str, after: str) -> None:
    assert successor(topic) == after
