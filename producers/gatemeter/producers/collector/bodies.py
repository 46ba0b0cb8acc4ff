"""From the bytes of a request to its items: unpacked within bounds, then an object, an array or lines of JSON."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
ENCODINGS: Final = ("identity", "gzip")
_GZIP: Final = 31


class BodyTooLarge(ValueError):
    """More bytes or items than accepted. The text says which, and how many."""


class BadBody(ValueError):
    """No JSON, or compressed otherwise. The text says what is accepted."""


class UnknownType(BadBody):
    """A `Content-Type` that is not accepted."""


class UnknownEncoding(BadBody):
    """A `Content-Encoding` that is not accepted."""


def unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """At most `max_bytes` of it: what would be more is not unpacked. Raises `BodyTooLarge`, `BadBody`."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise UnknownEncoding(f"Content-Encoding: must be one of {', '.join(ENCODINGS)}")
    parts, left, rest = [], max_bytes, body
    while rest:
        stream = zlib.decompressobj(_GZIP)
        try:
            part = stream.decompress(rest, left + 1)
        except zlib.error as error:
            raise BadBody(f"body: must be gzip, as Content-Encoding says: {error}") from None
        if len(part) > left:
            raise BodyTooLarge(f"body: must be of at most {max_bytes} bytes when it is unpacked")
        if not stream.eof:
            raise BadBody("body: must be gzip, as Content-Encoding says: it ends too early")
        parts.append(part)
        left -= len(part)
        rest = stream.unused_data
    return b"".join(parts)


def items_of(body: bytes, content_type: str, max_items: int) -> list[Any]:
    """The entries of an array, the lines of NDJSON, or the one object. Raises `BodyTooLarge`, `BadBody`.

    A line that is no JSON stands as text in its place, so that the others keep their numbers. Products that say
    `application/json` of their lines are understood too.
    """
    if content_type not in NDJSON:
        try:
            whole = json.loads(body)
        except (ValueError, RecursionError):
            if b"\n" not in body.strip():
                raise BadBody(f"body: must be JSON, got {len(body)} bytes that are none") from None
        else:
            return _bounded(whole if isinstance(whole, list) else [whole], max_items)
    return _bounded([_line(line) for line in body.splitlines() if line.strip()], max_items)


def _line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return f"{len(line)} bytes"


def _bounded(items: list[Any], max_items: int) -> list[Any]:
    if len(items) > max_items:
        raise BodyTooLarge(f"body: must hold at most {max_items} items, got {len(items)}")
    return items
