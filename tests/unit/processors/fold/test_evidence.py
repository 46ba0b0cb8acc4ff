"""What gateways say that do not charge for it: kept, counted, and never more than evidence."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.metadata.views import View
from support.logs import (
    START_US,
    Gateway,
    Log,
    assert_conserved,
    build,
    collapse,
    new_fold,
    policy,
    request,
    response,
    run,
    standard_view,
)
from support.views import ViewBuilder

SECOND = 1_000_000
MINUTE = 60 * SECOND
BOTH = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
CORROBORATING = build(standard_view().gateway("gw-b", "b-1", role="corroborating"))

Tables = dict[str, list[dict[str, Any]]]


class World:
    """A charging gateway `a` and another one `b`, under the view given."""

    def __init__(self, columnar: bool, *views: View) -> None:
        self.columnar, self.views, self.log = columnar, {view.offset: view for view in views}, Log()
        self.log.control(views[0])
        self.a, self.b = Gateway(self.log), Gateway(self.log, "gw-b", "b-1")
        self.checkpoint: dict[str, Any] = {}

    def fold(self, *cuts: int) -> Tables:
        outputs = run(new_fold(self.views, columnar=self.columnar), self.log.records, cuts)
        assert_conserved(outputs[-1].checkpoint)
        self.checkpoint = outputs[-1].checkpoint or {}
        return {table: list(rows.values()) for table, rows in collapse(outputs).items()}


@BOTH
def test_all_events_of_a_corroborating_gateway_are_evidence_and_nothing_else(columnar: bool) -> None:
    world = World(columnar, CORROBORATING)
    said = {"trace_id": "t", "provider_request_id": "p-1", "idempotency_key": "i", "route": "/v1", "usage_raw": "{}"}
    sent = world.b.send(
        [request("r", 0), response("r", SECOND, **said), request("alone", 0), policy("r", SECOND, "d", outcome="deny")],
        SECOND,
    )
    world.a.send([], 40 * MINUTE)
    tables = world.fold()
    assert [tables[name] for name in ("usage_facts", "policy_facts", "usage_windows", "exceptions")] == [[], [], [], []]
    assert world.checkpoint["events_corroborating"] == 4
    assert [world.checkpoint[name] for name in ("events_admitted", "requests", "decisions", "orphans")] == [0] * 4
    rows = sorted(tables["evidence"], key=lambda row: row["event_index"])
    assert [(row["kind"], row["request_id"], row["sequence"], row["offset"]) for row in rows] == [
        ("REQUEST", "r", 0, sent.offset),
        ("RESPONSE", "r", 1, sent.offset),
        ("REQUEST", "alone", 2, sent.offset),
        ("POLICY", "r", 3, sent.offset),
    ]
    assert {(row["gateway_id"], row["evidence_grade"], row["reason"], row["authority_gateway_id"]) for row in rows} == {
        ("gw-b", "C", "corroborating", "")
    }
    answer = rows[1]
    assert {name: answer[name] for name in said} == said
    assert (answer["input_text_uncached"], answer["output_text_visible"], answer["searches"]) == (100, 20, None)
    assert (answer["status"], answer["tenant_id"], answer["kid"], answer["epoch"]) == (
        "ok",
        "acme",
        "b-1",
        world.b.epoch,
    )
    assert len(answer["content_hash"]) == 32
    assert (rows[3]["decision_id"], rows[3]["outcome"], rows[3]["units"]) == ("d", "deny", 3)


@BOTH
@pytest.mark.parametrize("views", [standard_view(), standard_view().authority("gw-a", "gw-b")], ids=["alone", "ruled"])
def test_what_says_it_is_telemetry_makes_no_fact_whatever_its_gateway_may(columnar: bool, views: ViewBuilder) -> None:
    """The registry says that the gateway charges; its batches say what they are, under its signature."""
    world = World(columnar, build(views))
    spans = Gateway(world.log, run=2, kind="telemetry")
    for at in range(3):
        spans.send([request(f"t{at}", at), response(f"t{at}", at), policy(f"t{at}", at, f"d{at}")], at)
        world.b.send([request(f"r{at}", at), response(f"r{at}", at)], at)
    spans.send([], SECOND)
    tables = world.fold(2)
    assert {row["request_id"] for row in tables["usage_facts"]} == {"r0", "r1", "r2"}
    assert tables["policy_facts"] == []
    assert len(tables["evidence"]) == world.checkpoint["events_corroborating"] == 9
    said = {(row["gateway_id"], row["gateway_kind"], row["reason"]) for row in tables["evidence"]}
    assert said == {("gw-a", "telemetry", "corroborating")}
    assert {row["authority_gateway_id"] for row in tables["evidence"]} == {""}


@BOTH
@pytest.mark.parametrize("first", ["agent", "gateway"])
def test_an_agent_can_neither_suppress_nor_change_a_charge(columnar: bool, first: str) -> None:
    """It names the request and attempt of another gateway, denies it, and says it cost nothing."""
    alone, world = World(columnar, CORROBORATING), World(columnar, CORROBORATING)
    alone.a.send([request("r", 0), request("waits", 0)], SECOND)
    alone.a.send([response("r", 2 * SECOND, trace_id="t")], 4 * SECOND)
    lies = [
        response("r", SECOND, tokens=(0, 0), trace_id="t"),
        response("r", SECOND, tokens=(1, 1), usage_revision=5),
        policy("waits", SECOND, "d", outcome="deny", subject_gateway_id="gw-a"),
    ]
    if first == "agent":
        world.b.send(lies, 0)
    world.a.send([request("r", 0), request("waits", 0)], SECOND)
    world.a.send([response("r", 2 * SECOND, trace_id="t")], 4 * SECOND)
    if first == "gateway":
        world.b.send(lies, 5 * SECOND)
    for each in (alone, world):
        each.a.send([], 11 * MINUTE)
    moved = ("offset", "version")
    kept, disturbed = (
        [{name: row[name] for name in row if name not in moved} for row in tables["usage_facts"]]
        for tables in (alone.fold(), world.fold())
    )
    assert kept == disturbed
    assert sorted(row["status"] for row in disturbed) == ["ok", "orphan"]


@BOTH
def test_the_authority_at_the_start_of_the_request_makes_its_fact(columnar: bool) -> None:
    view = build(standard_view().authority("gw-b", "gw-a", from_us=START_US + MINUTE, to_us=START_US + 2 * MINUTE))
    world = World(columnar, view)
    starts = (0, MINUTE - 1, MINUTE, 2 * MINUTE - 1, 2 * MINUTE)
    world.b.send([request(f"r{at}", 3 * MINUTE, started_us=at) for at in starts], 3 * MINUTE)
    world.b.send([response(f"r{at}", 3 * MINUTE, started_us=at) for at in starts], 3 * MINUTE)
    tables = world.fold()
    assert sorted(row["request_started_at"] - START_US for row in tables["usage_facts"]) == [0, MINUTE - 1, 2 * MINUTE]
    assert all(row["paired"] for row in tables["usage_facts"])
    evidence = {(row["request_started_at"] - START_US, row["kind"]) for row in tables["evidence"]}
    assert evidence == {(at, kind) for at in (MINUTE, 2 * MINUTE - 1) for kind in ("REQUEST", "RESPONSE")}
    assert {(row["reason"], row["authority_gateway_id"]) for row in tables["evidence"]} == {("authority", "gw-a")}
    assert world.checkpoint["events_corroborating"] == 4


@BOTH
def test_one_call_seen_by_two_gateways_is_one_charge(columnar: bool) -> None:
    world = World(columnar, build(standard_view().authority("gw-b", "gw-a", route="/v1")))
    for gateway, name in ((world.b, "outer"), (world.a, "inner")):
        call = {"trace_id": "t", "route": "/v1"}
        gateway.send([request(name, 0, **call), response(name, SECOND, **call)], SECOND)
    tables = world.fold()
    assert [(row["gateway_id"], row["request_id"]) for row in tables["usage_facts"]] == [("gw-a", "inner")]
    assert {row["request_id"] for row in tables["evidence"]} == {"outer"}


@BOTH
def test_a_route_of_its_own_goes_before_any_route(columnar: bool) -> None:
    view = standard_view().authority("gw-b", "gw-a").authority("gw-b", "gw-b", route="/own")
    world = World(columnar, build(view))
    world.b.send([response(f"r{route}", 0, route=route) for route in ("/own", "/else", None)], 0)
    tables = world.fold()
    assert [row["route"] for row in tables["usage_facts"]] == ["/own"]
    assert sorted(row["route"] for row in tables["evidence"]) == ["", "/else"]


@BOTH
def test_a_decision_of_a_charging_gateway_stays_a_fact_on_any_route(columnar: bool) -> None:
    world = World(columnar, build(standard_view().authority("gw-b", "gw-a")))
    world.b.send([request("r", 0), policy("r", 0, "d")], 0)
    tables = world.fold()
    assert [row["decision_id"] for row in tables["policy_facts"]] == ["d"]
    assert [row["kind"] for row in tables["evidence"]] == ["REQUEST"]


@BOTH
def test_evidence_is_settled_by_sequence_like_everything_else(columnar: bool) -> None:
    world = World(columnar, CORROBORATING)
    sent = world.b.send([response("r", 0), response("bad", 0, status=None)], 0)
    world.log.again(sent, SECOND)
    world.b.send([response("r", 0)], SECOND)
    tables = world.fold()
    assert sorted((row["sequence"], row["request_id"]) for row in tables["evidence"]) == [(0, "r"), (2, "r")]
    assert [(row["event_index"], row["reason"]) for row in tables["quarantine"]] == [(1, "invalid"), (1, "invalid")]
    counted = ("events_received", "events_corroborating", "events_duplicate", "events_quarantined")
    assert [world.checkpoint[name] for name in counted] == [5, 2, 1, 2]


@BOTH
def test_evidence_needs_no_memory(columnar: bool) -> None:
    """A replay begins at the last record, however much evidence came."""
    world = World(columnar, CORROBORATING)
    for at in range(5):
        world.b.send([request(f"r{at}", at * SECOND), policy(f"r{at}", at * SECOND, f"d{at}")], at * SECOND)
    world.fold(*range(1, 6))
    assert world.checkpoint["replay_from"] == world.log.records[-1].offset


@BOTH
def test_a_gateway_that_begins_to_corroborate_leaves_what_it_asked_before_as_an_orphan(columnar: bool) -> None:
    after = build(standard_view().gateway("gw-b", "b-1", role="corroborating"), 2)
    world = World(columnar, build(standard_view()), after)
    world.b.send([request("r", 0)], 0)
    world.log.control(after, SECOND)
    world.b.send([response("r", 2 * SECOND)], 2 * SECOND)
    world.a.send([], 11 * MINUTE)
    tables = world.fold()
    assert [(row["status"], row["charge"]) for row in tables["usage_facts"]] == [("orphan", None)]
    assert [row["kind"] for row in tables["evidence"]] == ["RESPONSE"]
