"""Single records of the log, read again by their offsets: what rows of conflicts need of the copies that came first.

Rare and beside the stream: a consumer of its own, without a group, which has no partition between two questions. A
broker that is away is asked again for ever, so the partition waits; it never writes a row without the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import aiokafka
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from gatemeter.processors.fold.types import LogRecord, LoudStop

RETRY_SECONDS: Final = 2.0
POLL_MS: Final = 1_000
EMPTY_POLLS: Final = 10
"""After so many answers without a record a new connection is made."""
FETCH_BYTES: Final = 256 * 1024
CACHED_BYTES: Final = 16 * 1024 * 1024

log = logging.getLogger(__name__)

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class LogReader(Protocol):
    """Reads records of the log again."""

    async def records(self, topic: str, partition: int, offsets: Sequence[int]) -> Mapping[int, LogRecord]:
        """The records at `offsets` (in order), all of them. Raises `LoudStop` where the log has lost one."""


class KafkaLogReader:
    """`client`: keyword arguments of aiokafka that say where the brokers are and how to log in."""

    def __init__(self, client: Mapping[str, Any], *, isolation_level: str) -> None:
        self._client = dict(client)
        self._isolation_level = isolation_level
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()
        self._known: OrderedDict[Place, LogRecord] = OrderedDict()
        self._known_bytes = 0

    async def records(self, topic: str, partition: int, offsets: Sequence[int]) -> dict[int, LogRecord]:
        """As in `LogReader`; what fails is tried again until it works."""
        found: dict[int, LogRecord] = {}
        async with self._lock:
            while True:
                try:
                    await self._read(aiokafka.TopicPartition(topic, partition), offsets, found)
                except OffsetOutOfRangeError as error:
                    raise LoudStop(
                        f"{topic}[{partition}]: records that the fold still needs are gone ({error}): the log was"
                        " re-created or cut (docs/operating.md, 'Loud stops')"
                    ) from error
                except (KafkaError, TimeoutError) as error:
                    log.warning(
                        "%s[%d]: records cannot be read again now (%r); next try in %.0f s",
                        *(topic, partition, error, RETRY_SECONDS),
                    )
                    await self.close()
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    return found

    async def close(self) -> None:
        """Gives up the connection; the next question makes a new one."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _connected(self) -> aiokafka.AIOKafkaConsumer:
        if self._consumer is None:
            consumer = aiokafka.AIOKafkaConsumer(
                **self._client,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level=self._isolation_level,
                max_partition_fetch_bytes=FETCH_BYTES,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

    async def _read(self, tp: aiokafka.TopicPartition, offsets: Sequence[int], found: dict[int, LogRecord]) -> None:
        wanted = set(offsets)
        for offset in wanted:
            known = self._known.get((tp.topic, tp.partition, offset))
            if known is not None:
                self._known.move_to_end((tp.topic, tp.partition, offset))
                found[offset] = known
        if wanted <= found.keys():
            return
        consumer = await self._connected()
        consumer.assign([tp])
        try:
            for offset in offsets:
                if offset not in found:
                    consumer.seek(tp, offset)
                    await self._read_on(consumer, tp, offset, wanted, found)
        finally:
            consumer.unsubscribe()  # else it would go on fetching

    async def _read_on(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        tp: aiokafka.TopicPartition,
        offset: int,
        wanted: set[int],
        found: dict[int, LogRecord],
    ) -> None:
        """Until the record at `offset` is there; others that are wanted and come with it are taken too."""
        for _ in range(EMPTY_POLLS):
            fetched = await consumer.getmany(tp, timeout_ms=POLL_MS)
            records = fetched.get(tp, [])
            for record in records:
                if record.offset in wanted:
                    self._keep(tp, found, record)
            if offset in found:
                return
            if records:
                raise LoudStop(
                    f"{tp.topic}[{tp.partition}]: the log has no record at offset {offset} any more: it was re-created"
                    " (docs/operating.md, 'Loud stops')"
                )
        raise TimeoutError(f"no answer for offset {offset}")

    def _keep(self, tp: aiokafka.TopicPartition, found: dict[int, LogRecord], record: Any) -> None:
        kept = LogRecord(
            record.offset, record.timestamp * 1_000, record.key, record.value or b"", tuple(record.headers)
        )
        place = (tp.topic, tp.partition, record.offset)
        found[record.offset] = kept
        if place not in self._known:
            self._known[place] = kept
            self._known_bytes += len(kept.value)
        while self._known_bytes > CACHED_BYTES:
            _, dropped = self._known.popitem(last=False)
            self._known_bytes -= len(dropped.value)
