"""One key, two contents: both copies stay as bytes, and the row says which fields differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.processors.fold.conflicts import differences
from gatemeter.processors.fold.types import LogRecord, LoudStop
from gatemeter.schemas import codec
from support.logs import (
    START_US,
    Gateway,
    Log,
    build,
    collapse,
    new_fold,
    policy,
    request,
    response,
    run,
    standard_view,
)

SECOND = 1_000_000
BOTH = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
Row = dict[str, Any]


class World:
    """A log of one gateway after its CONTROL."""

    def __init__(self) -> None:
        self.views = {1: build(standard_view())}
        self.log = Log()
        self.log.control(self.views[1])
        self.gateway = Gateway(self.log)

    def send(self, *events: Row, at: int = 1) -> LogRecord:
        return self.gateway.send(list(events), at * SECOND)

    def conflicts(self, columnar: bool, cuts: tuple[int, ...] = ()) -> list[Row]:
        rows = collapse(run(new_fold(self.views, columnar=columnar), self.log.records, cuts))["exceptions"]
        return [row for row in rows.values() if row["kind"] == "conflict"]


def differs(row: Row) -> dict[str, tuple[Any, Any]]:
    return {entry["field"]: (entry["first"], entry["second"]) for entry in json.loads(row["detail"])["differs"]}


@BOTH
@pytest.mark.parametrize("cuts", [(), (2,)], ids=["one fetch", "two fetches"])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            request("r", SECOND),
            request("r", SECOND, model="other", app_id="else"),
            {"app_id": ("chat", "else"), "model": ("gpt", "other")},
        ),
        (
            response("r", SECOND),
            response("r", SECOND, tokens=(100, 21)),
            {"output_text_visible": (20, 21)},
        ),
        (
            policy("r", SECOND, "d"),
            policy("r", 2 * SECOND, "d", started_us=SECOND, outcome="deny"),
            {"occurred_at": (START_US + SECOND, START_US + 2 * SECOND), "outcome": ("allow", "deny")},
        ),
    ],
    ids=["REQUEST", "RESPONSE", "POLICY"],
)
def test_both_contents_are_kept_and_compared(
    columnar: bool, cuts: tuple[int, ...], first: Row, second: Row, expected: dict[str, Any]
) -> None:
    world = World()
    earlier = world.send(request("before", SECOND), first)
    later = world.send(response("before", 2 * SECOND), second, at=3)
    (row,) = world.conflicts(columnar, cuts)
    assert (row["offset"], row["event_index"]) == (later.offset, 1)
    assert (row["raw"], row["first_offset"], row["first_raw"]) == (later.value, earlier.offset, earlier.value)
    assert differs(row) == expected


@BOTH
def test_a_response_is_compared_with_the_response_not_with_its_request(columnar: bool) -> None:
    world = World()
    world.send(request("r", SECOND))
    answer = world.send(response("r", 2 * SECOND), at=2)
    world.send(response("r", 2 * SECOND, tokens=(1, 1)), at=3)
    (row,) = world.conflicts(columnar, (2, 3))
    assert (row["first_offset"], row["first_raw"]) == (answer.offset, answer.value)


@BOTH
def test_a_request_is_compared_with_the_request_after_its_response_came(columnar: bool) -> None:
    world = World()
    asked = world.send(request("r", SECOND))
    world.send(response("r", 2 * SECOND), at=2)
    world.send(request("r", SECOND, model="other"), at=3)
    (row,) = world.conflicts(columnar, (2, 3))
    assert (row["first_offset"], differs(row)) == (asked.offset, {"model": ("gpt", "other")})


@BOTH
def test_another_start_of_another_revision_is_compared_with_the_first_response(columnar: bool) -> None:
    world = World()
    first = world.send(response("r", 2 * SECOND, started_us=SECOND))
    world.send(response("r", 2 * SECOND, started_us=2 * SECOND, usage_revision=1), at=2)
    (row,) = world.conflicts(columnar)
    assert row["first_offset"] == first.offset
    assert differs(row)["usage_revision"] == (0, 1)
    assert differs(row)["request_started_at"] == (START_US + SECOND, START_US + 2 * SECOND)


@BOTH
def test_a_conflict_within_one_batch_keeps_the_batch_once_as_each_copy(columnar: bool) -> None:
    world = World()
    record = world.send(
        response("r", SECOND), response("r", SECOND, tokens=(1, 1)), response("r", SECOND, tokens=(2, 2))
    )
    second, third = world.conflicts(columnar)
    assert (second["event_index"], second["raw"], second["first_raw"]) == (1, record.value, record.value)
    assert (third["event_index"], third["raw"], third["first_raw"]) == (2, b"", b"")
    assert second["first_offset"] == third["first_offset"] == record.offset
    assert differs(third)["input_text_uncached"] == (100, 2)


@BOTH
def test_every_further_copy_is_compared_with_the_first_one(columnar: bool) -> None:
    world = World()
    first = world.send(response("r", SECOND))
    for number in (2, 3):
        world.send(response("r", SECOND, tokens=(number, number)), at=number)
    rows = world.conflicts(columnar, (2, 3))
    assert [row["first_offset"] for row in rows] == [first.offset] * 2
    assert [differs(row)["output_text_visible"] for row in rows] == [(20, 2), (20, 3)]


@BOTH
def test_a_worker_that_resumes_writes_the_same_conflict_and_asks_for_the_same_record(columnar: bool) -> None:
    world = World()
    first = world.send(request("r", SECOND), response("r", SECOND))
    world.send(response("r", SECOND, tokens=(1, 1)), at=2)
    world.send(response("r", SECOND, tokens=(2, 2)), at=3)
    before = new_fold(world.views, columnar=columnar)
    outputs = run(before, world.log.records[:3])
    after = new_fold(world.views, columnar=columnar, checkpoint=outputs[-1].checkpoint)
    replayed = after.fold(world.log.records[:3])
    assert (replayed.conflicts, replayed.wanted, replayed.tables) == ([], [], {})
    output = after.fold(world.log.records[3:])
    assert output.wanted == [first.offset]
    output.complete(world.log.records.__getitem__)
    (row,) = collapse([output])["exceptions"].values()
    assert row in world.conflicts(columnar)


@BOTH
def test_what_cannot_be_read_again_leaves_no_row_behind(columnar: bool) -> None:
    world = World()
    world.send(response("r", SECOND))
    world.send(response("r", SECOND, tokens=(1, 1)), at=2)
    fold = new_fold(world.views, columnar=columnar)
    run(fold, world.log.records[:2])
    output = fold.fold(world.log.records[2:])

    def away(offset: int) -> LogRecord:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        output.complete(away)
    assert "exceptions" not in output.tables
    assert output.wanted == [1]
    output.complete(world.log.records.__getitem__)
    assert output.tables["exceptions"].num_rows == 1
    assert output.wanted == []


@BOTH
def test_another_record_under_the_first_ones_offset_stops_loudly(columnar: bool) -> None:
    world = World()
    world.send(response("r", SECOND))
    world.send(response("r", SECOND, tokens=(1, 1)), at=2)
    fold = new_fold(world.views, columnar=columnar)
    run(fold, world.log.records[:2])
    output = fold.fold(world.log.records[2:])
    with pytest.raises(LoudStop, match="record at offset 1 is not the one that was folded there"):
        output.complete(lambda offset: world.log.records[0]._replace(offset=offset))


@BOTH
def test_equal_copies_are_no_conflicts(columnar: bool) -> None:
    world = World()
    world.send(request("r", SECOND), response("r", SECOND), policy("r", SECOND, "d"))
    world.send(request("r", SECOND), response("r", SECOND), policy("r", SECOND, "d"), at=2)
    assert world.conflicts(columnar, (2,)) == []


def test_long_texts_are_shown_by_their_beginning() -> None:
    event = codec.decode(Gateway(Log()).value([codec.encode_event(response("r", 0))], 0, 0)).datum["events"][0]
    (entry,) = differences(event, {**event, "usage_raw": "x" * 1000})
    assert entry == {"field": "usage_raw", "first": None, "second": "x" * 200 + "…"}
