"""The partitions of this worker: each opened at its checkpoint, fed with its chunks, and let go in order.

Every partition has a task of its own, so one that waits (for a secret, for metadata) does not hold up the others. The
fold itself runs on the event loop: it is CPU work, and the heartbeats of the consumer group live in another thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from faust.types import TP, Message

from gatemeter.processors.assignment import Fold, Opener
from gatemeter.processors.flush import Entry, Flusher
from gatemeter.processors.fold.types import FoldStopped, LogRecord, SecretMissing
from gatemeter.processors.metadata.log import NeedsMetadata
from gatemeter.processors.rereading import LogReader
from gatemeter.processors.transport import BatchConsumer, Chunk
from gatemeter.processors.turns import Turns
from gatemeter.sinks.port import SinkError

SECRET_RETRY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What every partition works with. `fold_bytes`, `linger_seconds`: how much a call of the fold waits for."""

    opener: Opener
    flusher: Flusher
    log_reader: LogReader
    reload_secrets: Callable[[], None]
    fold_bytes: int
    linger_seconds: float
    turns: Turns = field(default_factory=Turns)


class OwnedPartition:
    """One partition from its assignment to its revocation."""

    def __init__(self, tp: TP, consumer: BatchConsumer, tools: Tools) -> None:
        self.tp = tp
        self.name = f"{tp.topic}[{tp.partition}]"
        self.waiting_for = "its checkpoint"
        self.metadata_offset = 0
        self.log_time_us = 0
        self.next_offset = 0
        self.heard_at = time.monotonic()
        self._consumer = consumer
        self._tools = tools
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._expected = 0
        self._paused = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether everything that the log holds is folded, as far as the broker has told."""
        return not self.waiting_for and not self._inbox and self._consumer.at_end(self.tp)

    def is_current(self, message: Message) -> bool:
        """Whether the chunk was fetched since the partition was opened here."""
        return self._consumer.is_current(message)

    def deliver(self, message: Message) -> None:
        """Takes the next chunk. Raises `AssertionError` where one before it was lost on the way."""
        chunk: Chunk = message.value  # type: ignore[assignment]
        if chunk.start != self._expected:
            raise AssertionError(f"{self.name}: expected records from {self._expected}, got them from {chunk.start}")
        self._expected = chunk.end
        self._inbox.append(message)
        self._inbox_bytes += chunk.size
        self.heard_at = time.monotonic()
        self._some.set()
        if self._inbox_bytes >= self._tools.fold_bytes:
            self._enough.set()
            self._paused = True
            self._consumer.pause_partitions({self.tp})

    def _note(self, checkpoint: Mapping[str, Any]) -> None:
        self.metadata_offset, self.log_time_us = checkpoint["metadata_offset"], checkpoint["log_time"]

    async def run(self) -> None:
        """Opens the partition and folds until cancelled. Raises what the worker must stop for."""
        opened = await self._tools.opener.open(self.tp.topic, self.tp.partition)
        if opened.checkpoint is not None:
            self._note(opened.checkpoint)
        self.next_offset = self._expected = opened.fold.next_offset
        self.waiting_for = ""
        log.info("%s: going on at offset %d (checkpoint %d)", self.name, self.next_offset, opened.checkpoint_offset)
        await self._consumer.open_partition(self.tp, self.next_offset, opened.checkpoint_offset)
        try:
            while opened.fold.replaying:
                await self._some.wait()
                await self._tools.turns.take(self.tp)
                await self._step(opened.fold)
                self._tools.turns.keep(self.tp)
        finally:
            self._tools.turns.end(self.tp)
        while True:
            await self._some.wait()
            await self._step(opened.fold)

    async def _step(self, fold: Fold) -> None:
        if not self._enough.is_set() and not fold.replaying:
            # Small fetches are folded together: the fold costs by the call, and rows wait for the flush anyway.
            await _within(self._enough.wait(), self._tools.linger_seconds)
        await self._tools.flusher.room()
        messages = self._take()
        output = await self._fold(fold, [record for message in messages for record in message.value.records])  # type: ignore[union-attr]
        if output.wanted:
            output.complete((await self._read_again(output.wanted)).__getitem__)
        if output.checkpoint is not None:
            self._note(output.checkpoint)
        self.next_offset = fold.next_offset
        self._tools.flusher.add(Entry((self.tp.topic, self.tp.partition), output, partial(self._written, messages)))
        await asyncio.sleep(0)

    def _take(self) -> list[Message]:
        messages = []
        taken = 0
        while self._inbox and taken < self._tools.fold_bytes:
            message = self._inbox.popleft()
            taken += message.value.size  # type: ignore[union-attr]
            messages.append(message)
        self._inbox_bytes -= taken
        if not self._inbox:
            self._some.clear()
        if self._inbox_bytes < self._tools.fold_bytes:
            self._enough.clear()
            if self._paused:
                self._paused = False
                self._consumer.resume_partitions({self.tp})
        return messages

    async def _fold(self, fold: Fold, records: list[LogRecord]) -> Any:
        while True:
            try:
                output = fold.fold(records)
            except NeedsMetadata as needs:
                self._rest(f"metadata below offset {needs.offset}")
                await self._tools.opener.wait_for_metadata(needs.offset)
            except SecretMissing as missing:
                self._rest(str(missing), error=True)
                await asyncio.sleep(SECRET_RETRY_SECONDS)
                self._tools.reload_secrets()
            else:
                if self.waiting_for:
                    log.info("%s: goes on", self.name)
                    self.waiting_for = ""
                return output

    async def _read_again(self, offsets: Sequence[int]) -> Mapping[int, LogRecord]:
        self.waiting_for = f"the records of conflicts at offsets from {offsets[0]}"
        records = await self._tools.log_reader.records(self.tp.topic, self.tp.partition, offsets)
        self.waiting_for = ""
        return records

    def _rest(self, waiting_for: str, *, error: bool = False) -> None:
        if waiting_for != self.waiting_for:
            log.log(logging.ERROR if error else logging.INFO, "%s: waits for %s", self.name, waiting_for)
        self.waiting_for = waiting_for

    def _written(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._consumer.ack(message)


class Ownership:
    """All partitions of this worker, and the one place where it is decided that the worker cannot go on."""

    def __init__(self, tools: Tools, *, embedded_broker: bool, stop_seconds: float) -> None:
        self.embedded_broker = embedded_broker
        self.partitions: dict[TP, OwnedPartition] = {}
        self.failure: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        self._tools = tools
        self._stop_seconds = stop_seconds
        self._tasks: dict[TP, asyncio.Task[None]] = {}

    def assigned(self, consumer: BatchConsumer, partitions: Iterable[TP]) -> None:
        """Opens `partitions`; what was owned until now is dropped without being written: it will be folded again."""
        for tp in list(self.partitions):
            self._drop(tp)
        if self.failure is not None:
            return
        for tp in sorted(partitions):
            owned = self.partitions[tp] = OwnedPartition(tp, consumer, self._tools)
            self._tasks[tp] = self.watch(asyncio.create_task(owned.run(), name=owned.name))

    def _drop(self, tp: TP) -> None:
        self._stop_folding(tp)
        self.partitions.pop(tp, None)
        self._tools.flusher.drop((tp.topic, tp.partition))

    def _stop_folding(self, tp: TP) -> None:
        task = self._tasks.pop(tp, None)
        if task is not None:
            task.cancel()

    def deliver(self, message: Message) -> None:
        """A chunk from the transport. One for a partition that is gone is let fall."""
        owned = self.partitions.get(message.tp)
        if owned is None or self.failure is not None or not owned.is_current(message):
            return
        try:
            owned.deliver(message)
        except AssertionError as error:
            self.fail(error)

    async def revoked(self, partitions: Iterable[TP]) -> None:
        """Writes what is folded, within the time that a rebalance allows, and lets the partitions go."""
        going = [tp for tp in partitions if tp in self.partitions]
        for tp in going:
            self._stop_folding(tp)
        if going:
            await self._flush()
        for tp in going:
            self._drop(tp)

    async def stop(self) -> None:
        """Writes what is folded and ends all tasks."""
        await self.revoked(list(self.partitions))

    async def _flush(self) -> None:
        flush = self.watch(asyncio.create_task(self._tools.flusher.flush(), name="last flush"))
        done, _ = await asyncio.wait([flush], timeout=self._stop_seconds)
        if not done:
            log.warning(
                "%d rows could not be written within %.0f s; the next owner folds them again",
                self._tools.flusher.unflushed_rows,
                self._stop_seconds,
            )

    def watch(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """The worker fails with this task."""
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stops the worker, once: one line in the log, and the process exits with a code other than 0."""
        if self.failure is not None:
            return
        self.failure = error
        for tp in list(self._tasks):
            self._stop_folding(tp)
        trace = None if isinstance(error, FoldStopped | SinkError) else error
        log.critical("worker stops: %s", " ".join(str(error).split()) or repr(error), exc_info=trace)
        self.on_failure(error)


async def _within(awaitable: Any, seconds: float) -> None:
    try:
        await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        return
