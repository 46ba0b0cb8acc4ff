"""What a dead process left in the spool folder, sent again under its own epoch and sequences.

The bytes of each event are the same, so a copy that had been delivered is dropped by its sequence. Segments that are
no longer readable are set aside (`*.damaged`), never deleted; the hole shows in the completeness report.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from gatemeter.producers.folders import END_FILE, EpochFolder
from gatemeter.producers.origins import Counters, Held, Origin
from gatemeter.producers.segments import Damaged, FileSegment, SegmentHeader, read_header
from gatemeter.producers.spool import Spool

_log: Final = logging.getLogger(__name__)


class End(msgspec.Struct, frozen=True):
    """Written when an emitter is closed in order with events left: its last numbers and counts, by partition.

    And whose epoch it is, so that its end can be announced when no segment is left.
    """

    next_sequences: list[int]
    dropped: list[int]
    gateway_id: str = ""
    gateway_kind: str = ""
    epoch: str = ""
    topic: str = ""


def write_end(folder: EpochFolder, spool: Spool) -> None:
    """Says for ever what the closed epoch's numbers are."""
    end = End(*spool.end(), spool.gateway_id, spool.gateway_kind, spool.epoch, spool.topic)
    (folder.path / END_FILE).write_bytes(msgspec.msgpack.encode(end))


class Inherited(Origin):
    """A taken-over epoch. `is_closed`: its emitter was closed in order, so its end may be announced for it."""

    def __init__(self, folder: EpochFolder, held: list[Held], end: End | None) -> None:
        whose: SegmentHeader | End | None = held[0].header if held else end
        if whose is None:
            raise ValueError(f"{folder.path}: holds neither a segment nor an end")
        super().__init__(whose.gateway_id, whose.gateway_kind, whose.epoch, whose.topic)
        self.folder = folder
        self.held = held
        self.is_closed = end is not None
        self._end = end
        self._taken: list[int] = []
        for entry in held:
            entry.sealed = True

    @property
    def bytes(self) -> int:
        """What its segments hold."""
        return sum(held.segment.size for held in self.held)

    @property
    def is_settled(self) -> bool:
        """Everything readable is delivered."""
        return not self.held

    def learn(self, partitions: int) -> None:
        """As in `Origin`. Raises `ValueError` where the spool was written for another number of partitions."""
        for held in self.held:
            if held.header.partitions not in (0, partitions):
                raise ValueError(
                    f"{self.topic}: has {partitions} partitions, but {held.segment} was written for"
                    f" {held.header.partitions}; the number of partitions of a topic must never change"
                )
        last: SegmentHeader | End = self._end or self.held[-1].header
        if len(last.next_sequences) not in (0, partitions):
            raise ValueError(
                f"{self.topic}: has {partitions} partitions, but {self.folder.path} was written for"
                f" {len(last.next_sequences)}; the number of partitions of a topic must never change"
            )
        self.next_sequences = list(last.next_sequences) or [0] * partitions
        self._dropped = list(last.dropped) or [0] * partitions
        self._taken = [0] * partitions
        super().learn(partitions)

    def counters(self, partition: int) -> Counters:
        waiting = self._taken[partition] - self.delivered[partition]
        return Counters(self.next_sequences[partition], waiting, self._dropped[partition])

    def _passed(self, partition: int, sequence: int) -> None:
        self._taken[partition] += 1
        self.next_sequences[partition] = max(self.next_sequences[partition], sequence + 1)

    def _exhausted(self, held: Held) -> None:
        torn = held.segment.size - held.offset
        if torn:
            _log.warning("%s: %d bytes of a torn tail were left out", held.segment, torn)
            held.segment.size = held.offset

    def free(self, held: Held) -> int:
        """Deletes a delivered segment and says how many bytes it had."""
        size = held.segment.size
        held.segment.delete()
        self.forget(held)
        return size


def take_over(root: Path, gateway_id: str) -> list[Inherited]:
    """Takes over the dead epochs of `gateway_id`; others stay for a process of theirs. Empty ones are removed."""
    found = []
    for folder in EpochFolder.abandoned(root):
        held, end = _open_segments(folder), _read_end(folder)
        if not held and (end is None or not end.gateway_id):
            folder.remove()
            continue
        origin = Inherited(folder, held, end)
        if origin.gateway_id != gateway_id:
            for entry in held:
                entry.segment.close()
            folder.release()
            continue
        found.append(origin)
    return found


def _open_segments(folder: EpochFolder) -> list[Held]:
    held: list[Held] = []
    damaged: list[FileSegment] = []
    for path in folder.segments():
        segment = FileSegment.open(path, int(path.stem))
        try:
            header = read_header(segment)
        except Damaged as error:
            _log.warning("%s; it is set aside", error)
            damaged.append(segment)
            continue
        if header is None:
            segment.delete()  # its writer died while it began; no event was accepted into it
        else:
            held.append(Held(segment, *header))
    first_damage = min([folder.first_damaged, *(segment.number for segment in damaged)])
    unsure = [entry for entry in held if not entry.numbered and entry.segment.number > first_damage]
    if unsure:
        _log.warning("%s: %d segments whose numbers depended on a damaged one are set aside", folder.path, len(unsure))
    for entry in unsure[::-1]:  # the last one first: whatever a crash leaves is numbered as before
        entry.segment.set_aside()
        held.remove(entry)
    for segment in damaged[::-1]:
        segment.set_aside()
    return held


def _read_end(folder: EpochFolder) -> End | None:
    path = folder.path / END_FILE
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=End)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        _log.warning("%s: is torn; the epoch stays unclosed", path)
        return None
