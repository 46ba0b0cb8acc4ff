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


def new_epoch() -> str:
    """An epoch id: start time in microseconds, process id, 64 random bits."""
    return f"{time.time_ns() // 1000}-{os.getpid()}-{secrets.token_hex(8)}"


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
        self._epoch = new_epoch()
        self._warned_at = -WARN_EVERY_SECONDS

    async def run(self) -> None:
        """Looks at every partition a few times within the silence, until cancelled."""
        while True:
            await asyncio.sleep(self._after_seconds / 5)
            for owned in list(self._ownership.partitions.values()):
                if owned.idle and time.monotonic() - owned.heard_at >= self._after_seconds:
                    owned.heard_at = time.monotonic()  # the TICK itself will be heard; if it is lost, the next one
                    await self._tick(owned)

    async def _tick(self, owned: OwnedPartition) -> None:
        if not owned.metadata_offset:
            return  # nothing is in force yet: the first CONTROL has not been folded
        kid = self._kid(owned.metadata_offset)
        if kid is None:
            self._warn(
                f"no ticks: no valid key of gateway {signing.TICK_GATEWAY!r} is registered whose secret is in the"
                " secrets file; hours of silent partitions cannot be sealed"
            )
            return
        value = tick_value(owned.tp.topic, owned.tp.partition, self._epoch, time.time_ns() // 1000)
        headers = [
            (signing.KID_HEADER, kid.encode()),
            (signing.MAC_HEADER, signing.mac(self._secrets[kid], value)),
        ]
        try:
            await self._append(owned.tp.topic, owned.tp.partition, signing.TICK_GATEWAY.encode(), value, headers)
        except Exception as error:  # noqa: BLE001 the next tick tries again, whatever the producer raised
            self._warn(f"{owned.name}: the tick was not appended: {error!r}")

    def _kid(self, metadata_offset: int) -> str | None:
        try:
            keys = self._metadata.view(metadata_offset).keys
        except NeedsMetadata:
            return None
        now_us = time.time_ns() // 1000
        for kid, key in sorted(keys.items()):
            ends_us = key.valid_to_us
            if key.gateway_id != signing.TICK_GATEWAY or kid not in self._secrets:
                continue
            if key.valid_from_us <= now_us and (ends_us is None or now_us < ends_us):
                return kid
        return None

    def _warn(self, text: str) -> None:
        if time.monotonic() - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            log.warning("%s", text)
