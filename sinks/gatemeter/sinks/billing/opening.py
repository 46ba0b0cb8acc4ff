"""A file as text or as a Parquet file, unpacked on the way: what it is is seen in its first bytes, not in its name.

What it unpacks to is limited, so that a small file cannot fill the machine. Nothing is read whole.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from gatemeter.sinks.billing.errors import FileBroken

Kind = Literal["csv", "json", "parquet"]

MAX_UNPACKED: Final = 16 * 2**30
"""Bytes that a file may unpack to, if nothing else is said."""

_CHUNK: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_OTHERS: Final = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\xff\xfe": "text in UTF-16: it must be in UTF-8",
    b"\xfe\xff": "text in UTF-16: it must be in UTF-8",
    b"%PDF": "a PDF document",
}


class _Limited(io.RawIOBase):
    """Bytes of a stream up to a limit; what is wrong with it is said as `FileBroken`."""

    def __init__(self, stream: io.BufferedIOBase, name: str, limit: int) -> None:
        self._stream, self._name, self._limit = stream, name, limit
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._stream.read1(len(view))
        except EOFError:
            raise FileBroken(f"{self._name}: is cut off: the gzip stream has no end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileBroken(f"{self._name}: is not a whole gzip file: {error}") from error
        self.read_bytes += len(data)
        if self.read_bytes > self._limit:
            raise FileBroken(
                f"{self._name}: unpacks to more than {self._limit:,} bytes; --max-unpacked-mib allows more"
            )
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes, hexadecimal. Raises `FileBroken`."""
    digest = sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise FileBroken(f"{path.name}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def kind_of(path: Path) -> Kind:
    """What is in the file. Raises `FileBroken`: empty, or of no kind that is read."""
    with _bytes(path, _CHUNK) as stream:
        head = stream.read(4096)
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise FileBroken(f"{path.name}: is empty")
    if head.startswith(b"PAR1"):
        with path.open("rb") as file:
            if file.read(2) == _GZIP:
                raise FileBroken(f"{path.name}: is a Parquet file within gzip: unpack it first")
        return "parquet"
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise FileBroken(f"{path.name}: is {what}")
    if b"\x00" in head:
        raise FileBroken(f"{path.name}: is neither text nor Parquet")
    return "json" if head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[") else "csv"


@contextmanager
def text_of(path: Path, limit: int) -> Iterator[io.TextIOWrapper]:
    """The text of a file, line ends as they are, without a byte-order mark. What is not UTF-8 becomes surrogates, so
    that one bad row is a bad row. Raises `FileBroken` while it is read."""
    with _bytes(path, limit) as stream:
        yield io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")


@contextmanager
def _bytes(path: Path, limit: int) -> Iterator[io.BufferedReader]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileBroken(f"{path.name}: cannot be read: {error.strerror}") from error
    with file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if packed else file
        yield io.BufferedReader(_Limited(stream, path.name, limit), _CHUNK)
