"""A provider on loopback that answers, fails, stalls and cuts, as the model asked for says; keeps a log of attempts."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from support.hooks import CHAT, STREAM, event_of
from support.loopback import LoopbackServer

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-served",
    "content": [{"type": "text", "text": "planted answer"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 4},
}
_START = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
_DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
MESSAGE_STREAM = [
    f"event: {part['type']}\n".encode() + event_of(part) for part in (_START, _DELTA, {"type": "message_stop"})
]


class StubProvider(LoopbackServer):
    """Models: `ok`; `flaky` fails twice, then answers; `stalls` says nothing; `cut` and `hangs` stream one part, then
    cut the connection or say nothing more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, str]] = []
        self._failures = 0

    def _routed(self, app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/messages", self._messages)
        self._add_routes(app)

    def _add_routes(self, app: web.Application) -> None:
        """More paths, for providers that answer more."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, CHAT, STREAM)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, MESSAGE, MESSAGE_STREAM)

    async def _answer(self, request: web.Request, whole: object, parts: list[bytes]) -> web.StreamResponse:
        asked = json.loads(await request.read())
        self.log.append((request.path, asked["model"]))
        if asked["model"] == "flaky" and self._failures < 2:
            self._failures += 1
            return web.json_response({"error": {"message": "overloaded"}}, status=500)
        self._failures = 0
        if asked["model"] == "stalls":
            await asyncio.sleep(60)
        if not asked.get("stream"):
            return web.json_response(whole)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        unfinished = asked["model"] in ("cut", "hangs")
        for part in parts[:1] if unfinished else parts:
            await response.write(part)
        if asked["model"] == "hangs":
            await asyncio.sleep(60)
        if asked["model"] == "cut":
            assert request.transport is not None
            request.transport.close()
        return response
