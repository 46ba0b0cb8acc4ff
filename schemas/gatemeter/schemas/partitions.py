"""Which partition an event goes to: `crc32(request_id) mod partitions`, librdkafka's `consistent` partitioner."""

from __future__ import annotations

import zlib
from typing import Final

EVENTS_TOPIC: Final = "gatemeter.events"
METADATA_TOPIC: Final = "gatemeter.metadata"
SEALS_TOPIC: Final = "gatemeter.seals"


def partition_of(request_id: str, partitions: int) -> int:
    """All events of one request meet in one partition, in order."""
    return zlib.crc32(request_id.encode()) % partitions
