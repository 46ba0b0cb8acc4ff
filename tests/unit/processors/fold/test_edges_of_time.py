"""What happens at the very instant in which a timer ends, and to events whose gateway's clock is ahead."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.partition import Output
from support.logs import Gateway, Log, build, collapse, new_fold, request, response, run, standard_view, window_total

SECOND = 1_000_000
MINUTE = 60 * SECOND
VIEWS = {1: build(standard_view())}
TOKENS = ("input_tokens", "output_tokens")
BOTH = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])


def started() -> tuple[Log, Gateway]:
    log = Log()
    log.control(VIEWS[1])
    return log, Gateway(log)


def folded(log: Log, columnar: bool) -> list[Output]:
    """One call a record, so that no fetch hides an order."""
    return run(new_fold(VIEWS, columnar=columnar), log.records, range(1, len(log.records)))


def statuses(outputs: list[Output]) -> list[Any]:
    return sorted(row["status"] for row in collapse(outputs)["usage_facts"].values())


@BOTH
def test_a_request_is_an_orphan_from_the_instant_on_in_which_its_timer_ends(columnar: bool) -> None:
    log, gateway = started()
    gateway.send([request("r", SECOND)], SECOND)
    gateway.send([], SECOND + 10 * MINUTE - 1)
    assert statuses(folded(log, columnar)) == []
    gateway.send([], SECOND + 10 * MINUTE)
    assert statuses(folded(log, columnar)) == ["orphan"]


@BOTH
def test_a_response_in_the_instant_in_which_the_timer_ends_finds_the_orphan_written(columnar: bool) -> None:
    log, gateway = started()
    gateway.send([request("r", SECOND)], SECOND)
    gateway.send([response("r", 10 * MINUTE, started_us=SECOND)], SECOND + 10 * MINUTE)
    assert statuses(folded(log, columnar)) == ["ok", "orphan"]


@BOTH
def test_a_copy_from_a_clock_that_is_ahead_is_not_fresh_once_the_first_may_be_forgotten(columnar: bool) -> None:
    """It occurred four minutes ahead of the log, so its time alone would still be within the horizon."""
    log, gateway = started()
    event = response("r", 4 * MINUTE)
    gateway.send([event], 0)
    gateway.send([event], 16 * MINUTE)
    outputs = folded(log, columnar)
    assert window_total(collapse(outputs), *TOKENS) == 120
    checkpoint = outputs[-1].checkpoint
    assert checkpoint is not None
    assert (checkpoint["responses_fresh"], checkpoint["responses_late"]) == (1, 1)


@BOTH
def test_trace_21_a_hole_stays_open_until_what_was_refused_comes_again_and_is_then_filled_once(columnar: bool) -> None:
    log, gateway = started()
    record = gateway.send([response("r0", 0), response("ahead", 10 * MINUTE), response("r2", 0)], SECOND)
    log.again(record, 11 * MINUTE)
    log.again(record, 12 * MINUTE)
    outputs = folded(log, columnar)
    tables = collapse(outputs)
    assert {(row["request_id"], row["offset"]) for row in tables["usage_facts"].values()} == {
        ("r0", 1),
        ("ahead", 2),
        ("r2", 1),
    }
    checkpoint = outputs[-1].checkpoint
    assert checkpoint is not None
    counted = ("events_received", "events_admitted", "events_duplicate", "events_quarantined")
    assert [checkpoint[name] for name in counted] == [9, 3, 5, 1]
