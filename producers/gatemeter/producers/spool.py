"""The spool of this process: what the emitter's call does. Number, append, say yes or no; never wait for Kafka.

Honest numbers: a sequence is taken only by an event that is in the spool, under one lock, so sequences have no holes.
What does not fit (`max_spool_bytes`) or cannot be written is counted as dropped and takes none. Before the number of
partitions is known, events are spooled unnumbered; they are numbered in spool order as soon as it is, by this process
or by the one that inherits the spool, with the same result.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.events import FIELDS
from gatemeter.producers.origins import Counters, Held, Origin
from gatemeter.producers.segments import UNNUMBERED, Segment, SegmentHeader, frame, header_bytes
from gatemeter.schemas.partitions import partition_of

_log: Final = logging.getLogger(__name__)
_WHOLE_CRC: Final = 1 << 32
_FORM: Final = {kind: list(names) for kind, names in FIELDS.items()}


class Spool(Origin):
    """Thread-safe. `new_segment` makes an empty segment from its number; it may raise `OSError`.

    A signal handler or finalizer that emits while its own thread is inside the spool is served when that call ends.
    """

    def __init__(
        self,
        gateway_id: str,
        gateway_kind: str,
        epoch: str,
        topic: str,
        *,
        new_segment: Callable[[int], Segment],
        max_bytes: int,
        segment_bytes: int,
        complaints: Complaints,
    ) -> None:
        super().__init__(gateway_id, gateway_kind, epoch, topic)
        self._new_segment = new_segment
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max_bytes // 4)
        self._complaints = complaints
        self._lock = threading.RLock()
        self._busy = False
        self._reentered: list[tuple[str, bytes]] = []
        self._crcs = array("I")
        self._early_dropped = 0
        self._dropped: list[int] = []
        self._spare: Segment | None = None
        self._number = 0
        self._bytes = self._header_bytes = 0
        self.accepting = True
        self._begin_segment()

    # --- the caller's side ---

    def append(self, request_id: str, body: bytes) -> bool:
        """Numbers and spools one event; False where it was dropped. The disk is the only thing that it waits for."""
        with self._lock:
            if self._busy:
                self._reentered.append((request_id, body))
                return True
            self._busy = True
            try:
                accepted = self._append(request_id, body)
                while self._reentered:
                    self._append(*self._reentered.pop(0))
                return accepted
            finally:
                self._busy = False

    def _append(self, request_id: str, body: bytes) -> bool:
        partition = sequence = UNNUMBERED
        crc = partition_of(request_id, _WHOLE_CRC)
        if self.partitions:
            partition = crc % self.partitions
            sequence = self.next_sequences[partition]
        data = frame(partition, sequence, body)
        if not self.accepting or self._bytes + len(data) + self._header_bytes > self._max_bytes:
            return self._drop(request_id)
        try:
            if self._current.segment.size + len(data) > self._segment_bytes:
                self._begin_segment()
            self._write(data, partition, sequence, crc)
        except OSError as error:
            self._complaints.say(_log, "an event was dropped: the spool cannot be written: %s", error)
            return self._drop(request_id)
        return True

    def _write(self, data: bytes, partition: int, sequence: int, crc: int) -> None:
        """A number is taken if and only if the record is whole, also where a signal handler raises in between."""
        segment = self._current.segment
        before = segment.size
        try:
            segment.append(data)
        finally:
            grown = segment.size - before
            self._bytes += grown
            if grown and sequence >= 0:
                self.next_sequences[partition] = sequence + 1
            elif grown:
                self._crcs.append(crc)

    def drop(self, request_id: str) -> bool:
        """Counts an event that the spool cannot take, e.g. for its size. Always False."""
        with self._lock:
            return self._drop(request_id)

    def _drop(self, request_id: str) -> bool:
        if self.partitions:
            self._dropped[partition_of(request_id, self.partitions)] += 1
        else:
            self._early_dropped += 1
        return False

    def _begin_segment(self) -> None:
        segment, self._spare = self._spare, None
        if segment is None:
            self._number += 1
            segment = self._new_segment(self._number - 1)
        header = SegmentHeader(
            gateway_id=self.gateway_id,
            gateway_kind=self.gateway_kind,
            epoch=self.epoch,
            topic=self.topic,
            partitions=self.partitions,
            next_sequences=list(self.next_sequences) if self.partitions else [],
            dropped=list(self._dropped),
            fields=_FORM,
        )
        segment.append(header_bytes(header))
        self._header_bytes = segment.size  # kept free, so that the next segment's header fits too
        self._bytes += segment.size
        held = Held(segment, header, segment.size)
        if self.held:
            self.held[-1].sealed = True
        self.held.append(held)
        self._current = held

    # --- the publishing thread's side ---

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Holds the lock, also against a finalizer in this very thread: what it emits is appended at the end."""
        with self._lock:
            self._busy = True
            try:
                yield
                while self._reentered:
                    self._append(*self._reentered.pop(0))
            finally:
                self._busy = False

    def learn(self, partitions: int) -> None:
        """Numbers what was accepted so far and begins a numbered segment.

        Most is counted before the lock is taken, so that no caller waits for it.
        """
        counts, counted = [0] * partitions, 0
        while len(self._crcs) - counted > 1000:
            counts[self._crcs[counted] % partitions] += 1
            counted += 1
        with self._undisturbed():
            for crc in self._crcs[counted:]:
                counts[crc % partitions] += 1
            self.next_sequences = counts
            self._dropped = [0] * partitions
            self._dropped[0] = self._early_dropped
            super().learn(partitions)
            self._crcs = array("I")
            try:
                self._begin_segment()
            except OSError:
                self.partitions = 0
                self._crcs = array("I", self._restored(counts))
                raise

    @staticmethod
    def _restored(counts: list[int]) -> list[int]:
        """Numbers that are counted as before: crc mod partitions is all that `learn` needs of them."""
        return [partition for partition, count in enumerate(counts) for _ in range(count)]

    def prepare(self) -> None:
        """Makes the next segment ahead, so that a caller does not wait for the file system."""
        with self._lock:
            if self._spare is not None:
                return
            number, self._number = self._number, self._number + 1
        spare = self._new_segment(number)
        with self._lock:
            if self._current.segment.number < number:
                self._spare = spare
                return
        spare.delete()  # a caller was faster and took a later number; segments must stay in order

    def renew(self) -> None:
        """Seals the current segment where all its events are delivered, so that it can be freed."""
        with self._undisturbed():
            if self._current.done and self._current.offset > self._first_offset(self._current):
                self._begin_segment()

    @staticmethod
    def _first_offset(held: Held) -> int:
        return len(header_bytes(held.header))

    def _damaged(self, held: Held) -> None:
        with self._undisturbed():
            if held is self._current:
                self._begin_segment()
            super()._damaged(held)

    def counters(self, partition: int) -> Counters:
        emitted = self.next_sequences[partition]
        return Counters(emitted, emitted - self.delivered[partition], self._dropped[partition])

    def totals(self) -> Counters:
        """The counters of all partitions together."""
        with self._lock:
            emitted = sum(self.next_sequences) + len(self._crcs)
            return Counters(emitted, emitted - sum(self.delivered), sum(self._dropped) or self._early_dropped)

    def end(self) -> tuple[list[int], list[int]]:
        """By partition, the next sequences and how many events were dropped."""
        with self._lock:
            return list(self.next_sequences), list(self._dropped)

    @property
    def bytes(self) -> int:
        """What the spool holds, inherited segments included."""
        return self._bytes

    @property
    def free_bytes(self) -> int:
        """Room for events and their frames, with one header of a segment kept free."""
        return max(0, self._max_bytes - self._bytes - self._header_bytes)

    @property
    def is_crowded(self) -> bool:
        """More than half full."""
        return self._bytes > self._max_bytes // 2

    def charge(self, inherited_bytes: int) -> None:
        """Counts bytes that a dead process left (negative: that were freed) towards `max_spool_bytes`."""
        with self._lock:
            self._bytes += inherited_bytes

    def free(self, held: Held) -> None:
        """Deletes a segment whose events are delivered."""
        held.segment.delete()
        with self._lock:
            self._bytes -= held.segment.size
            self.forget(held)

    def stop_accepting(self) -> None:
        """From now on every event is dropped and counted; what the call has accepted stays."""
        with self._lock:
            self.accepting = False

    def close(self) -> None:
        """Closes the files and removes an unused spare."""
        with self._lock:
            self.accepting = False
            for held in self.held:
                held.segment.close()
            if self._spare is not None:
                self._spare.delete()
                self._spare = None

    def abandon(self) -> None:
        """In a forked child: closes the copies of the descriptors; the files are the parent's."""
        for held in self.held:
            held.segment.close()
        if self._spare is not None:
            self._spare.close()
