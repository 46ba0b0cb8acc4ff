"""The stub provider of the hooks' bench: in memory, so that what is measured is the hook and not the network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import httpx2

Message = MutableMapping[str, Any]
PATH: Final = "/v1/chat/completions"
CHUNKS: Final = 500
_USAGE: Final = {"prompt_tokens": 1374, "completion_tokens": 244, "total_tokens": 1618}
_BASE: Final = {"id": "chatcmpl-9uXk2", "created": 1_795_000_000, "model": "gpt-4o-2024-08-06"}
_TEXT: Final = "the quick brown fox jumps over the lazy dog; " * 20


def _part(**fields: Any) -> bytes:
    return b"data: " + json.dumps({**_BASE, "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


WHOLE: Final = json.dumps(
    {
        **_BASE,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
PARTS: Final = [
    *[_part(choices=[{"index": 0, "delta": {"content": " fox"}, "finish_reason": None}], usage=None)] * (CHUNKS - 3),
    _part(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=None),
    _part(choices=[], usage=_USAGE),
    b"data: [DONE]\n\n",
]
ASKED: Final = {
    stream: json.dumps({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": _TEXT}]}).encode()
    for stream in (False, True)
}
HEADERS: Final = [(b"authorization", b"Bearer sk-of-the-caller"), (b"content-type", b"application/json")]
_KINDS: Final = {False: b"application/json", True: b"text/event-stream"}


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """A gateway that answers by itself: streamed where the query says so."""
    while (await receive()).get("more_body"):
        pass
    stream = scope["query_string"] == b"stream"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", _KINDS[stream])]})
    for part in PARTS if stream else (WHOLE,):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class _Parts(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Any:
        return iter(self._parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


class Transport(httpx2.BaseTransport):
    """The same as the inner transport of a client."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        stream = request.url.query == b"stream"
        headers = {"content-type": _KINDS[stream].decode()}
        return httpx2.Response(200, headers=headers, stream=_Parts(PARTS if stream else [WHOLE]))
