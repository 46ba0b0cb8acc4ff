"""Request bodies unpacked piece by piece: several concatenated frames or members in one body are all read.

`lz4.frame.decompress` on a whole body returns its first frame and drops the rest without a word; clickhouse-connect
sends one frame a block. So a finished frame is followed by a new decompressor until the body ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import lz4.frame
from backports import zstd

from gatemeter.sinks.local.errors import CANNOT_DECOMPRESS, UNKNOWN_COMPRESSION_METHOD, FrontError

_PIECE: Final = 1 << 20  # at most so many bytes come out of one step, whatever a small body unpacks to


class Decoder(Protocol):
    """Feed pieces of a body, get decoded pieces; `finish` raises where the body ends inside a frame."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class _Zlib:
    """`zlib` objects with the interface of the lz4 and zstd decompressors: `needs_input`, `decompress(data, limit)`."""

    def __init__(self, wbits: int) -> None:
        self._object = zlib.decompressobj(wbits)
        self._cut = False  # the last piece filled its limit: more may be waiting inside

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail and not self._cut

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._object.decompress(self._object.unconsumed_tail + data, max_length)
        self._cut = len(piece) == max_length
        return piece


class _Frames:
    """Any number of frames, one after the other, cut anywhere by the network."""

    def __init__(self, name: str, new: Callable[[], Any], failures: tuple[type[Exception], ...]) -> None:
        self._name, self._new, self._failures = name, new, failures
        self._current: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or (self._current is not None and not self._current.needs_input):
            if self._current is None:
                self._current = self._new()
            try:
                piece = self._current.decompress(data, _PIECE)
            except self._failures as error:
                raise FrontError(CANNOT_DECOMPRESS, f"{self._name} body: {error}", "CANNOT_DECOMPRESS") from error
            data = b""
            if self._current.eof:
                data = self._current.unused_data or b""
                self._current = None
            if piece:
                yield piece

    def finish(self) -> None:
        if self._current is not None:
            raise FrontError(CANNOT_DECOMPRESS, f"{self._name} body ends inside a frame", "CANNOT_DECOMPRESS")


def decoder(content_encoding: str) -> Decoder:
    """The decoder of a `Content-Encoding` (identity, lz4, zstd, gzip, deflate). Raises `FrontError` for others."""
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return _Identity()
    if name == "lz4":
        return _Frames(name, lz4.frame.LZ4FrameDecompressor, (RuntimeError, EOFError))
    if name == "zstd":
        return _Frames(name, zstd.ZstdDecompressor, (zstd.ZstdError, EOFError))
    if name in ("gzip", "x-gzip"):
        return _Frames("gzip", lambda: _Zlib(31), (zlib.error,))
    if name == "deflate":
        return _Frames(name, lambda: _Zlib(15), (zlib.error,))
    message = f"Content-Encoding {content_encoding!r}: must be identity, lz4, zstd, gzip or deflate"
    raise FrontError(UNKNOWN_COMPRESSION_METHOD, message, "UNKNOWN_COMPRESSION_METHOD")
