"""Feeds the metadata log: a plain consumer without a group reads `gatemeter.metadata` from its beginning, for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import aiokafka
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from gatemeter.processors.fold.types import LoudStop
from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused

RETRY_SECONDS: Final = 2.0
POLL_MS: Final = 1_000

log = logging.getLogger(__name__)


class MetadataReader:
    """`client`: keyword arguments of aiokafka that say where the brokers are and how to log in."""

    def __init__(self, metadata: MetadataLog, topic: str, client: Mapping[str, Any], *, isolation_level: str) -> None:
        self._metadata = metadata
        self._topic = topic
        self._client = dict(client)
        self._isolation_level = isolation_level
        self._grown = asyncio.Condition()

    async def wait_for(self, offset: int) -> None:
        """Returns when the records below `offset` are loaded."""
        async with self._grown:
            await self._grown.wait_for(lambda: self._metadata.loaded_to >= offset)

    async def run(self) -> None:
        """Reads until cancelled; a broker that is away is tried again. Raises `LoudStop` where the log was cut."""
        while True:
            try:
                await self._read()
            except OffsetOutOfRangeError as error:
                raise LoudStop(
                    f"{self._topic}: records below offset {self._metadata.loaded_to} are gone or were re-created"
                    f" ({error}); the topic must keep every record: restore it from its backup"
                ) from error
            except KafkaError as error:
                log.warning("%s cannot be read now (%r); next try in %.0f s", self._topic, error, RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            **self._client,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=self._isolation_level,
            fetch_max_wait_ms=POLL_MS,
        )
        partition = aiokafka.TopicPartition(self._topic, 0)
        await consumer.start()
        try:
            consumer.assign([partition])
            consumer.seek(partition, self._metadata.loaded_to)
            while True:
                fetched = await consumer.getmany(partition, timeout_ms=POLL_MS)
                await self._take(fetched.get(partition, ()))
        finally:
            await consumer.stop()

    async def _take(self, records: Any) -> None:
        for record in records:
            try:
                at_us = record.timestamp * 1_000
                self._metadata.append(record.offset, record.value or b"", dict(record.headers), at_us)
            except MetadataRefused as refused:
                log.warning("%s", refused)
        if records:
            async with self._grown:
                self._grown.notify_all()
