"""One spool segment: a header and checksummed records, in a file or in memory, written once and read in order.

    file   = "gmseg1\\r\\n", record(header), record(event)…
    record = length (u32 LE) of the rest after the checksum, CRC-32 of it (u32), partition (i32), sequence (i64), body

Partition and sequence are -1 in the header and in events that were accepted before the number of partitions was known.
A tail that ends inside a record is torn: its event was never accepted. Any other bad record is damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from gatemeter.producers.folders import DAMAGED_SUFFIX

MAGIC: Final = b"gmseg1\r\n"
UNNUMBERED: Final = -1
CHUNK_BYTES: Final = 64 * 1024
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
_FRAME: Final = struct.Struct("<II")
_PLACE: Final = struct.Struct("<iq")
OVERHEAD: Final = _FRAME.size + _PLACE.size


class Damaged(Exception):
    """The segment cannot be read on from `offset`."""

    def __init__(self, where: str, offset: int, reason: str) -> None:
        super().__init__(f"{where}: {reason} at byte {offset}")
        self.offset = offset


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Whose events these are, and how to read them. `partitions` 0: not yet known, events are unnumbered.

    `next_sequences`, `dropped`: by partition, as they were when the segment was begun. `fields`: by kind, the names of
    the values of an event's body after the kind.
    """

    gateway_id: str
    gateway_kind: str
    epoch: str
    topic: str
    partitions: int
    next_sequences: list[int]
    dropped: list[int]
    fields: dict[str, list[str]]


class Record(NamedTuple):
    """One event as it lies in the spool; `end` is the offset behind it."""

    partition: int
    sequence: int
    body: bytes
    end: int


def frame(partition: int, sequence: int, body: bytes) -> bytes:
    """The record of one event."""
    place = _PLACE.pack(partition, sequence)
    return _FRAME.pack(_PLACE.size + len(body), zlib.crc32(body, zlib.crc32(place))) + place + body


class Segment(Protocol):
    """Bytes that only grow. `size` counts what is complete."""

    size: int
    number: int

    def append(self, data: bytes) -> None: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def close(self) -> None: ...
    def delete(self) -> None: ...
    def set_aside(self) -> None: ...


class MemorySegment:
    """A segment that dies with the process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = 0
        self._data = bytearray()

    def __str__(self) -> str:
        return f"segment {self.number} in memory"

    def append(self, data: bytes) -> None:
        """Adds a whole record."""
        self._data += data
        self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes."""
        return bytes(self._data[offset : min(offset + length, self.size)])

    def close(self) -> None:
        """Nothing to close."""

    def delete(self) -> None:
        """Frees the memory."""
        self._data = bytearray()

    def set_aside(self) -> None:
        """Memory has no place to set anything aside."""
        self.delete()


class FileSegment:
    """A segment file. `append` returns when the kernel has the record, with `fsync` when the disk has it."""

    def __init__(self, path: Path, descriptor: int, number: int, *, fsync: bool = False) -> None:
        self.path = path
        self.number = number
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._fsync = fsync

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, path: Path, number: int, *, fsync: bool) -> FileSegment:
        """A new, empty file, readable by its owner only."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if fsync:
            sync_folder(path.parent)
        return cls(path, descriptor, number, fsync=fsync)

    @classmethod
    def open(cls, path: Path, number: int) -> FileSegment:
        """A file that another process left."""
        return cls(path, os.open(path, os.O_RDONLY), number)

    def append(self, data: bytes) -> None:
        """Adds a whole record or, with `OSError`, nothing: a part that was written is cut off, or else overwritten.

        A signal handler may raise between the write and the line after it; then `size` follows what the file holds.
        """
        try:
            written = os.pwrite(self._descriptor, data, self.size)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written")
            if self._fsync:
                os.fdatasync(self._descriptor)
        except BaseException as error:
            if not isinstance(error, OSError) and os.fstat(self._descriptor).st_size == self.size + len(data):
                self.size += len(data)
            else:
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += written

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes."""
        return os.pread(self._descriptor, min(length, self.size - offset), offset)

    def close(self) -> None:
        """Leaves the file where it is. Closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def delete(self) -> None:
        """Closes and removes the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Closes and renames the file, so that nobody takes it for readable and nothing is lost."""
        self.close()
        self.path.rename(self.path.with_suffix(DAMAGED_SUFFIX))


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive the death of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def header_bytes(header: SegmentHeader) -> bytes:
    """What a segment begins with."""
    return MAGIC + frame(UNNUMBERED, UNNUMBERED, msgspec.msgpack.encode(header))


def read_header(segment: Segment) -> tuple[SegmentHeader, int] | None:
    """The header and the offset of the first event; None where the writer died before it was complete.

    Raises `Damaged` where the file is not one of ours.
    """
    start = segment.read(0, len(MAGIC))
    if not MAGIC.startswith(start):
        raise Damaged(str(segment), 0, "is not a spool segment")
    record = next(read_records(segment, len(MAGIC)), None) if len(start) == len(MAGIC) else None
    if record is None:
        return None
    try:
        return msgspec.msgpack.decode(record.body, type=SegmentHeader), record.end
    except msgspec.DecodeError as error:
        raise Damaged(str(segment), len(MAGIC), f"has an unreadable header ({error})") from error


def read_records(segment: Segment, offset: int) -> Iterator[Record]:
    """The records from `offset` to what is complete now; a torn tail ends it. Raises `Damaged`.

    Reads ahead at most a chunk, so that a large spool needs little memory.
    """
    chunk, start = b"", offset
    while True:
        at, needed, checksum = offset - start, _FRAME.size, 0
        if len(chunk) - at >= needed:
            length, checksum = _FRAME.unpack_from(chunk, at)
            if not _PLACE.size <= length <= MAX_RECORD_BYTES:
                if not segment.read(offset, MAX_RECORD_BYTES).strip(b"\0"):
                    return  # zeros up to the end: the machine died before the data reached the disk
                raise Damaged(str(segment), offset, f"has a record of {length} bytes")
            needed += length
        if len(chunk) - at < needed:
            chunk, start = segment.read(offset, max(CHUNK_BYTES, needed)), offset
            if len(chunk) < needed:
                return
            continue
        rest = chunk[at + _FRAME.size : at + needed]
        if zlib.crc32(rest) != checksum:
            raise Damaged(str(segment), offset, "has a record with a wrong checksum")
        partition, sequence = _PLACE.unpack_from(rest)
        offset += needed
        yield Record(partition, sequence, rest[_PLACE.size :], offset)
