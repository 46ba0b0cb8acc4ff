"""Opening a partition: the newest checkpoint, the bounds of the log, and the fold that goes on from there.

An error pauses and is tried again; it never means "no checkpoint". What must not go on raises `LoudStop`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from aiokafka.errors import KafkaError

from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.log import NeedsMetadata
from gatemeter.sinks.port import FactSink, SinkUnavailable

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Fold(Protocol):
    """`gatemeter.processors.partition.PartitionFold`, as the app uses it."""

    next_offset: int

    @property
    def replaying(self) -> bool:
        """Whether the next record is below the checkpoint: nothing is written for it."""

    def fold(self, records: Sequence[LogRecord]) -> Any:
        """Folds records; raises `NeedsMetadata`, `SecretMissing`, `LoudStop`, and then nothing was consumed."""

    def check_log_bounds(self, *, earliest: int, end: int) -> None:
        """Raises `LoudStop` where the log does not hold what the fold needs."""


class LogBounds(Protocol):
    """What Kafka says of a partition."""

    async def partitions(self, topic: str) -> int:
        """Number of partitions of `topic`."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(earliest, end) offsets of the log."""


FoldFactory = Callable[[str, int, int, Mapping[str, Any] | None], Fold]
"""topic, partition, partitions of the topic, newest checkpoint → fold."""


@dataclass(frozen=True)
class Opened:
    """A fold that is ready for the record at `fold.next_offset`; `checkpoint` is the row it resumed from."""

    fold: Fold
    checkpoint: Mapping[str, Any] | None

    @property
    def checkpoint_offset(self) -> int:
        """What is below this offset is in the sink."""
        return int(self.checkpoint["next_offset"]) if self.checkpoint else 0


@dataclass(frozen=True)
class Opener:
    """Opens partitions. `trust_end`: False for a broker whose end offsets are wrong (the embedded one)."""

    sink: FactSink
    log_bounds: LogBounds
    make_fold: FoldFactory
    wait_for_metadata: Callable[[int], Awaitable[None]]
    trust_end: bool = True

    async def open(self, topic: str, partition: int) -> Opened:
        """Returns when the partition can be read. Raises `LoudStop` or `SinkRefused`."""
        name = f"{topic}[{partition}]"
        checkpoint = await _until_it_works(
            f"{name}: its checkpoint", lambda: asyncio.to_thread(self.sink.latest_checkpoint, topic, partition)
        )
        fold = await self._fold(topic, partition, checkpoint)
        opened = Opened(fold, checkpoint)
        earliest, end = await _until_it_works(
            f"{name}: the bounds of its log", lambda: self.log_bounds.bounds(topic, partition)
        )
        fold.check_log_bounds(earliest=earliest, end=end if self.trust_end else opened.checkpoint_offset)
        return opened

    async def _fold(self, topic: str, partition: int, checkpoint: Mapping[str, Any] | None) -> Fold:
        partitions = await _until_it_works(f"{topic}: its partitions", lambda: self.log_bounds.partitions(topic))
        while True:
            try:
                return self.make_fold(topic, partition, partitions, checkpoint)
            except NeedsMetadata as needs:
                log.info("%s[%d] waits for metadata below offset %d", topic, partition, needs.offset)
                await self.wait_for_metadata(needs.offset)


async def _until_it_works(what: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
    delay = FIRST_DELAY_SECONDS
    while True:
        try:
            return await attempt()
        except (SinkUnavailable, KafkaError, TimeoutError) as error:
            log.warning("%s cannot be read now (%s: %s); next try in %.1f s", what, type(error).__name__, error, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)
