"""Complete lines of a log that grows, is rotated, or comes through a pipe. Memory is bounded by one line.

A file is known by its first line, not by its name or inode: so it is found again after it was renamed (rename and
create) or copied and emptied (copy-truncate), while the tail ran or between two runs. A new file is read when the old
one has no more lines and the new one has begun: whoever writes has moved on then.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from gatemeter.producers.complaints import Complaints

_log: Final = logging.getLogger(__name__)
MAX_LINE_BYTES: Final = 1024 * 1024
"""A longer line is passed over and counted."""
WAIT_SECONDS: Final = 0.1
_HEAD_BYTES: Final = 4096
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4")


class Lines(Protocol):
    """Where lines come from. `passed_over` counts those that were too long, or never ended."""

    passed_over: int

    def ready(self) -> Iterator[bytes]:
        """Complete lines that are there now, without their ends. A line counts as read when the next one is asked for,
        or the iterator ends."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether no line will ever come any more."""
        ...

    def at(self) -> tuple[str, int]:
        """Head and offset for a `Position`."""
        ...

    def place(self) -> tuple[str, int]:
        """Of the line that `ready` gave last: fingerprint of its file's first line, and where it begins."""
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


class LogFile:
    """The lines of the log at `path`, from a position on (`head`, `offset`, `since_ns`: see `Position`)."""

    def __init__(self, path: Path, head: str = "", offset: int = 0, since_ns: int = 0) -> None:
        self.passed_over = 0
        self.lost = 0
        """How often a file that was being read could not be found again; what it still held is lost."""
        self._path, self._since_ns = path, since_ns
        self._complaints = Complaints()
        self._file: int | None = None
        self._head, self._offset = head, offset
        self._read = head, offset
        self._skips = False
        self._find()

    @property
    def is_over(self) -> bool:
        """Never: a file may always grow."""
        return False

    def at(self) -> tuple[str, int]:
        """Head and offset of what was read; of the file before, where nothing was read of this one."""
        return (self._head, self._offset) if self._head else self._read

    def place(self) -> tuple[str, int]:
        """The same whenever the line is read, whatever the file is called then."""
        return self._head or self._first_line(), self._offset

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def ready(self) -> Iterator[bytes]:
        """Complete lines up to the end of the newest file."""
        while self._file is not None or self._open(self._path):
            if self._offset and self._first_line() != self._head:
                self._find()
                continue
            yield from self._lines()
            following = self._following()
            if following is None:
                return
            yield from self._lines()  # what came until the other one began
            self._go_on(following)

    def _lines(self) -> Iterator[bytes]:
        """Complete lines of the open file."""
        assert self._file is not None
        while data := os.pread(self._file, MAX_LINE_BYTES, self._offset):
            begin = 0
            while (end := data.find(b"\n", begin)) >= 0:
                if not self._skips and end > begin:
                    yield data[begin:end]
                self._skips = False
                self._offset += end + 1 - begin
                begin = end + 1
                self._head = self._head or self._first_line()
            if begin == 0:
                if len(data) < MAX_LINE_BYTES:
                    return
                self.passed_over += not self._skips
                self._skips = True
                self._offset += len(data)
                self._head = self._head or self._first_line()

    def _following(self) -> Path | None:
        """The file to read after the open one, which has no complete line; None where it may still get some."""
        assert self._file is not None
        own = os.fstat(self._file)
        try:
            named = self._path.stat()
        except FileNotFoundError:
            named = None
        if named is not None and (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino):
            return self._path if own.st_size < self._offset else None
        rotated = self._rotated_after(own.st_mtime_ns, own.st_ino)
        if rotated:
            return rotated[0]
        return self._path if named is not None and named.st_size else None

    def _go_on(self, following: Path) -> None:
        """Whatever the old file ends with was never finished, and nobody writes to it any more."""
        assert self._file is not None
        own = os.fstat(self._file)
        if own.st_size < self._offset:
            self._find()  # it was emptied under us: its copy may hold what we have not read
            return
        self.passed_over += own.st_size > self._offset
        self._begin(following)

    def _begin(self, path: Path) -> None:
        self._read = self.at()
        self._head, self._offset, self._skips = "", 0, False
        self._open(path)

    def _find(self) -> None:
        """Opens the file that begins with the line we know, whatever its name is now; else the one at `path`."""
        if not self._head:
            self._open(next(iter(self._rotated_after(self._since_ns, 0)), self._path) if self._since_ns else self._path)
            return
        for path in (self._path, *self._siblings()):
            if self._open(path) and self._file is not None:
                size = os.fstat(self._file).st_size
                if size >= self._offset and self._first_line() == self._head:
                    return
        self.lost += 1
        self._complaints.say(_log, "%s: what was read up to byte %d is not there any more", self._path, self._offset)
        self._begin(self._path)

    def _rotated_after(self, mtime_ns: int, inode: int) -> list[Path]:
        """Files that were rotated away, written to after that time, oldest first; without that inode."""
        rotated = []
        for path in self._siblings():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_mtime_ns > mtime_ns and status.st_ino != inode:
                    rotated.append((status.st_mtime_ns, path))
        return [path for _, path in sorted(rotated)]

    def _siblings(self) -> list[Path]:
        """Files that were rotated away (`log.1`, `log-20261127`); compressed ones cannot be read."""
        names = self._path.parent.glob(glob.escape(self._path.name) + "[.-]*")
        return [path for path in names if path.suffix not in _COMPRESSED and path.is_file()]

    def _open(self, path: Path) -> bool:
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._file is not None

    def _first_line(self) -> str:
        assert self._file is not None
        head = os.pread(self._file, _HEAD_BYTES, 0)
        return hashlib.blake2b(head[: head.find(b"\n") + 1] or head, digest_size=16).hexdigest()


class LogPipe:
    """The lines that come through a pipe; it is over when the writer has closed it. There is no position in it."""

    def __init__(self, descriptor: int) -> None:
        self.passed_over = 0
        self._descriptor = descriptor
        self._rest = b""
        self._skips = False
        self.is_over = False

    def at(self) -> tuple[str, int]:
        """A pipe cannot be read again."""
        return "", 0

    def place(self) -> tuple[str, int]:
        """Lines of a pipe have none."""
        return "", 0

    def close(self) -> None:
        """The descriptor is its owner's."""

    def ready(self) -> Iterator[bytes]:
        """Waits a moment for the next piece; its complete lines, and at the end the last one, ended or not."""
        if not select.select([self._descriptor], [], [], WAIT_SECONDS)[0]:
            return
        data = os.read(self._descriptor, 65_536)
        self.is_over = not data
        *lines, self._rest = (self._rest + (data or b"\n")).split(b"\n")
        for line in lines:
            if not self._skips and line:
                yield line
            self._skips = False
        if len(self._rest) > MAX_LINE_BYTES:
            self.passed_over += not self._skips
            self._skips, self._rest = True, b""
