"""Questions about the log's bounds: asked together, and silent where nobody waits for the answer any more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from gatemeter.processors.log_bounds import GATHER_SECONDS, ConsumerBounds


class EndedConsumer:
    """A consumer whose thread has ended, as while a worker stops."""

    async def earliest_offsets(self, *_: Any) -> dict[Any, int]:
        raise RuntimeError("Event loop is closed")


async def test_who_still_waits_gets_the_error() -> None:
    bounds = ConsumerBounds(lambda: EndedConsumer())  # type: ignore[arg-type, return-value]
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await bounds.bounds("events", 0)


async def test_an_answer_that_nobody_waits_for_adds_no_traceback_to_the_line_of_a_loud_stop() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    bounds = ConsumerBounds(lambda: EndedConsumer())  # type: ignore[arg-type, return-value]
    question = asyncio.create_task(bounds.bounds("events", 0))
    await asyncio.sleep(0)
    question.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await question
    await asyncio.sleep(2 * GATHER_SECONDS)
    gc.collect()
    assert said == []
