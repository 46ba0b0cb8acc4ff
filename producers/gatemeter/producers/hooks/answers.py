"""What an answer used, read from its bytes as they pass: whole, streamed or compressed, in bounded memory."""

from __future__ import annotations

import re
import zlib
from typing import Final

import msgspec

from gatemeter.producers.hooks.sse import JsonLines, ServerSentEvents
from gatemeter.producers.usage import SHAPES, Usage, UsageStream, normalise

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Default bound of what is kept of one answer, and of one payload of a stream. Over it, usage is missing."""

_ANY_ZLIB: Final = 47
"""zlib's window bits for gzip and deflate alike, told apart by their headers."""
_ERROR: Final = re.compile(rb'\s*\{\s*(?:"type"\s*:\s*"(?:error|response\.failed)"|"error"\s*:\s*[{"])')
_STREAMS: Final[dict[str, type[ServerSentEvents] | type[JsonLines]]] = {
    "text/event-stream": ServerSentEvents,
    "application/x-ndjson": JsonLines,
    "application/ndjson": JsonLines,
    "application/jsonl": JsonLines,
}


class AnswerReader:
    """Feed it the bytes of one answer in order, as they go over the wire; ask for `usage()` at the end.

    `content_type` and `content_encoding` as the answer's headers say. What cannot be read (other media, other
    encodings than gzip and deflate, more than `max_bytes`) has no usage, and `why_unread` says why.
    """

    def __init__(self, shape: str, content_type: str, content_encoding: str, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.why_unread: str | None = None
        self.has_error = False
        """The stream itself told an error, after a good start."""
        self.is_stream = False
        self._shape = shape
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._has_end_mark = False
        self._stream: UsageStream | None = None
        self._payloads: ServerSentEvents | JsonLines | None = None
        self._inflate = None
        media = content_type.partition(";")[0].strip().lower()
        encoding = content_encoding.strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._inflate = zlib.decompressobj(_ANY_ZLIB)
        elif encoding not in ("", "identity"):
            self.why_unread = f"content-encoding {encoding[:40]}"
        if media in _STREAMS and SHAPES[shape].follow is not None:
            self.is_stream = True
            self._payloads = _STREAMS[media](max_bytes)
            self._stream = UsageStream(shape)
        elif media != "application/json" and not media.endswith("+json"):
            self.why_unread = f"content-type {media[:40]}"

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes."""
        if self.why_unread is not None or not chunk:
            return
        if self._inflate is None:
            self._take(chunk)
            return
        try:
            self._unpack(self._inflate, chunk)
        except zlib.error as error:
            self._give_up(f"content-encoding: {error}")

    def _unpack(self, inflate: zlib._Decompress, chunk: bytes) -> None:
        while chunk and self.why_unread is None:
            self._take(inflate.decompress(chunk, self._max_bytes))  # a bound a step: a bomb opens bit by bit
            chunk = inflate.unconsumed_tail

    def _take(self, data: bytes) -> None:
        if self._payloads is not None:
            self._follow(self._payloads.feed(data))
        elif len(self._body) + len(data) > self._max_bytes:
            self._give_up(f"more than {self._max_bytes} bytes")
        else:
            self._body += data

    def _follow(self, payloads: list[bytes]) -> None:
        stream = self._stream
        assert stream is not None
        for payload in payloads:
            if payload.strip() == b"[DONE]":
                self._has_end_mark = True
            elif _ERROR.match(payload):
                self.has_error = True
            stream.feed(payload)

    def _give_up(self, why: str) -> None:
        self.why_unread = why
        self._body.clear()

    def usage(self, *, is_complete: bool) -> Usage | None:
        """What is known at the end, or where the answer was cut (`is_complete` false); None where nothing can be."""
        if self._stream is not None and self._payloads is not None:
            if is_complete:
                self._follow(self._payloads.end())
            if self._payloads.oversized:
                self.why_unread = f"an event of more than {self._max_bytes} bytes"
            return self._stream.usage()
        if self.why_unread is not None or not is_complete or not self._body:
            return None
        body = bytes(self._body)
        self._body.clear()
        return _array(self._shape, body) if body.lstrip()[:1] == b"[" else normalise(self._shape, body)

    def has_said_end(self, usage: Usage | None) -> bool:
        """Whether a stream has told its end itself: by its end mark, or the last word on usage."""
        return self.is_stream and (self._has_end_mark or (usage is not None and usage.final))

    def is_cut(self, usage: Usage | None) -> bool:
        """Whether a stream stopped without any sign of its end: no last word on usage, no end mark, no reason."""
        if not self.is_stream or self.why_unread is not None or usage is None:
            return False
        return not (self.has_said_end(usage) or usage.finish_reason)


def _array(shape: str, body: bytes) -> Usage | None:
    """A stream as one JSON array, which is how Gemini streams unless it is asked for server-sent events."""
    try:
        chunks = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return None
    if SHAPES[shape].follow is None:
        return None
    stream = UsageStream(shape)
    for chunk in chunks:
        stream.feed(bytes(chunk))
    return stream.usage()
