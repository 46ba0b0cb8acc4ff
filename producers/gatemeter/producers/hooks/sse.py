"""Streamed payloads from bytes as they pass: server-sent events and newline-delimited JSON, in bounded memory.

Source: WHATWG HTML, section 9.2 (server-sent events): lines end with LF, CR LF or CR; an event ends with an empty line;
the lines of its `data` fields are joined by LF; a byte order mark at the start is passed over.
"""

from __future__ import annotations

from typing import Final

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
_LF: Final = 10
_BOM: Final = b"\xef\xbb\xbf"


class _Lines:
    """Cuts chunks into lines. A line longer than `max_bytes` is given as None, and costs no memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = bytearray()
        self._too_long = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines: list[bytes | None] = list(chunk.splitlines())
        rest = lines.pop() if chunk[-1] not in b"\r\n" else b""
        if lines:
            lines[0] = self._ended(lines[0] or b"")
        self._keep(rest or b"")
        if len(chunk) > self._max_bytes:
            return [line if line is None or len(line) <= self._max_bytes else None for line in lines]
        return lines

    @property
    def is_inside(self) -> bool:
        """Whether the next bytes belong to what came before: inside a line, or behind a CR that may be half an end."""
        return bool(self._begun) or self._too_long or self._after_cr

    def end(self) -> bytes | None:
        """The last line, where nothing ended it."""
        return self._ended(b"")

    def _ended(self, rest: bytes) -> bytes | None:
        if not self._begun and not self._too_long:
            return rest
        self._keep(rest)
        line = None if self._too_long else bytes(self._begun)
        self._begun.clear()
        self._too_long = False
        return line

    def _keep(self, part: bytes) -> None:
        if self._too_long or len(self._begun) + len(part) > self._max_bytes:
            self._too_long = True
            self._begun.clear()
        else:
            self._begun += part


class ServerSentEvents:
    """Feed it chunks, cut anywhere; it gives the `data` of every event that is complete.

    An event with more than `max_bytes` of data is left out and counted in `oversized`.
    """

    def __init__(self, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.oversized = 0
        self._max_bytes = max_bytes
        self._lines = _Lines(max_bytes + len("data: "))
        self._data: list[bytes] = []
        self._size = 0
        self._is_oversized = False
        self._is_inside = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that this chunk completes."""
        if not self._is_inside and len(chunk) <= self._max_bytes:
            whole = _only_data(chunk)
            if whole is not None:
                self._is_first = False
                return [whole]
        payloads: list[bytes] = []
        for line in self._lines.feed(chunk):
            if self._is_first:
                self._is_first = False
                line = line.removeprefix(_BOM) if line else line
            if line == b"":
                self._dispatch(payloads)
            else:
                self._take(line)
        self._is_inside = self._lines.is_inside or bool(self._data) or self._is_oversized
        return payloads

    def end(self) -> list[bytes]:
        """At the end of the answer: an event that no empty line ended, which browsers drop and some servers send."""
        line = self._lines.end()
        if line != b"":
            self._take(line)
        payloads: list[bytes] = []
        self._dispatch(payloads)
        return payloads

    def _take(self, line: bytes | None) -> None:
        if line is None:
            self._is_oversized = True
        elif line.startswith(b"data:"):
            data = line[6:] if line[5:6] == b" " else line[5:]
            self._size += len(data) + (1 if self._data else 0)
            self._data.append(data)
        elif line == b"data":
            self._data.append(b"")
        if self._size > self._max_bytes:
            self._is_oversized = True
        if self._is_oversized:
            self._data.clear()
            self._size = 0

    def _dispatch(self, payloads: list[bytes]) -> None:
        if self._is_oversized:
            self.oversized += 1
        elif self._data:
            payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
        self._data.clear()
        self._size = 0
        self._is_oversized = False


def _only_data(chunk: bytes) -> bytes | None:
    """The data of the usual chunk: one whole event, a name or none and one line of data. None of any other."""
    start, end = 0, chunk.find(b"\n")
    if chunk[:7] == b"event: ":
        start = end + 1
        end = chunk.find(b"\n", start)
    if end != len(chunk) - 2 or chunk[-1] != _LF or chunk[start : start + 6] != b"data: " or b"\r" in chunk:
        return None
    return chunk[start + 6 : end]


class JsonLines:
    """Newline-delimited JSON: as `ServerSentEvents`, a payload a line."""

    def __init__(self, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.oversized = 0
        self._lines = _Lines(max_bytes)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, empty ones left out."""
        return self._payloads(self._lines.feed(chunk))

    def end(self) -> list[bytes]:
        """The last line, where nothing ended it."""
        return self._payloads([self._lines.end()])

    def _payloads(self, lines: list[bytes | None]) -> list[bytes]:
        self.oversized += lines.count(None)
        return [line for line in lines if line]
