"""What Kafka says of the partitions: how many there are, and where their logs begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from gatemeter.processors.transport import BatchConsumer

GATHER_SECONDS: Final = 0.05

_Bounds = dict[TP, tuple[int, int]]


class ConsumerBounds:
    """`LogBounds` by the worker's own consumer. Questions that come together are asked together.

    The broker answers a connection's requests in turn, so each question waits for a fetch that is under way.
    """

    def __init__(self, consumer: Callable[[], BatchConsumer]) -> None:
        self._consumer = consumer
        self._asked: set[TP] = set()
        self._round: asyncio.Task[_Bounds] | None = None

    async def partitions(self, topic: str) -> int:
        """Number of partitions of `topic`."""
        count = self._consumer().partition_count(topic)
        if not count:
            raise KafkaConnectionError(f"the partitions of {topic} are not known yet")
        return count

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(earliest, end) offsets of the log, read after the call."""
        tp = TP(topic, partition)
        self._asked.add(tp)
        if self._round is None:
            self._round = asyncio.create_task(self._ask())
            self._round.add_done_callback(_heard)
        found = await asyncio.shield(self._round)
        return found[tp]

    async def _ask(self) -> _Bounds:
        await asyncio.sleep(GATHER_SECONDS)
        asked, self._asked, self._round = self._asked, set(), None
        earliest = await self._consumer().earliest_offsets(*asked)
        end = await self._consumer().highwaters(*asked)
        return {tp: (earliest[tp], end[tp]) for tp in asked}


def _heard(asked: asyncio.Task[_Bounds]) -> None:
    """Who waits gets the error. Where a worker stops nobody does, and asyncio would print it below the last line."""
    if not asked.cancelled():
        asked.exception()
