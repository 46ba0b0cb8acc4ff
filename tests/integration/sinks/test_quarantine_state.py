"""What came of refused records, derived from the tables of a fold: open, admitted, discarded, refused again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.partition import Output
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.reports.quarantine import Filters, Refusal, effect_of, in_view, records, refusals
from support.logs import START_US, TOPIC, Gateway, Log, build, new_fold, response, run, standard_view
from support.newer_schema import install, newer_value, successor

SECOND = 1_000_000
MINUTE = 60 * SECOND
VIEWS = {
    1: build(standard_view(), 1),
    2: build(standard_view().gateway("gw-c", "c-1"), 2),
}


class World:
    """A log, and the tables as a fold of it leaves them."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.sink = ClickHouseSink(settings)
        self.client = client
        self.log = Log()
        self.log.control(VIEWS[1])
        self.gateway = Gateway(self.log)

    def states(self, filters: Filters | None = None, *, columnar: bool = True) -> dict[tuple[int, int], str]:
        return {(row.offset, row.event_index): row.state for row in self.rows(filters, columnar=columnar)}

    def rows(self, filters: Filters | None = None, *, columnar: bool = True) -> list[Refusal]:
        cuts = range(1, len(self.log.records), 3)
        self.write(run(new_fold(VIEWS, columnar=columnar), self.log.records, list(cuts)))
        return refusals(self.client, filters or Filters())

    def write(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            for table, rows in output.tables.items():
                self.sink.write(table, rows)


@pytest.fixture
def world(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Iterator[World]:
    world = World(clickhouse_database, clickhouse_client)
    yield world
    world.sink.close()


def from_the_future(request_id: str, at_us: int) -> dict[str, object]:
    """Refused until log time has come near it."""
    return response(request_id, at_us + 10 * MINUTE)


def test_trace_21_a_hole_that_is_replayed_twice_is_admitted_once(world: World) -> None:
    good = [response("r0", 0), from_the_future("r1", SECOND), response("r2", 0)]
    refused = world.gateway.send(good, SECOND)
    assert world.states() == {(1, 1): "open"}
    world.log.again(refused, 2 * SECOND)
    assert world.states() == {(1, 1): "refused_again", (2, 1): "open"}
    world.log.again(refused, 11 * MINUTE)
    world.log.again(refused, 12 * MINUTE)
    assert world.states() == {(1, 1): "refused_again", (2, 1): "admitted"}
    assert effect_of(world.client, (TOPIC, 0, 3)).facts == 1
    assert effect_of(world.client, (TOPIC, 0, 4)).facts == 0
    assert world.client.query("SELECT count() FROM usage_facts FINAL").result_rows == [(3,)]


def test_trace_02_a_record_of_an_unknown_key_is_admitted_by_its_replay_after_the_key_was_added(world: World) -> None:
    stranger = Gateway(world.log, "gw-c", "c-1")
    refused = stranger.send([response("r1", 0), response("r2", 0)], SECOND)
    world.gateway.send([response("other", SECOND)], SECOND)
    (row,) = world.rows()
    assert (row.state, row.reason, row.gateway_id) == ("open", "unknown_key", "")
    assert tuple(row.claims) == ("gw-c", stranger.epoch, 0, 2)
    world.log.again(refused, 2 * SECOND)
    assert world.states() == {(1, -1): "refused_again", (3, -1): "open"}
    world.log.control(VIEWS[2], 3 * SECOND)
    world.log.again(refused, 4 * SECOND)
    assert world.states() == {(1, -1): "refused_again", (3, -1): "admitted"}
    (kept,) = records(world.client, [(TOPIC, 0, 1)])
    assert (kept.value, kept.headers, kept.key) == (refused.value, refused.headers, refused.key)


def test_a_record_that_came_again_cut_otherwise_is_admitted_when_all_of_it_came(world: World) -> None:
    stranger = Gateway(world.log, "gw-c", "c-1")
    events = [response(f"r{number}", 0) for number in range(4)]
    stranger.send(events, SECOND)
    world.log.control(VIEWS[2], 2 * SECOND)
    stranger.send(events[2:], 3 * SECOND, first_sequence=2)
    assert world.states() == {(1, -1): "open"}
    stranger.send(events[:2], 4 * SECOND, first_sequence=0)
    assert world.states() == {(1, -1): "admitted"}


@pytest.mark.parametrize("columnar", [False, True])
def test_what_is_discarded_says_by_whom_and_why(world: World, columnar: bool) -> None:
    refused = world.gateway.send([response("r0", 0), from_the_future("r1", SECOND)], SECOND)
    garbage = world.log.append(b"garbage", [], SECOND)
    world.log.discard(refused, 1, world.gateway, (1, 2), 2 * SECOND)
    blank = {"gateway_id": "", "epoch": "", "first_sequence": 0, "next_sequence": 0}
    world.log.operate("Discard", 2 * SECOND, offset=garbage.offset, event_index=-1, **blank)
    world.log.again(refused, 11 * MINUTE)
    rows = world.rows(columnar=columnar)
    assert [(row.offset, row.event_index, row.state) for row in rows] == [(1, 1, "discarded"), (2, -1, "discarded")]
    assert {(row.discarded_by, row.discard_reason) for row in rows} == {("ops", "because")}


def test_a_tampered_copy_of_what_was_admitted_stays_open(world: World) -> None:
    good = world.gateway.send([response("r0", 0)], SECOND)
    world.log.append(good.value, [("gm-kid", b"a-1"), ("gm-mac", bytes(32))], 2 * SECOND)
    assert world.states() == {(2, -1): "open"}


def test_filters_choose_by_place_time_gateway_reason_and_state(world: World) -> None:
    Gateway(world.log, "gw-c", "c-1").send([response("r1", 0)], SECOND)
    world.log.append(b"garbage", [], 2 * SECOND)
    world.gateway.send([from_the_future("r1", 3 * SECOND)], 3 * SECOND)
    everything = {(1, -1), (2, -1), (3, 0)}
    cases = {
        Filters(): everything,
        Filters(topic="elsewhere"): set(),
        Filters(partition=1): set(),
        Filters(first_offset=2): {(2, -1), (3, 0)},
        Filters(first_offset=2, last_offset=2): {(2, -1)},
        Filters(gateway="gw-c"): {(1, -1)},
        Filters(gateway="gw-a"): {(3, 0)},
        Filters(reason="future"): {(3, 0)},
        Filters(since_us=START_US + 2 * SECOND): {(2, -1), (3, 0)},
        Filters(until_us=START_US + 2 * SECOND): {(1, -1)},
        Filters(state="open"): everything,
        Filters(state="discarded"): set(),
    }
    for filters, expected in cases.items():
        assert set(world.states(filters)) == expected, filters
    assert len(refusals(world.client, Filters(), limit=2)) == 2


def test_a_record_that_no_worker_could_read_is_admitted_in_the_view_once_an_operator_says_what_it_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its replay is admitted by a release that knows the schema; the view cannot read bytes."""
    new = successor()
    value = newer_value(world.gateway, [response("r1", 0)], new)
    refused = world.log.append(value, world.gateway.headers(value), SECOND)
    fold = new_fold(VIEWS, columnar=True)
    outputs = run(fold, world.log.records)
    world.write(outputs)
    (unread,) = refusals(world.client, Filters())
    assert (unread.state, unread.reason, unread.claims.epoch) == ("open", "unknown_fingerprint", "")
    install(new, monkeypatch)
    world.log.again(refused, 2 * SECOND)
    upgraded = new_fold(VIEWS, columnar=True, checkpoint=outputs[-1].checkpoint)
    world.write(run(upgraded, world.log.records))
    (late,) = in_view(world.client, Filters(state="open"))
    assert (late.state, late.read_late, tuple(late.claims)) == ("admitted", True, ("gw-a", world.gateway.epoch, 0, 1))
    assert refusals(world.client, Filters(state="open")) == []
    world.log.discard(refused, -1, world.gateway, (0, 1), 3 * SECOND)
    world.write(run(upgraded, world.log.records))
    state = "SELECT state, claimed_gateway_id, discarded_by FROM quarantine_state"
    assert world.client.query(state).result_rows == [("admitted", "gw-a", "ops")]


def test_sequences_can_be_given_up_after_the_record_was(world: World) -> None:
    stranger = Gateway(world.log, "gw-c", "c-1")
    refused = stranger.send([response("r1", 0), response("r2", 0)], SECOND)
    blank = {"gateway_id": "", "epoch": "", "first_sequence": 0, "next_sequence": 0}
    world.log.operate("Discard", 2 * SECOND, offset=refused.offset, event_index=-1, **blank)
    (row,) = world.rows()
    assert (row.state, row.sequences_given_up, row.claims.next_sequence) == ("discarded", False, 2)
    world.log.discard(refused, -1, stranger, (0, 2), 3 * SECOND)
    (row,) = world.rows()
    assert (row.state, row.sequences_given_up) == ("discarded", True)
    world.log.control(VIEWS[2], 4 * SECOND)
    world.log.again(refused, 5 * SECOND)
    assert world.states() == {(1, -1): "discarded"}, "what came after the sequences were given up is a duplicate"


def test_a_record_without_a_byte_can_be_shown_and_discarded(world: World) -> None:
    empty = world.log.append(b"", [], SECOND)
    assert world.states() == {(1, -1): "open"}
    (kept,) = records(world.client, [(TOPIC, 0, empty.offset)])
    assert (kept.value, kept.headers) == (b"", ())
