"""The events of one epoch on their way out: read in order from its segments, numbered, settled, freed on delivery.

An origin is this process's own spool (`spool.py`) or what a dead process left (`inheritance.py`). Only the publishing
thread calls these methods. A segment is freed when all its events are delivered. Segments from before the number of
partitions was known are freed together: their sequences follow from the order of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gatemeter.producers.encoding import EventEncoder, request_id_of
from gatemeter.producers.segments import UNNUMBERED, Damaged, Segment, SegmentHeader, read_records
from gatemeter.schemas.partitions import partition_of


@dataclass(slots=True, eq=False)
class Held:
    """A segment and how far it has come: `offset` is behind the last event read, `pending` are read, undelivered."""

    segment: Segment
    header: SegmentHeader
    offset: int
    sealed: bool = False
    pending: int = 0

    @property
    def numbered(self) -> bool:
        return self.header.partitions > 0

    @property
    def done(self) -> bool:
        return self.pending == 0 and self.offset == self.segment.size


class Taken(NamedTuple):
    """One event, ready for a batch. `item` is its Avro form with its content hash."""

    held: Held
    partition: int
    sequence: int
    item: bytes


class Counters(NamedTuple):
    """As in the batch: events accepted, of these still waiting, and events refused; of one epoch and partition."""

    emitted: int
    spooled: int
    dropped: int


class Origin:
    """`epoch`, `topic`, `gateway_id`, `gateway_kind` go into the envelope. `partitions` 0: not yet known."""

    def __init__(self, gateway_id: str, gateway_kind: str, epoch: str, topic: str) -> None:
        self.gateway_id = gateway_id
        self.gateway_kind = gateway_kind
        self.epoch = epoch
        self.topic = topic
        self.partitions = 0
        self.held: list[Held] = []
        self.delivered: list[int] = []
        self.next_sequences: list[int] = []
        self._numbers: list[int] = []
        self._encoders: dict[int, EventEncoder] = {}
        self.closing_left = -1
        """Closing batches that are not yet delivered; -1 before they are made."""

    def learn(self, partitions: int) -> None:
        """Tells how many partitions the topic has; before it, nothing can be taken."""
        self.delivered = [0] * partitions
        self._numbers = [0] * partitions
        if not self.next_sequences:
            self.next_sequences = [0] * partitions
        self.partitions = partitions

    def counters(self, partition: int) -> Counters:
        """The counters of one partition."""
        raise NotImplementedError

    def take(self) -> Iterator[Taken]:
        """Unread events in order, to what is complete now. Raises `UnknownForm` and `Damaged`."""
        if not self.partitions:
            return
        for held in tuple(self.held):
            if held.offset == held.segment.size:
                continue
            encoder = self._encoder(held.header)
            try:
                for record in read_records(held.segment, held.offset):
                    held.offset = record.end
                    held.pending += 1
                    partition, sequence = record.partition, record.sequence
                    if partition == UNNUMBERED:
                        partition = partition_of(request_id_of(record.body), self.partitions)
                        sequence = self._numbers[partition]
                        self._numbers[partition] = sequence + 1
                    self._passed(partition, sequence)
                    yield Taken(held, partition, sequence, encoder.encode(record.body))
            except Damaged:
                self._damaged(held)
                raise
            self._exhausted(held)

    def _passed(self, partition: int, sequence: int) -> None:
        """An event was read."""

    def _exhausted(self, held: Held) -> None:
        """A segment was read as far as it goes."""

    def _damaged(self, held: Held) -> None:
        """The rest is set aside; so are later unnumbered segments, whose sequences depended on it.

        The last one first: whatever a crash leaves is numbered as before.
        """
        lost = [held]
        if not held.numbered:
            lost += [entry for entry in self.held[self.held.index(held) + 1 :] if not entry.numbered]
        for entry in lost[::-1]:
            entry.segment.set_aside()
            entry.segment.size = entry.offset

    def _encoder(self, header: SegmentHeader) -> EventEncoder:
        key = id(header.fields)
        if key not in self._encoders:
            self._encoders[key] = EventEncoder(header.fields)
        return self._encoders[key]

    def settle(self, held: Held, partition: int, events: int) -> None:
        """`events` of the segment `held` were delivered to `partition`."""
        held.pending -= events
        self.delivered[partition] += events

    def freeable(self) -> list[Held]:
        """Segments whose events are all delivered, in the order in which a crash between two deletions does no harm."""
        unnumbered = [held for held in self.held if not held.numbered]
        together = all(held.sealed and held.done for held in unnumbered)
        free = [held for held in self.held if held.numbered and held.sealed and held.done]
        return free + (unnumbered[::-1] if together else [])

    def forget(self, held: Held) -> None:
        """Removes a freed segment from the list, and its encoder where no other segment shares it."""
        self.held.remove(held)
        if all(other.header.fields is not held.header.fields for other in self.held):
            self._encoders.pop(id(held.header.fields), None)
