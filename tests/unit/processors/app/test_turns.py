"""Partitions that fold again take turns, and none is held up by one that has nothing to fold."""

from __future__ import annotations

import asyncio

from faust.types import TP

from gatemeter.processors.turns import GRACE_SECONDS, Turns

FIRST, SECOND = TP("t", 0), TP("t", 1)


async def fold_again(turns: Turns, tp: TP, chunks: int, folded: list[TP]) -> None:
    for _ in range(chunks):
        await turns.take(tp)
        folded.append(tp)
        turns.keep(tp)
        await asyncio.sleep(0.03)  # until its next chunk is fetched
    turns.end(tp)


async def test_the_first_is_through_before_the_second_begins() -> None:
    turns, folded = Turns(), list[TP]()
    await asyncio.gather(fold_again(turns, FIRST, 4, folded), fold_again(turns, SECOND, 4, folded))
    assert folded == [FIRST] * 4 + [SECOND] * 4


async def test_one_that_waits_for_something_else_holds_up_nobody() -> None:
    now = 0.0
    turns, folded = Turns(lambda: now), list[TP]()
    await turns.take(FIRST)  # and then it finds that it lacks a secret
    other = asyncio.create_task(fold_again(turns, SECOND, 2, folded))
    await asyncio.sleep(0.1)
    assert folded == []
    now = GRACE_SECONDS + 0.1
    await other
    assert folded == [SECOND] * 2


async def test_one_that_is_taken_away_leaves_the_turn_to_the_next() -> None:
    turns, folded = Turns(), list[TP]()
    await turns.take(FIRST)
    turns.end(FIRST)
    await fold_again(turns, SECOND, 1, folded)
    assert folded == [SECOND]
