"""A transport for httpx clients: meters what a gateway or an agent sends to a provider, retries one by one.

    client = OpenAI(http_client=httpx2.Client(transport=MeteredTransport(emitter=emitter, identify=identify)))

For clients on httpx2, which openai, anthropic and google-genai are. It wraps any inner transport; the answer's bytes,
and its exceptions, pass unchanged. See docs/hooks/httpx.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Final, NamedTuple

from gatemeter.producers.hooks.answers import MAX_BODY_BYTES
from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Endpoint, Places, asked
from gatemeter.producers.hooks.identity import Identity
from gatemeter.producers.hooks.metered_call import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    Emits,
    MeteredCall,
    Metering,
    status_of,
)
from gatemeter.schemas.extras import need
from gatemeter.schemas.limits import MAX_ATTEMPT

need("gatemeter.producers.hooks.httpx", "httpx", "httpx2")

import httpx2  # noqa: E402  what it needs is checked first

RETRY_HEADER: Final = "x-stainless-retry-count"
"""How the openai and anthropic clients number their retries: 0 for the first try."""


class _Tried(NamedTuple):
    """The last attempt of a context; `key` tells whether the next one tries the same again."""

    request_id: str
    started_at_us: int
    attempt: int
    key: tuple[str, int]


_TRIED: ContextVar[_Tried | None] = ContextVar("gatemeter_tried", default=None)


class _Calls:
    """What the two transports share: which requests are metered, and which attempt of which call one is."""

    def __init__(
        self,
        emitter: Emits,
        identify: Callable[[httpx2.Request], Identity | None],
        endpoints: Sequence[Endpoint],
        max_body_bytes: int,
    ) -> None:
        self.metering = Metering(emitter, max_body_bytes)
        self._identify = identify
        self._places = Places(endpoints)

    def begun(self, request: httpx2.Request) -> MeteredCall | None:
        """The metered call of a request, with its REQUEST published; None where it is not metered."""
        try:
            where = self._places.of(request.url.path) if request.method == "POST" else None
            if where is None:
                return None
            body = _body(request)
            call = self._attempt(where.endpoint, request, body)
            headers = {name: value for name in REQUEST_HEADERS if (value := request.headers.get(name)) is not None}
            what = asked(request.url.path, where.model, body)
            call.begin(self.metering.identity_of(self._identify, request), what, headers, where.route)
            return call
        except Exception as error:  # noqa: BLE001  metering must never break the call that it meters
            self.metering.harmed(error)
            return None

    def _attempt(self, endpoint: Endpoint, request: httpx2.Request, body: bytes) -> MeteredCall:
        """A retry goes on with its call where the client numbers it and the same context tried the same before."""
        key, tried = (str(request.url), hash(body)), _TRIED.get()
        retries = request.headers.get(RETRY_HEADER, "")
        is_retry = tried is not None and retries == str(tried.attempt) and tried.key == key
        if tried is not None and is_retry and tried.attempt < MAX_ATTEMPT:
            call = MeteredCall(
                self.metering,
                endpoint,
                request_id=tried.request_id,
                started_at_us=tried.started_at_us,
                attempt=tried.attempt + 1,
            )
        else:
            call = MeteredCall(self.metering, endpoint)
        _TRIED.set(_Tried(call.request_id, call.started_at_us, call.attempt, key))
        return call


class _Watch:
    """An answer on its way to the client. A chunk is read after the client has dealt with it."""

    def __init__(self, call: MeteredCall) -> None:
        self._call = call
        self._given = b""

    def gives(self, chunk: bytes) -> None:
        """A chunk is about to be given to the client."""
        self._call.touch()
        self._given = chunk

    def gave(self) -> None:
        """The client has dealt with it, or will ask for no other."""
        chunk, self._given = self._given, b""
        self._call.body(chunk)

    def failed(self, error: BaseException) -> None:
        """The answer broke. A generator that is only left ends with the `close` of its stream."""
        if not isinstance(error, GeneratorExit):
            self.gave()
            self._call.end(status_of(error), is_complete=False)

    def finished(self) -> None:
        """The answer came to its end."""
        self._call.end("ok", is_complete=True)

    def closed(self) -> None:
        """The client wants no more; does nothing where the answer came to its end."""
        self.gave()
        self._call.end("cancelled", is_complete=False)


class _Stream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, call: MeteredCall) -> None:
        self._inner = inner
        self._watch = _Watch(call)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._watch.gives(chunk)
                yield chunk
                self._watch.gave()
        except BaseException as error:
            self._watch.failed(error)
            raise
        self._watch.finished()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._watch.closed()


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, call: MeteredCall) -> None:
        self._inner = inner
        self._watch = _Watch(call)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._watch.gives(chunk)
                yield chunk
                self._watch.gave()
        except BaseException as error:
            self._watch.failed(error)
            raise
        self._watch.finished()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._watch.closed()


class MeteredTransport(httpx2.BaseTransport):
    """Wraps `inner` (by default `httpx2.HTTPTransport()`). `identify(request)` says on whose behalf a request goes out;
    `endpoints`: what is metered, and whose it is; the first match counts.
    """

    def __init__(
        self,
        inner: httpx2.BaseTransport | None = None,
        *,
        emitter: Emits,
        identify: Callable[[httpx2.Request], Identity | None],
        endpoints: Sequence[Endpoint] = DEFAULT_ENDPOINTS,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Raises `ValueError` where the bound is out of range."""
        self._calls = _Calls(emitter, identify, endpoints, max_body_bytes)
        self.metering = self._calls.metering
        self._inner = httpx2.HTTPTransport() if inner is None else inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the inner transport."""
        call = self._calls.begun(request)
        if call is None:
            return self._inner.handle_request(request)
        try:
            response = self._inner.handle_request(request)
        except BaseException as error:
            call.end(status_of(error), is_complete=False)
            raise
        if not _is_whole(call, response) and isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Stream(response.stream, call)
        return response

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()


class AsyncMeteredTransport(httpx2.AsyncBaseTransport):
    """As `MeteredTransport`, for async clients; `inner` is `httpx2.AsyncHTTPTransport()` by default."""

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport | None = None,
        *,
        emitter: Emits,
        identify: Callable[[httpx2.Request], Identity | None],
        endpoints: Sequence[Endpoint] = DEFAULT_ENDPOINTS,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Raises `ValueError` where the bound is out of range."""
        self._calls = _Calls(emitter, identify, endpoints, max_body_bytes)
        self.metering = self._calls.metering
        self._inner = httpx2.AsyncHTTPTransport() if inner is None else inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the inner transport."""
        call = self._calls.begun(request)
        if call is None:
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            call.end(status_of(error), is_complete=False)
            raise
        if not _is_whole(call, response) and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _AsyncStream(response.stream, call)
        return response

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()


def _is_whole(call: MeteredCall, response: httpx2.Response) -> bool:
    """Tells the head; and the body, and the end, where the inner transport has read the answer already."""
    named = {name: value for name in RESPONSE_HEADERS if (value := response.headers.get(name)) is not None}
    is_read = response.is_closed or response.is_stream_consumed
    if is_read:
        named.pop("content-encoding", None)  # what was read is decoded
    call.answer(response.status_code, named, has_provider_id=True)
    if is_read:
        call.touch()
        call.body(response.content)
        call.end("ok", is_complete=True)
    return is_read


def _body(request: httpx2.Request) -> bytes:
    """The body where it is in memory; a stream is not read for it."""
    try:
        return request.content
    except httpx2.RequestNotRead:
        return b""
