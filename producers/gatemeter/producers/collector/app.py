"""The HTTP interface: who may post what, how much at once, and the answer, which comes when the spool has it.

| answer | when |
|---|---|
| 200 | every item is durable; or refused ones are named beside them, to products that would send those for ever |
| 207 | of plain events some were refused: `refused` names them, the others are durable |
| 400 | no JSON, or not compressed as the header says |
| 401, 403 | no sender's token; a token for another source |
| 408 | the body came too slowly |
| 413 | more bytes or items than accepted |
| 415 | a compression or a form that is not accepted |
| 422 | of plain events all were refused |
| 429 | the spool is full, or too many requests wait: `Retry-After` says when to come back; nothing was taken |
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gatemeter.producers.collector import openapi
from gatemeter.producers.collector.bodies import BadBody, BodyTooLarge, UnknownEncoding, UnknownType, unpacked
from gatemeter.producers.collector.dialects import dialect_of
from gatemeter.producers.collector.intake import MARGIN_BYTES, Intake, SpoolFull, SpoolTooSmall, Taken
from gatemeter.producers.collector.metrics import CollectorMetrics
from gatemeter.producers.collector.senders import Sender, Senders
from gatemeter.producers.collector.settings import CollectorSettings
from gatemeter.producers.collector.sources import SOURCES, Source
from gatemeter.producers.collector.sources.port import Reader
from gatemeter.producers.complaints import Complaints
from gatemeter.producers.emitter import Emitter
from gatemeter.schemas.extras import need

need("gatemeter.producers.collector", "collector", "aiohttp", "prometheus_client")

from aiohttp import web  # noqa: E402  what it needs is checked first

_log: Final = logging.getLogger(__name__)
RETRY_AFTER_SECONDS: Final = "5"
_JSON: Final = "application/json"


class Refused(Exception):
    """A request that is not taken: its status, and what is accepted."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, dict(headers or {})


class Collector:
    """`emitters`: one a gateway, by its id. Run its application with `auto_decompress=False`: it unpacks itself."""

    def __init__(self, settings: CollectorSettings, emitters: Mapping[str, Emitter]) -> None:
        self._settings, self._emitters = settings, emitters
        self._senders = Senders(settings.senders)
        self._complaints = Complaints()
        self._intakes = {
            gateway_id: Intake(emitter, emitter.settings.max_spool_bytes) for gateway_id, emitter in emitters.items()
        }
        self._readers: dict[str, Reader] = {
            sender.name: SOURCES[sender.source].reader(sender.naming, self._left_out) for sender in settings.senders
        }
        self._waiting = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="collector-intake")
        self.metrics = CollectorMetrics(emitters)

    def _left_out(self, field: str, what: str) -> None:
        self.metrics.fields_left_out.inc()
        self._complaints.say(_log, "a field was left out: %s: %s", field, what)

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=self._settings.number("max_body_bytes"))
        for source in SOURCES.values():
            handler = self._taking(source)
            app.router.add_post(source.path, handler)
            if source.name == "opa":
                app.router.add_post(source.path + "/{partition}", handler)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        app.on_cleanup.append(self._cleanup)
        return app

    async def _cleanup(self, _: web.Application) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)

    def _taking(self, source: Source) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        dialect = dialect_of(source.name)

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                sender = self._sender(request, source)
                taken = await self._take(request, source, sender)
            except Refused as refused:
                self.metrics.requests.labels(source.name, str(refused.status)).inc()
                body, kind = dialect.refused(request.content_type, refused.error)
                return web.Response(body=body, status=refused.status, headers={**refused.headers, "Content-Type": kind})
            status = _status(source, taken)
            self.metrics.count(source.name, sender.name, status, taken)
            body, kind = dialect.taken(request.content_type, taken)
            return web.Response(body=body, status=status, headers={"Content-Type": kind})

        return handle

    def _sender(self, request: web.Request, source: Source) -> Sender:
        sender = self._senders.of(request.headers.get("Authorization"))
        if sender is None:
            error = "Authorization: must be Bearer and a sender's token"
            raise Refused(401, error, {"WWW-Authenticate": 'Bearer realm="gatemeter"'})
        if sender.source != source.name:
            path = SOURCES[sender.source].path
            raise Refused(403, f"path: must be {path} for this token, whose source is {sender.source}")
        return sender

    async def _take(self, request: web.Request, source: Source, sender: Sender) -> Taken:
        """The request's items, in the spool."""
        if self._waiting >= self._settings.number("max_waiting"):
            raise Refused(429, "too many requests wait for the spool", {"Retry-After": RETRY_AFTER_SECONDS})
        self._waiting += 1
        try:
            body = await self._body(request)
            encoding = request.headers.get("Content-Encoding", "").strip().lower()
            work = self._writer.submit(self._taken, body, encoding, request.content_type, sender)
            # Once begun it is finished, also where the sender leaves or the collector ends.
            return await asyncio.shield(asyncio.wrap_future(work))
        finally:
            self._waiting -= 1

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._settings.number("read_seconds")):
                return await request.read()
        except TimeoutError:
            raise Refused(408, f"body: must come within {self._settings.number('read_seconds')} s") from None
        except web.HTTPRequestEntityTooLarge:
            limit = self._settings.number("max_body_bytes")
            raise Refused(413, f"body: must be of at most {limit} bytes") from None

    def _taken(self, body: bytes, encoding: str, content_type: str, sender: Sender) -> Taken:
        """In the one thread that writes."""
        numbers = self._settings.numbers
        try:
            plain = unpacked(body, encoding, numbers["max_unpacked_bytes"])
            items = dialect_of(sender.source).items(plain, content_type, numbers["max_items"])
            return self._intakes[sender.gateway_id].take(self._readers[sender.name], items, sender.name)
        except BodyTooLarge as error:
            raise Refused(413, str(error)) from None
        except UnknownEncoding as error:
            raise Refused(415, str(error), {"Accept-Encoding": "gzip"}) from None
        except UnknownType as error:
            raise Refused(415, str(error)) from None
        except BadBody as error:
            raise Refused(400, str(error)) from None
        except SpoolTooSmall:
            raise Refused(413, f"body: must fit into the spool of {numbers['max_spool_bytes']} bytes") from None
        except SpoolFull:
            raise Refused(429, "the spool is full: nothing was taken", {"Retry-After": RETRY_AFTER_SECONDS}) from None

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(text=json.dumps(openapi.document()), content_type=_JSON)

    async def _healthz(self, _: web.Request) -> web.Response:
        """503 while a gateway's spool has next to no room: a balancer then tries another collector."""
        room = {gateway_id: emitter.free_bytes() for gateway_id, emitter in self._emitters.items()}
        is_ok = min(room.values()) > 2 * MARGIN_BYTES
        return web.json_response({"ok": is_ok, "free_bytes": room}, status=200 if is_ok else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.page(), headers={"Content-Type": self.metrics.content_type})


def _status(source: Source, taken: Taken) -> int:
    if source.retries_refusals or not taken.refused:
        return 200
    return 207 if taken.accepted or taken.ignored else 422
