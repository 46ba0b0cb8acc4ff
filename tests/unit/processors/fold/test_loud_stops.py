"""When the fold may not go on: stops that name the cause, pauses that consume nothing, keys and epochs that end."""

from __future__ import annotations

import pytest

from gatemeter.processors.fold.types import DAY_US, HOUR_US, MINUTE_US, LoudStop, SecretMissing
from gatemeter.processors.metadata.log import NeedsMetadata
from support.logs import (
    SECRET,
    START_US,
    FakeMetadata,
    Gateway,
    Log,
    build,
    collapse,
    new_fold,
    request,
    response,
    run,
    standard_view,
)

SECOND = 1_000_000
pytestmark = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
VIEW = build(standard_view())


def new_log() -> tuple[Log, Gateway]:
    log = Log()
    log.control(VIEW)
    return log, Gateway(log)


def test_a_log_that_does_not_begin_with_a_control_is_refused(columnar: bool) -> None:
    log = Log()
    Gateway(log).send([response("r1", 0)], 0)
    with pytest.raises(LoudStop, match="does not start with a CONTROL"):
        new_fold({1: VIEW}, columnar=columnar).fold(log.records)


def test_a_first_control_with_a_bad_signature_does_not_count(columnar: bool) -> None:
    log = Log()
    good = log.control(VIEW)
    log.records[0] = log.append(good.value, [(name, b"x" * 64) for name, _ in good.headers], 0)
    del log.records[1:]
    with pytest.raises(LoudStop, match="does not start with a CONTROL"):
        new_fold({1: VIEW}, columnar=columnar).fold(log.records)


