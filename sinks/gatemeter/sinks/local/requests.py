"""One HTTP request of the ClickHouse interface, taken apart: statement, data, settings, parameters, database.

The text of a query is the `query` parameter, a line break, and the body; what follows the FORMAT clause of an INSERT
is data and goes to a file while it arrives, so that memory stays bounded whatever the size of an insert.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import BodyPartReader, web

from gatemeter.sinks.local.encodings import decoder
from gatemeter.sinks.local.engine import Query
from gatemeter.sinks.local.errors import (
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    SYNTAX_ERROR,
    FrontError,
)
from gatemeter.sinks.local.statements import data_insert

MAX_STATEMENT_BYTES: Final = 16 << 20  # of a statement without a data file, VALUES included
_HEAD_BYTES: Final = 256 << 10  # ClickHouse's max_query_size: a statement ends within it

# Parameters of the HTTP interface itself; every other one is a setting.
_INTERFACE: Final = frozenset(
    {
        "query",
        "database",
        "default_format",
        "user",
        "password",
        "quota_key",
        "query_id",
        "role",
        "stacktrace",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "client_protocol_version",
        "wait_end_of_query",
        "buffer_size",
        "compress",
        "decompress",
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query ready for the engine and the data file that goes with it, to be deleted afterwards."""

    query: Query
    data_file: Path | None


async def read_statement(request: web.Request, folder: Path) -> Statement:
    """Read a request to its end. Raises `FrontError` for what cannot be a statement. `folder`: for data files."""
    given = dict(request.query)
    if request.content_type == "multipart/form-data":
        given |= await _form_fields(request)
        pieces = _no_body()
    else:
        pieces = _decoded(request)
    for name in ("compress", "decompress"):
        if given.get(name, "0") not in ("0", ""):
            message = f"{name}={given[name]}: native block compression is not supported, use Content-Encoding"
            raise FrontError(NOT_IMPLEMENTED, message, "NOT_IMPLEMENTED")
    prefix = given["query"].encode() + b"\n" if given.get("query") else b""
    head, at_end = await _head(prefix, pieces)
    insert = data_insert(head)
    if insert is None:
        text = head if at_end else await _rest(head, pieces)
        if not text.strip():
            raise FrontError(SYNTAX_ERROR, "Empty query", "SYNTAX_ERROR")
        return Statement(_query(given, request, text.decode("utf-8", "surrogateescape")), None)
    path = await _spool(head[insert.data_start :], pieces, folder)
    if path.stat().st_size == 0:  # as the server does: a statement that names its data and brings none
        path.unlink()
        return Statement(_query(given, request, head[: insert.data_start].decode()), None)
    return Statement(_query(given, request, insert.from_file(str(path))), path)


def _query(given: dict[str, str], request: web.Request, text: str) -> Query:
    headers = request.headers
    return Query(
        text,
        format=headers.get("X-ClickHouse-Format") or given.get("default_format") or "TabSeparated",
        database=headers.get("X-ClickHouse-Database") or given.get("database") or "default",
        settings={n: v for n, v in given.items() if n not in _INTERFACE and not n.startswith("param_")},
        parameters={n.removeprefix("param_"): v for n, v in given.items() if n.startswith("param_")},
        readonly=request.method != "POST",  # as ClickHouse: a link that somebody clicks changes nothing
    )


async def _no_body() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


async def _decoded(request: web.Request) -> AsyncIterator[bytes]:
    unpack = decoder(request.headers.get("Content-Encoding", ""))
    async for chunk in request.content.iter_any():
        for piece in unpack.feed(chunk):
            yield piece
    unpack.finish()


async def _form_fields(request: web.Request) -> dict[str, str]:
    fields = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None or part.filename is not None:
            raise FrontError(NOT_IMPLEMENTED, "external tables in a form are not supported", "NOT_IMPLEMENTED")
        fields[part.name] = (await part.read(decode=True)).decode("utf-8", "surrogateescape")
    return fields


async def _head(prefix: bytes, pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """The first bytes of the text, enough to hold any statement, and whether that was all."""
    head = bytearray(prefix)
    async for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES + len(prefix):
            return bytes(head), False
    return bytes(head), True


async def _rest(head: bytes, pieces: AsyncIterator[bytes]) -> bytes:
    text = bytearray(head)
    async for piece in pieces:
        text += piece
        if len(text) > MAX_STATEMENT_BYTES:
            message = f"a statement may have {MAX_STATEMENT_BYTES} bytes; send data after INSERT … FORMAT"
            raise FrontError(QUERY_IS_TOO_LARGE, message, "QUERY_IS_TOO_LARGE")
    return bytes(text)


async def _spool(first: bytes, pieces: AsyncIterator[bytes], folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="insert-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(first)
            async for piece in pieces:
                file.write(piece)
    except BaseException:
        path.unlink()
        raise
    return path
