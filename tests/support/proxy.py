"""A proxy that breaks things on purpose, between a worker and ClickHouse (HTTP) or a Kafka listener (plain TCP).

    with HttpProxy(clickhouse.url) as proxy:
        proxy.fault = LOSE_REPLY            # every request from now on
        proxy.once(CUT_REPLY, "INSERT")     # the next request whose statement begins so
    proxy.silent_from(4, "USAGE_FACTS") # from the fourth request on whose statement contains it, nobody is answered
        proxy.fault = None                  # healthy again

It runs in a thread of its own; faults are switched at run time, and every fault that was met is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote_plus, urlsplit

PIECE: Final = 1 << 16
STATEMENT_CHARACTERS: Final = 300
PROGRESS: Final = (
    b'HTTP/1.1 200 OK\r\nX-ClickHouse-Progress: {"read_rows":"1000","elapsed_ns":"10"}\r\nX-ClickHouse-Prog'
)


@dataclass(frozen=True)
class Fault:
    """What happens to a request. `kind`: the first word of what the docstring of `HttpProxy` lists."""

    kind: str
    status: int = 500
    code: int = 0
    text: str = ""
    bytes_per_s: int = 0


REFUSE: Final = Fault("refuse")
SILENT: Final = Fault("silent")
CUT_REQUEST: Final = Fault("cut_request")
CUT_REPLY: Final = Fault("cut_reply")
CUT_PROGRESS: Final = Fault("cut_progress")
LOSE_REPLY: Final = Fault("lose_reply")
SLOW: Final = Fault("slow", bytes_per_s=20_000)
BROKEN: Final = Fault("error", 500, 1002, "Unexpected error, e.g. bad_alloc. (UNKNOWN_EXCEPTION)")
BUSY: Final = Fault("error", 503, 202, "Too many simultaneous queries. Maximum: 100. (TOO_MANY_SIMULTANEOUS_QUERIES)")
GATEWAY: Final = Fault("error", 502, 0, "<html><body>502 Bad Gateway</body></html>")
NO_SPACE: Final = Fault("error", 500, 243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")


@dataclass(frozen=True)
class Request:
    """One HTTP request as it came: `head` with its blank line, `body` as sent, chunked where it was."""

    head: bytes
    body: bytes
    statement: str


class _Loop:
    """An event loop in a thread that ends with the block."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs it there and waits."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        """Ends all tasks, then the thread."""
        self.run(self._end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TcpProxy:
    """Forwards bytes from `port` of the loopback interface to `target` (host, port), which may be set later."""

    def __init__(self, target: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.target = target
        self._loop = _Loop(type(self).__name__)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listens (again)."""
        self._loop.run(self._listen())

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._guarded, "127.0.0.1", self.port, reuse_address=True)

    def refuse(self) -> None:
        """Refuses connections and cuts those that are open, until `start`."""
        self._loop.run(self._stop_listening())
        self.cut()

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def cut(self) -> None:
        """Resets every open connection, in the middle of whatever it carries."""
        self._loop.run(self._cut())

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def close(self) -> None:
        """Ends the proxy."""
        self.refuse()
        self._loop.close()

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # either side went away: that is what a connection may do here
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self.target)
        self._writers.add(there_writer)
        pumps = [
            asyncio.create_task(_pump(reader, there_writer)),
            asyncio.create_task(_pump(there_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._writers.discard(there_writer)
            there_writer.close()
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


class HttpProxy(TcpProxy):
    """Takes each request whole, then does what the fault of the moment says, or forwards it.

    refuse       nobody listens, and open connections are reset
    silent       the request is taken and never answered, until the fault is over; then the connection is reset
    error        `status` and ClickHouse's exception `code` with `text`; the server never sees the request
    cut_request  the server gets half of the body, then a reset; so does the client
    cut_progress as cut_request, but the client sees `200 OK` and headers of progress first, as ClickHouse sends them
    cut_reply    the server answers; the client gets half of the answer (of its head, where there is no body)
    lose_reply   the server answers, so an insert is applied; the client gets a reset instead
    slow         the answer comes with `bytes_per_s`
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._fault: Fault | None = None
        self._once: list[tuple[str, Fault]] = []
        self._until_silence: tuple[int, str] | None = None
        self._changed: Callable[[], None] = lambda: None
        self.met: Counter[str] = Counter()
        super().__init__((parts.hostname or "127.0.0.1", parts.port or 80))
        self.url = f"http://127.0.0.1:{self.port}"
        self._over = self._loop.run(_made(asyncio.Event))

    @property
    def fault(self) -> Fault | None:
        """What every request meets."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        before, self._fault = self._fault, fault
        if before is SILENT:
            self._loop.loop.call_soon_threadsafe(self._end_silence)
        if fault is REFUSE:
            self.refuse()
        elif before is REFUSE:
            self.start()

    def _end_silence(self) -> None:
        self._over.set()
        self._over = asyncio.Event()

    def once(self, fault: Fault, statement: str = "") -> None:
        """The next request whose statement begins with `statement` meets `fault`; may be called several times."""
        self._once.append((statement, fault))

    def silent_from(self, number: int, statement: str) -> None:
        """From the `number`-th request on whose statement contains `statement`, every request meets `SILENT`."""
        self._until_silence = (number, statement)

    def heal(self) -> None:
        """No more faults, those announced by `once` and `silent_from` included."""
        self._once.clear()
        self._until_silence = None
        self.fault = None

    def _fault_of(self, request: Request) -> Fault | None:
        for entry in self._once:
            if request.statement.startswith(entry[0]):
                self._once.remove(entry)
                return entry[1]
        if self._until_silence is not None and self._until_silence[1] in request.statement:
            number, statement = self._until_silence
            self._until_silence = (number - 1, statement) if number > 1 else None
            if number == 1:
                self._fault = SILENT
        return self._fault

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _read_request(reader)) is not None:
            fault = self._fault_of(request)
            if fault is not None:
                self.met[fault.kind if fault.kind != "error" else f"error {fault.status}"] += 1
            if not await self._answer(fault, request, writer):
                writer.transport.abort()
                return

    async def _answer(self, fault: Fault | None, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        kind = fault.kind if fault else ""
        if kind == "refuse":
            return False
        if kind == "silent":
            await self._over.wait()
            return False
        if fault is not None and kind == "error":
            writer.write(_error(fault))
            await writer.drain()
            return True
        if kind in ("cut_request", "cut_progress"):
            await self._forward_half(request)
            if kind == "cut_progress":
                writer.write(PROGRESS)
                await _read_by_now(writer)
            return False
        reply = await self._forward(request)
        if kind == "lose_reply":
            return False
        if kind == "cut_reply":
            head, _, body = reply.partition(b"\r\n\r\n")
            writer.write(reply[: len(head) + 4 + len(body) // 2] if body else head[: len(head) // 2])
            await _read_by_now(writer)
            return False
        if fault is not None and kind == "slow":
            await _trickle(reply, fault.bytes_per_s, writer)
            return True
        writer.write(reply)
        await writer.drain()
        return True

    async def _forward(self, request: Request) -> bytes:
        """The whole answer, over a connection of its own."""
        reader, there = await asyncio.open_connection(*self.target)
        self._writers.add(there)
        try:
            there.write(_closing(request.head) + request.body)
            await there.drain()
            return _keep_alive(await _read_reply(reader))
        finally:
            self._writers.discard(there)
            there.close()

    async def _forward_half(self, request: Request) -> None:
        _, there = await asyncio.open_connection(*self.target)
        there.write(_closing(request.head) + request.body[: len(request.body) // 2])
        await _read_by_now(there)
        there.transport.abort()


async def _read_by_now(writer: asyncio.StreamWriter) -> None:
    """Sends what is written, and leaves time to read it: a reset would overtake it."""
    await writer.drain()
    await asyncio.sleep(0.05)


async def _made(make: Callable[[], Any]) -> Any:
    return make()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    body = await _read_body(reader, head)
    return Request(head, body, _statement(head, body))


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """As sent: with the lengths of its chunks, where it has them."""
    if _header(head, b"transfer-encoding").lower() != b"chunked":
        return await reader.readexactly(int(_header(head, b"content-length") or 0))
    pieces: list[bytes] = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        pieces += [line, await reader.readexactly(size + 2)]
        if not size:
            return b"".join(pieces)


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not _header(head, b"transfer-encoding") and not _header(head, b"content-length"):
        return head
    return head + await _read_body(reader, head)


def _statement(head: bytes, body: bytes) -> str:
    """The beginning of the query, from the URL or else the body; in capitals."""
    target = head.split(b" ", 2)[1].decode("ascii", "replace")
    query = parse_qs(urlsplit(target).query).get("query", [""])[0]
    if not query and b"\r\n" in body[:10] and _header(head, b"transfer-encoding"):
        body = body.split(b"\r\n", 1)[1]
    text = query or unquote_plus(body[:STATEMENT_CHARACTERS].decode("utf-8", "replace"))
    return text[:STATEMENT_CHARACTERS].lstrip().upper()


def _closing(head: bytes) -> bytes:
    """The same head; the server is to close the connection afterwards."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


def _keep_alive(reply: bytes) -> bytes:
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _error(fault: Fault) -> bytes:
    text = f"Code: {fault.code}. DB::Exception: {fault.text}" if fault.code else fault.text
    body = text.encode()
    lines = [f"HTTP/1.1 {fault.status} Fault", "Content-Type: text/plain", f"Content-Length: {len(body)}"]
    if fault.code:
        lines.append(f"X-ClickHouse-Exception-Code: {fault.code}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _trickle(reply: bytes, bytes_per_s: int, writer: asyncio.StreamWriter) -> None:
    step = max(1, bytes_per_s // 20)
    for begin in range(0, len(reply), step):
        writer.write(reply[begin : begin + step])
        await writer.drain()
        await asyncio.sleep(0.05)
