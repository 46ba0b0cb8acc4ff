"""TICK: an empty batch of the reserved gateway `_tick`, so that log time moves where no gateway speaks.

The owner of a partition appends one after a time of silence, when it is caught up. Its key is registered like any
gateway's; without a registered key whose secret this worker has, no ticks are sent, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gatemeter.processors.metadata.log import MetadataLog, NeedsMetadata
from gatemeter.processors.ownership import OwnedPartition, Ownership
from gatemeter.schemas import codec, signing

WARN_EVERY_SECONDS: Final = 60.0
MOST_AHEAD_US: Final = 30 * 60 * 1_000_000
"""Half of what the fold accepts of an epoch's start."""

log = logging.getLogger(__name__)

Headers = list[tuple[str, bytes]]
Append = Callable[[str, int, bytes, bytes, Headers], Awaitable[None]]
"""topic, partition, key, value, headers: appends a record and returns when the broker has it."""


def tick_value(topic: str, partition: int, epoch: str, sent_at_us: int) -> bytes:
    """The value of a TICK."""
    envelope = {
        "gateway_id": signing.TICK_GATEWAY,
        "gateway_kind": "policy_point",
        "epoch": epoch,
        "topic": topic,
        "partition": partition,
        "first_sequence": 0,
        "sent_at": sent_at_us,
        "counters": {"emitted": 0, "spooled": 0, "dropped": 0},
        "closed": False,
        "attestation": None,
    }
    return codec.encode_batch(envelope, [])


def new_epoch(log_time_us: int) -> str:
    """An epoch id: start time in microseconds, process id, 64 random bits.

    The fold judges the start by the log's time, which a wrong clock of this worker may be far ahead of.
    """
    start_us = min(time.time_ns() // 1000, log_time_us + MOST_AHEAD_US)
    return f"{start_us}-{os.getpid()}-{secrets.token_hex(8)}"


class Ticker:
    """Appends TICKs for the partitions of `ownership`."""

    def __init__(
        self,
        ownership: Ownership,
        metadata: MetadataLog,
        gateway_secrets: Mapping[str, bytes],
        append: Append,
        *,
        after_seconds: float,
    ) -> None:
        self._ownership = ownership
        self._metadata = metadata
        self._secrets = gateway_secrets
        self._append = append
        self._after_seconds = after_seconds
        self._epoch = ""
        self._warned_at = -WARN_EVERY_SECONDS

    async def run(self) -> None:
        """Looks at every partition a few times within the silence, until cancelled."""
        while True:
            await asyncio.sleep(self._after_seconds / 5)
            for owned in list(self._ownership.partitions.values()):
                if owned.idle and time.monotonic() - owned.heard_at >= self._after_seconds:
                    at_us = self._log_time_us()
                    owned.heard_at = time.monotonic()  # the TICK itself will be heard; if it is lost, the next one
                    await self._tick(owned, at_us)

    def _log_time_us(self) -> int:
        """About what the broker's clock says; by it the fold judges keys and epochs, and the worker's may be wrong."""
        now = time.monotonic()
        partitions = self._ownership.partitions.values()
        return max(owned.log_time_us + int((now - owned.heard_at) * 1_000_000) for owned in partitions)

    async def _tick(self, owned: OwnedPartition, at_us: int) -> None:
        if not owned.metadata_offset:
            return  # nothing is in force yet: the first CONTROL has not been folded
        kid = self._kid(owned.metadata_offset, at_us)
        if kid is None:
            self._warn(
                f"no ticks: no valid key of gateway {signing.TICK_GATEWAY!r} is registered whose secret is in the"
                " secrets file; hours of silent partitions cannot be sealed"
            )
            return
        self._epoch = self._epoch or new_epoch(at_us)
        value = tick_value(owned.tp.topic, owned.tp.partition, self._epoch, time.time_ns() // 1000)
        headers = [
            (signing.KID_HEADER, kid.encode()),
            (signing.MAC_HEADER, signing.mac(self._secrets[kid], value)),
        ]
        try:
            await self._append(owned.tp.topic, owned.tp.partition, signing.TICK_GATEWAY.encode(), value, headers)
        except Exception as error:  # noqa: BLE001 the next tick tries again, whatever the producer raised
            self._warn(f"{owned.name}: the tick was not appended: {error!r}")

    def _kid(self, metadata_offset: int, at_us: int) -> str | None:
        try:
            keys = self._metadata.view(metadata_offset).keys
        except NeedsMetadata:
            return None
        for kid, key in sorted(keys.items()):
            if key.gateway_id == signing.TICK_GATEWAY and kid in self._secrets and key.valid_at(at_us):
                return kid
        return None

    def _warn(self, text: str) -> None:
        if time.monotonic() - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            log.warning("%s", text)
