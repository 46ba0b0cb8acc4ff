"""Traces that broke earlier drafts of the protocol: what is charged, once, whatever comes late, twice or wrong."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.fold.types import DAY_US, HOUR_US, MINUTE_US
from gatemeter.processors.partition import Output
from gatemeter.producers.events import new_request_id
from support.logs import (
    PRICES,
    START_US,
    Gateway,
    Log,
    build,
    collapse,
    new_fold,
    request,
    response,
    run,
    standard_view,
    truth,
    window_total,
)

SECOND = 1_000_000
pytestmark = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
VIEW = build(standard_view())
Tables = dict[str, Any]


def new_log() -> tuple[Log, Gateway]:
    log = Log()
    log.control(VIEW)
    return log, Gateway(log)


def tick(log: Log, at_us: int) -> None:
    Gateway(log, "_tick", "tick-1").send([], at_us)


def folded(log: Log, columnar: bool, *, one_by_one: bool = True) -> tuple[Tables, Output]:
    """The tables after folding the whole log record by record, or in one call; the same either way."""
    cuts = range(1, len(log.records)) if one_by_one else ()
    outputs = run(new_fold({1: VIEW}, columnar=columnar), log.records, list(cuts))
    return collapse(outputs), outputs[-1]


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "at once"])
def test_trace_01_a_request_sent_again_after_the_horizon_does_not_replace_the_usage(
    columnar: bool, one_by_one: bool
) -> None:
    log, gateway = new_log()
    asked = request("r1", 0)
    gateway.send([asked], 0)
    gateway.send([response("r1", SECOND, started_us=0)], SECOND)
    log.again(log.records[1], 20 * MINUTE_US)
    Gateway(log, run=2).send([asked], 21 * MINUTE_US)
    tick(log, HOUR_US)
    tables, last = folded(log, columnar, one_by_one=one_by_one)
    fact = truth(tables)["gw-a", "r1", 1]
    assert (fact["status"], fact["input_text_uncached"], fact["paired"]) == ("ok", 100, True)
    assert window_total(tables, "input_tokens", "output_tokens") == 120
    assert last.checkpoint is not None
    assert (last.checkpoint["events_duplicate"], last.checkpoint["orphans"]) == (1, 1)


def test_trace_07_a_request_over_midnight_is_one_charge(columnar: bool) -> None:
    log, gateway = new_log()
    midnight = DAY_US - START_US % DAY_US
    gateway.send([request("r1", midnight - MINUTE_US)], midnight - MINUTE_US)
    gateway.send([response("r1", midnight + MINUTE_US, started_us=midnight - MINUTE_US)], midnight + MINUTE_US)
    tables, _ = folded(log, columnar)
    (fact,) = tables["usage_facts"].values()
    assert fact["usage_hour"] == fact["posted_hour"] == START_US + midnight - HOUR_US
    assert fact["paired"]
    assert window_total(tables, "attempts") == 1


def test_trace_11_a_tick_makes_the_orphan_of_a_dead_gateway_appear_and_the_hour_sealable(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([request("r1", 0)], 0)
    tick(log, 10 * MINUTE_US - 1)
    before, _ = folded(log, columnar)
    assert not before["usage_facts"]
    tick(log, 10 * MINUTE_US)
    tick(log, HOUR_US + 30 * MINUTE_US)
    tables, last = folded(log, columnar)
    (fact,) = tables["usage_facts"].values()
    assert (fact["status"], fact["charge"], fact["price_status"]) == ("orphan", None, "no_usage")
    assert last.checkpoint is not None
    assert last.checkpoint["posting_floor"] >= START_US + HOUR_US


def test_trace_12_a_late_token_does_not_overwrite_the_window_of_an_earlier_slice(columnar: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", 0, tokens=(80, 20))], 0)
    gateway.send([response("r2", 0, tokens=(1, 0))], 5 * MINUTE_US)
    tables, _ = folded(log, columnar)
    assert len(tables["usage_windows"]) == 2
    assert window_total(tables, "input_tokens", "output_tokens") == 101


def test_trace_16_the_fast_clock_of_one_gateway_makes_no_orphans_of_others(columnar: bool) -> None:
    log, gateway = new_log()
    fast = Gateway(log, "gw-b", "b-1")
    gateway.send([request("r1", 0)], 0)
    fast.send([request("b1", 8 * MINUTE_US), request("b2", 4 * MINUTE_US)], SECOND)
    gateway.send([response("r1", 3 * MINUTE_US, started_us=0)], 3 * MINUTE_US)
    tables, last = folded(log, columnar)
    assert [row["reason"] for row in tables["quarantine"].values()] == ["future"]
    assert last.checkpoint is not None
    assert last.checkpoint["orphans"] == 0
    assert truth(tables)["gw-a", "r1", 1]["paired"]


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "at once"])
def test_trace_17_an_id_that_a_caller_chose_suppresses_nobodys_charges(columnar: bool, one_by_one: bool) -> None:
    assert new_request_id() != new_request_id()
    log, gateway = new_log()
    stranger = Gateway(log, "gw-b", "b-1")
    minted = [new_request_id(), new_request_id()]
    for name in minted:
        gateway.send([response(name, SECOND, client_request_id="mine")], SECOND)
    stranger.send([response(minted[0], SECOND, client_request_id="mine")], SECOND)
    tables, last = folded(log, columnar, one_by_one=one_by_one)
    assert set(truth(tables)) == {("gw-a", minted[0], 1), ("gw-a", minted[1], 1), ("gw-b", minted[0], 1)}
    assert all(row["charge"] for row in truth(tables).values())
    assert last.checkpoint is not None
    assert last.checkpoint["events_admitted"] == 3


def test_trace_18_duplicates_and_expiry_within_one_batch_go_by_the_log_time_of_each_record(columnar: bool) -> None:
    log, gateway = new_log()
    answer = response("r1", 0)
    gateway.send([answer, answer], 0)
    gateway.send([answer], 15 * MINUTE_US)
    gateway.send([answer], 15 * MINUTE_US + 1)
    at_once, last = folded(log, columnar, one_by_one=False)
    apart, _ = folded(log, columnar)
    assert at_once == apart
    assert last.checkpoint is not None
    assert (last.checkpoint["events_duplicate"], last.checkpoint["events_admitted"]) == (2, 2)
    assert (last.checkpoint["responses_fresh"], last.checkpoint["responses_late"]) == (1, 1)
    assert len(at_once["usage_facts"]) == 1
    assert window_total(at_once, "attempts") == 1


def test_trace_20_a_late_copy_of_an_earlier_control_changes_nothing(columnar: bool) -> None:
    newer = build(standard_view().rate("openai", "gpt", dict.fromkeys(PRICES, 1), card_id="new", from_us=1), 2)
    log, gateway = new_log()
    log.control(newer, SECOND)
    log.again(log.records[0], 2 * SECOND)
    gateway.send([response("r1", 3 * SECOND)], 3 * SECOND)
    outputs = run(new_fold({1: VIEW, 2: newer}, columnar=columnar), log.records)
    (fact,) = collapse(outputs)["usage_facts"].values()
    assert (fact["metadata_offset"], fact["rate_card_id"], fact["token_cost"]) == (2, "new", 120)


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "at once"])
def test_trace_27_another_start_beyond_the_horizon_is_one_charge_and_is_seen(columnar: bool, one_by_one: bool) -> None:
    log, gateway = new_log()
    gateway.send([response("r1", 0)], 0)
    gateway.send([response("r1", 20 * MINUTE_US, started_us=18 * MINUTE_US)], 20 * MINUTE_US)
    tables, _ = folded(log, columnar, one_by_one=one_by_one)
    fact = truth(tables)["gw-a", "r1", 1]
    assert fact["request_started_at"] == START_US, "of equal information the first copy is the truth"
    rows = list(tables["usage_facts"].values())
    assert len({row["response_hash"] for row in rows}) == 2, "both copies stand side by side"
    assert len({row["request_started_at"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("sent", "tokens"),
    [
        pytest.param([(0, 100, 0), (1, 150, 1)], 150, id="revision 1 follows"),
        pytest.param([(1, 150, 0), (0, 100, 1)], 0, id="revision 1 first"),
        pytest.param([(0, 100, 0), (1, 150, 20)], 100, id="revision 1 beyond the horizon"),
        pytest.param([(1, 150, 0), (0, 100, 20)], 100, id="revision 0 beyond the horizon"),
        pytest.param([(0, 100, 0), (2, 70, 1), (1, 150, 2)], 70, id="revision 1 after 2"),
        pytest.param([(0, 100, 0), (1, 150, 0), (2, 70, 0)], 70, id="all at once"),
    ],
)
@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "at once"])
def test_trace_28_revisions_in_any_order_never_count_twice_or_below_zero(
    columnar: bool, one_by_one: bool, sent: list[tuple[int, int, int]], tokens: int
) -> None:
    log, gateway = new_log()
    for revision, amount, minute in sent:
        at_us = minute * MINUTE_US
        answer = response("r1", at_us, started_us=0, tokens=(amount, 0), usage_revision=revision)
        gateway.send([answer], at_us)
    tables, _ = folded(log, columnar, one_by_one=one_by_one)
    assert window_total(tables, "input_tokens") == tokens
    assert window_total(tables, "attempts") in (0, 1)
    assert sum(row["window_tokens"] for row in tables["usage_facts"].values()) == tokens
    highest = max(revision for revision, _, _ in sent)
    assert truth(tables)["gw-a", "r1", 1]["usage_revision"] == highest


def test_trace_29_a_start_in_2099_is_refused(columnar: bool) -> None:
    log, gateway = new_log()
    far = 73 * 365 * DAY_US
    gateway.send([response("r1", SECOND, started_us=far), response("r2", far), response("r3", SECOND)], SECOND)
    tables, _ = folded(log, columnar)
    assert [row["reason"] for row in tables["quarantine"].values()] == ["invalid", "future"]
    assert [key[2] for key in tables["usage_facts"]] == ["r3"]


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "at once"])
def test_trace_30_a_wrong_request_does_not_suppress_the_response(columnar: bool, one_by_one: bool) -> None:
    log, gateway = new_log()
    gateway.send([request("r1", SECOND, tenant_id="globex")], SECOND)
    gateway.send([request("r1", 2 * SECOND)], 2 * SECOND)
    gateway.send([response("r1", 3 * SECOND, started_us=2 * SECOND)], 3 * SECOND)
    tables, _ = folded(log, columnar, one_by_one=one_by_one)
    fact = truth(tables)["gw-a", "r1", 1]
    assert fact["tenant_id"] == "acme"
    assert fact["charge"]
    assert sorted(row["kind"] for row in tables["exceptions"].values()) == ["conflict", "start_mismatch"]
