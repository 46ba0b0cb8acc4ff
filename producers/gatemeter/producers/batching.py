"""Which events travel together: those of one epoch and partition, in unbroken sequence, within the limits.

A batch is cut before it would exceed `max_bytes` or `max_events`, where a sequence is missing, and when its first event
is `linger_s` old. An event larger than `max_bytes` travels alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gatemeter.producers.origins import Held, Origin, Taken

ENVELOPE_BYTES: Final = 4096
"""Room for everything in a record but its events."""


@dataclass(slots=True, eq=False)
class Batch:
    """Events `first_sequence`, `first_sequence` + 1, … of one partition. `value`: the signed record, once encoded."""

    origin: Origin
    partition: int
    first_sequence: int
    started_s: float
    items: list[bytes] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    size: int = 0
    value: bytes = b""
    closed: bool = False
    attestation: bytes | None = None
    weight: int = 0
    """Bytes that it holds of the publisher's window, from its first try to its delivery."""
    failures: int = 0

    def halves(self) -> tuple[Batch, Batch]:
        """The same events as two batches, for a broker that refuses large records."""
        middle = len(self.items) // 2
        return self._part(0, middle), self._part(middle, len(self.items))

    def _part(self, start: int, end: int) -> Batch:
        items, held = self.items[start:end], self.held[start:end]
        return Batch(self.origin, self.partition, self.first_sequence + start, self.started_s, items, held)


class Batcher:
    """Collects events by epoch and partition. `now_s` is any steady clock."""

    def __init__(self, *, max_events: int, max_bytes: int, linger_s: float) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        self._open: dict[tuple[str, int], Batch] = {}

    def add(self, origin: Origin, event: Taken, now_s: float) -> Batch | None:
        """Takes one event; returns the batch that it closes, if any."""
        key = (origin.epoch, event.partition)
        batch, cut = self._open.get(key), None
        if batch is not None and (
            batch.size + len(event.item) > self._max_bytes or event.sequence != batch.first_sequence + len(batch.items)
        ):
            batch, cut = None, self._open.pop(key)
        if batch is None:
            batch = self._open[key] = Batch(origin, event.partition, event.sequence, now_s)
        batch.items.append(event.item)
        batch.held.append(event.held)
        batch.size += len(event.item)
        # Where one event fills a batch none is ever left open, so there is never a cut one besides.
        return self._open.pop(key) if len(batch.items) >= self._max_events else cut

    def due(self, now_s: float) -> list[Batch]:
        """Batches whose first event is `linger_s` old."""
        ripe = [key for key, batch in self._open.items() if now_s - batch.started_s >= self._linger_s]
        return [self._open.pop(key) for key in ripe]

    def drain(self) -> list[Batch]:
        """Everything that is left."""
        batches, self._open = list(self._open.values()), {}
        return batches
