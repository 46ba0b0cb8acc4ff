"""ASGI middleware: meters the calls that a Python gateway (FastAPI, Starlette, any ASGI app) answers.

    app.add_middleware(MeteringMiddleware, emitter=emitter, identify=identify)

A raw wrapper: messages pass unchanged and at once, an answer is read after its bytes were forwarded, exceptions of the
app go through. See docs/hooks/asgi.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from gatemeter.producers.hooks.answers import MAX_BODY_BYTES
from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Asked, Endpoint, Place, Places, asked
from gatemeter.producers.hooks.identity import Identity
from gatemeter.producers.hooks.metered_call import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    Emits,
    MeteredCall,
    Metering,
    status_of,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""How much of a request is kept until its body is complete. Of a longer one the model is not known."""
_REQUEST_NAMES: Final = {name.encode(): name for name in REQUEST_HEADERS}
_RESPONSE_NAMES: Final = {name.encode(): name for name in RESPONSE_HEADERS}


class MeteringMiddleware:
    """Wraps `app`. `identify(scope)` says who calls, from what the gateway has verified; it runs once, when the body of
    the request is read and before the provider is called. `endpoints`: what is metered; the first match counts.

    The app finds `request_id` and `request_started_at` of its call in `scope["gatemeter.call"]`, for POLICY events.
    """

    def __init__(
        self,
        app: App,
        *,
        emitter: Emits,
        identify: Callable[[Scope], Identity | None],
        endpoints: Sequence[Endpoint] = DEFAULT_ENDPOINTS,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Raises `ValueError` where the bound is out of range."""
        self.metering = Metering(emitter, max_body_bytes)
        self.identify = identify
        self._app = app
        self._places = Places(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        exchange = self._exchange(scope, receive, send)
        if exchange is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.ended(error)
            raise
        exchange.ended(None)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> _Exchange | None:
        if scope["type"] != "http" or scope.get("method") != "POST":
            return None
        try:
            where = self._places.of(scope["path"])
            return None if where is None else _Exchange(self, where, scope, receive, send)
        except Exception as error:  # noqa: BLE001  metering must never break the call that it meters
            self.metering.harmed(error)
            return None


class _Exchange:
    """One HTTP request and its answer, as they pass."""

    def __init__(
        self,
        middleware: MeteringMiddleware,
        where: Place,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._middleware = middleware
        self._scope = scope
        self._receive = receive
        self._send = send
        self._where = where
        self._call = MeteredCall(middleware.metering, where.endpoint)
        scope["gatemeter.call"] = {
            "request_id": self._call.request_id,
            "request_started_at": self._call.started_at_us,
        }
        self._request: bytearray | None = bytearray()
        self._is_disconnected = False
        self._is_complete = False

    async def receive(self) -> Message:
        """What the server gives to the app."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._take(message)
        elif message["type"] == "http.disconnect":
            self._is_disconnected = True
        return message

    def _take(self, message: Message) -> None:
        if self._request is not None:
            self._request += message.get("body", b"")
            if len(self._request) > MAX_REQUEST_BYTES:
                self._request = None
        if not message.get("more_body", False):
            self._begin()

    def _begin(self) -> None:
        """Publishes the REQUEST, if it was not: when the body is complete, or when an app does not wait for that."""
        if self._call.has_begun:
            return
        metering, body, self._request = self._middleware.metering, self._request, None
        try:
            what = asked(self._scope["path"], self._where.model, bytes(body or b""))
            headers = _decoded(self._scope.get("headers", ()), _REQUEST_NAMES)
        except Exception as error:  # noqa: BLE001  metering must never break the call that it meters
            metering.harmed(error)
            what, headers = Asked(self._where.model), {}
        who = metering.identity_of(self._middleware.identify, self._scope)
        self._call.begin(who, what, headers, self._where.route, _peer(self._scope))

    async def send(self, message: Message) -> None:
        """What the app gives to the server: forwarded first, read afterwards."""
        kind, chunk = message["type"], b""
        if kind == "http.response.body":
            chunk = message.get("body", b"")
            if chunk:
                self._call.touch()
        elif kind == "http.response.start":
            self._begin()
            self._call.answer(message["status"], _decoded(message.get("headers", ()), _RESPONSE_NAMES))
        try:
            await self._send(message)
        except OSError:  # how a server says that the client has gone
            self._is_disconnected = True
            raise
        if kind == "http.response.body":
            self._call.body(chunk)
            if not message.get("more_body", False):
                self._is_complete = True
                self._call.end("cancelled" if self._is_disconnected else "ok", is_complete=True)

    def ended(self, error: BaseException | None) -> None:
        """The app returned or raised; does nothing where the answer was complete."""
        self._begin()
        if self._is_disconnected:
            self._call.end("cancelled", is_complete=False)
        else:
            self._call.end("error" if error is None else status_of(error), is_complete=False)


def _peer(scope: Scope) -> str | None:
    """The address of the caller, as the server tells it: behind a proxy that it trusts, what the proxy says."""
    client = scope.get("client")
    return client[0] if isinstance(client, list | tuple) and client and isinstance(client[0], str) else None


def _decoded(headers: Any, names: dict[bytes, str]) -> dict[str, str]:
    return {
        names[lowered]: bytes(value).decode("latin-1")
        for name, value in headers
        if (lowered := bytes(name).lower()) in names
    }