def test_a_log_that_is_shorter_or_begins_later_than_the_checkpoint_stops(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", 0)], 0)
    checkpoint = run(new_fold({1: VIEW}, columnar=columnar), log.records)[-1].checkpoint
    fold = new_fold({1: VIEW}, columnar=columnar, checkpoint=checkpoint)
    with pytest.raises(LoudStop, match="ends at offset 1"):
        fold.check_log_bounds(earliest=0, end=1)
    with pytest.raises(LoudStop, match="starts at offset 1"):
        fold.check_log_bounds(earliest=1, end=9)
    with pytest.raises(LoudStop, match="starts at offset 5"):
        new_fold({1: VIEW}, columnar=columnar).check_log_bounds(earliest=5, end=9)


def test_another_number_of_partitions_stops(columnar: bool) -> None:
    log, _ = new_log()
    checkpoint = run(new_fold({1: VIEW}, columnar=columnar), log.records)[-1].checkpoint
    assert checkpoint is not None
    with pytest.raises(LoudStop, match="number never changes"):
        new_fold({1: VIEW}, columnar=columnar, checkpoint={**checkpoint, "partitions": 2})


def test_a_record_more_than_an_hour_ahead_of_the_worker_stops_it(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", HOUR_US)], HOUR_US)
    fold = new_fold({1: VIEW}, columnar=columnar, now_us=START_US)
    fold.fold(log.records)
    gateway.send([response("r2", HOUR_US + SECOND)], HOUR_US + SECOND)
    with pytest.raises(LoudStop, match="ahead of this worker's clock"):
        fold.fold(log.records)
    assert fold.next_offset == 2


def test_a_fold_release_that_this_worker_is_not_stops_it_at_the_control_and_on_resume(columnar: bool) -> None:
    log, gateway = new_log()
    for at_us in (0, 2 * SECOND, HOUR_US, 2 * HOUR_US):
        gateway.send([], at_us)
    first = new_fold({1: VIEW}, columnar=columnar)
    checkpoint = [first.fold([record]) for record in log.records][-1].checkpoint
    assert checkpoint is not None
    assert checkpoint["replay_from"] > 0, "the CONTROL is not folded again"
    other = build(standard_view(fold_release=2), 2)
    log.control(other, 2 * HOUR_US)
    fold = new_fold({1: VIEW, 2: other}, columnar=columnar)
    with pytest.raises(LoudStop, match="fold release 2 is in force"):
        fold.fold(log.records)
    assert fold.next_offset == 0
    resumed = new_fold({1: build(standard_view(fold_release=2))}, columnar=columnar, checkpoint=checkpoint)
    with pytest.raises(LoudStop, match="fold release 2 is in force"):
        resumed.fold(log.records[:-1])


def test_metadata_that_is_not_what_the_operator_signed_stops(columnar: bool) -> None:
    log, _ = new_log()
    tampered = standard_view().view(1, b"\xff" * 32)
    with pytest.raises(LoudStop, match="not what the operator signed"):
        new_fold({1: tampered}, columnar=columnar).fold(log.records)


def test_metadata_that_is_not_loaded_and_a_missing_secret_pause_and_consume_nothing(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", 0)], 0)
    newer = build(standard_view(), 2)
    log.control(newer, SECOND)
    secrets = {"b-1": SECRET}
    fold = new_fold({1: VIEW}, columnar=columnar, secrets=secrets)
    with pytest.raises(SecretMissing, match="'a-1'"):
        fold.fold(log.records)
    secrets["a-1"] = SECRET
    with pytest.raises(NeedsMetadata):
        fold.fold(log.records)
    assert fold.next_offset == 0
    metadata = fold._metadata
    assert isinstance(metadata, FakeMetadata)
    metadata.views[2] = newer
    output = fold.fold(log.records)
    assert output.checkpoint is not None
    assert (output.checkpoint["records"], output.checkpoint["events_admitted"]) == (3, 1)


@pytest.mark.parametrize("one_call", [True, False])
def test_a_key_is_judged_at_the_timestamp_of_its_record(columnar: bool, one_call: bool) -> None:
    ends = START_US + MINUTE_US
    view = build(standard_view().gateway("gw-a", "a-1", valid_from_us=START_US + SECOND, valid_to_us=ends))
    log = Log()
    log.control(view)
    gateway = Gateway(log)
    for name, at_us in (("early", SECOND - 1), ("first", SECOND), ("last", MINUTE_US - 1), ("late", MINUTE_US)):
        gateway.send([response(name, at_us)], at_us)
    gateway.send([response("stepped back", MINUTE_US)], MINUTE_US - SECOND)
    cuts = [] if one_call else [1, 2, 3, 4, 5]
    tables = collapse(run(new_fold({1: view}, columnar=columnar), log.records, cuts))
    assert sorted(row["request_id"] for row in tables["usage_facts"].values()) == ["first", "last", "stepped back"]
    assert [row["reason"] for row in tables["quarantine"].values()] == ["key_not_valid", "key_not_valid"]


@pytest.mark.parametrize("one_call", [True, False])
def test_an_epoch_ends_30_days_after_it_was_last_heard(columnar: bool, one_call: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", 0)], 0)
    gateway.send([response("r2", 30 * DAY_US)], 30 * DAY_US)
    gateway.send([response("r3", 60 * DAY_US + 1)], 60 * DAY_US + 1)
    gateway.send([response("r4", 60 * DAY_US + 2)], 60 * DAY_US + 2)
    cuts = [] if one_call else [1, 2, 3, 4]
    tables = collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records, cuts))
    assert [row["request_id"] for row in tables["usage_facts"].values()] == ["r1", "r2"]
    assert [row["reason"] for row in tables["quarantine"].values()] == ["epoch_expired", "epoch_expired"]


def test_a_lower_horizon_ends_the_waits_that_it_no_longer_covers(columnar: bool) -> None:
    """Else an exchange that is forgotten could wait again in a replay that begins in its middle."""
    short = build(standard_view(horizon_us=2 * MINUTE_US, orphan_timer_us=MINUTE_US), 2)
    views = {1: VIEW, 2: short}
    log, gateway = new_log()
    gateway.send([response("r1", 2 * SECOND)], 2 * SECOND)
    gateway.send([request("r1", 5 * SECOND, started_us=2 * SECOND), request("r2", 5 * SECOND)], 5 * SECOND)
    log.control(short, 8 * SECOND)
    for at_us in (MINUTE_US, 2 * MINUTE_US + 5 * SECOND, 4 * MINUTE_US, 11 * MINUTE_US, 30 * MINUTE_US):
        gateway.send([], at_us)
    fold = new_fold(views, columnar=columnar)
    outputs = [fold.fold([record]) for record in log.records]
    expected = collapse(outputs)
    orphans = [row for row in expected["usage_facts"].values() if row["status"] == "orphan"]
    assert [row["request_id"] for row in orphans] == ["r2"]
    for output in outputs:
        resumed = new_fold(views, columnar=columnar, checkpoint=output.checkpoint)
        again = [resumed.fold([record]) for record in log.records]
        assert collapse([*outputs, *again]) == expected
        last = again[-1].checkpoint or output.checkpoint
        assert last is not None
        assert last["orphans"] == 1
