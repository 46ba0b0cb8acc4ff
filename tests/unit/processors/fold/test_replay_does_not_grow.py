"""Where the next replay begins moves on with the log, however often a partition moves."""

from __future__ import annotations

import pytest

from support.logs import Gateway, Log, build, new_fold, request, response, standard_view

MINUTE_US = 60_000_000
HORIZON = 2


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_after_a_move_the_next_replay_begins_as_if_there_had_been_none(columnar: bool) -> None:
    view = build(standard_view(horizon_us=HORIZON * MINUTE_US, orphan_timer_us=MINUTE_US))
    log = Log()
    log.control(view)
    gateway = Gateway(log)
    for second in range(0, 600, 5):
        at_us = second * 1_000_000
        gateway.send([request(f"r{second}", at_us), response(f"r{second}", at_us)], at_us)
    stays = new_fold({1: view}, columnar=columnar)
    checkpoint = None
    for begin in range(0, len(log.records), 10):
        records = log.records[begin : begin + 10]
        undisturbed = stays.fold(records).checkpoint
        moved = new_fold({1: view}, columnar=columnar, checkpoint=checkpoint)
        checkpoint = moved.fold(log.records[: begin + 10]).checkpoint
        assert undisturbed is not None
        assert checkpoint is not None
        assert checkpoint["replay_from"] >= undisturbed["replay_from"] - 12, "no more than a piece and a chunk earlier"
    assert checkpoint["replay_from"] > len(log.records) - 45
