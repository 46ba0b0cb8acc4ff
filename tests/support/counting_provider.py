"""A provider on loopback whose answers all differ in their tokens, and who keeps a log of every try.

The model asked for is `<case>-<number>`: `ok`; `slow`, which takes a second; `flaky` fails once, then answers; `down`
always fails; `limited` answers 429; `pieces` writes its answer in pieces of seven bytes; `absent` and `zero` say no
usage, and none used; `cut` and `hangs` stream one part, then cut the connection or say nothing more; `stalls` says
nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from support.loopback import LoopbackServer

PLANTED_ANSWER = 'planted answer with "usage": {"prompt_tokens": 1} in it'


@dataclass(frozen=True)
class Tried:
    """One try: what was asked for, how it was answered, and the tokens that the answer states (None: none)."""

    model: str
    attempt: int
    outcome: str
    input_tokens: int | None = None
    output_tokens: int | None = None


def _event(payload: dict[str, Any], *, named: bool = False) -> bytes:
    head = f"event: {payload['type']}\n".encode() if named else b""
    return head + b"data: " + json.dumps(payload).encode() + b"\n\n"


def chat(served: str, used: dict[str, int] | None) -> tuple[Any, list[bytes]]:
    """A chat completion, whole and streamed; the stream has usage where it was asked for."""
    base = {"id": f"chatcmpl-{served}", "model": served}
    message = {"role": "assistant", "content": PLANTED_ANSWER}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    whole: dict[str, Any] = {**base, "choices": choices}
    deltas: list[tuple[str | None, str | None]] = [(PLANTED_ANSWER, None), (PLANTED_ANSWER, None), (None, "stop")]
    parts = [
        _event({**base, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], "usage": None})
        for text, reason in deltas
    ]
    if used is not None:
        whole["usage"] = {
            "prompt_tokens": used["input"],
            "completion_tokens": used["output"],
            "total_tokens": used["input"] + used["output"],
        }
        parts.append(_event({**base, "choices": [], "usage": whole["usage"]}))
    return whole, [*parts, b"data: [DONE]\n\n"]


def responses(served: str, used: dict[str, int] | None) -> tuple[Any, list[bytes]]:
    """An answer of the Responses API."""
    output = [{"type": "message", "status": "completed", "content": [{"type": "output_text", "text": PLANTED_ANSWER}]}]
    whole: dict[str, Any] = {"id": f"resp-{served}", "object": "response", "model": served, "error": None}
    begun = {"response": {**whole, "status": "in_progress", "output": []}}
    if used is not None:
        total = used["input"] + used["output"]
        whole["usage"] = {"input_tokens": used["input"], "output_tokens": used["output"], "total_tokens": total}
    whole |= {"status": "completed", "output": output}
    deltas = {"type": "response.output_text.delta", "delta": PLANTED_ANSWER}
    done = {"type": "response.completed", "response": whole}
    return whole, [_event(part, named=True) for part in ({"type": "response.created", **begun}, deltas, deltas, done)]


def messages(served: str, used: dict[str, int] | None) -> tuple[Any, list[bytes]]:
    """An Anthropic message."""
    base: dict[str, Any] = {"id": f"msg-{served}", "type": "message", "role": "assistant", "model": served}
    tool = {
        "type": "tool_use",
        "id": "t",
        "name": "planted",
        "input": {"usage": {"input_tokens": 1, "output_tokens": 1}},
    }
    whole = {**base, "content": [{"type": "text", "text": PLANTED_ANSWER}, tool], "stop_reason": "end_turn"}
    start: dict[str, Any] = {**base, "content": [], "stop_reason": None}
    delta: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    if used is not None:
        whole["usage"] = {"input_tokens": used["input"], "output_tokens": used["output"]}
        start["usage"] = {"input_tokens": used["input"], "output_tokens": 1}
        delta["usage"] = {"output_tokens": used["output"]}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": PLANTED_ANSWER}}
    parts = ({"type": "message_start", "message": start}, text, text, delta, {"type": "message_stop"})
    return whole, [_event(part, named=True) for part in parts]


def embeddings(served: str, used: dict[str, int] | None) -> tuple[Any, list[bytes]]:
    """Embeddings are not streamed."""
    whole: dict[str, Any] = {"model": served, "data": [{"index": 0, "embedding": [0.25, -1.5] * 500}]}
    if used is not None:
        whole["usage"] = {"prompt_tokens": used["input"], "total_tokens": used["input"]}
    return whole, []


def gemini(served: str, used: dict[str, int] | None) -> tuple[Any, list[bytes]]:
    """An answer of Gemini; its streams repeat a usage that grows."""
    base: dict[str, Any] = {"responseId": f"gemini-{served}", "modelVersion": served}
    content = {"role": "model", "parts": [{"text": PLANTED_ANSWER}]}
    begun, ended = {"content": content, "index": 0}, {"content": content, "index": 0, "finishReason": "STOP"}

    def counted(output: int) -> dict[str, Any]:
        if used is None:
            return {}
        given = used["input"]
        counts = {"promptTokenCount": given, "candidatesTokenCount": output, "totalTokenCount": given + output}
        return {"usageMetadata": counts}

    output = 0 if used is None else used["output"]
    whole = {**base, "candidates": [ended], **counted(output)}
    return whole, [_event({**base, "candidates": [begun], **counted(output // 2)}), _event(whole)]


Shape = Callable[[str, dict[str, int] | None], tuple[Any, list[bytes]]]
PATHS: dict[str, Shape] = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/messages": messages,
    "/v1/embeddings": embeddings,
}


class CountingProvider(LoopbackServer):
    """`log` has a line a try; `headers` are those of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Tried] = []
        self.headers: dict[str, str] = {}
        self.bodies: dict[str, Any] = {}
        """By model, the last body that came."""
        self._tries: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    def _routed(self, app: web.Application) -> None:
        for path in PATHS:
            app.router.add_post(path, self._asked)
        app.router.add_post("/{version}/models/{call}", self._gemini)

    async def _asked(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, json.loads(await request.read()), PATHS[request.path])

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        model, _, method = request.match_info["call"].partition(":")
        asked = {**json.loads(await request.read()), "model": model, "stream": method == "streamGenerateContent"}
        return await self._answer(request, asked, gemini)

    async def _answer(self, request: web.Request, asked: dict[str, Any], shape: Shape) -> web.StreamResponse:
        model: str = asked["model"]
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.bodies[model] = asked
        self._tries[model] += 1
        attempt, case = self._tries[model], model.partition("-")[0]
        if case == "down" or (case == "flaky" and attempt == 1):
            self.log.append(Tried(model, attempt, "error"))
            return web.json_response({"error": {"message": "overloaded"}}, status=500)
        if case == "limited":
            self.log.append(Tried(model, attempt, "error"))
            return web.json_response({"error": {"message": "slow down"}}, status=429)
        if case == "slow":
            await asyncio.sleep(1)
        if case == "stalls":
            self.log.append(Tried(model, attempt, "timeout"))
            await asyncio.sleep(60)
        number = next(self._numbers)
        used = {"input": 100 + number, "output": 0 if case == "zero" else 1000 + number}
        whole, parts = shape(f"served-{model}", None if case == "absent" else used)
        if case in ("cut", "hangs"):
            self.log.append(Tried(model, attempt, case))
            return await self._stream(request, parts[:1], case)
        output = None if request.path == "/v1/embeddings" else used["output"]
        said = (None, None) if case == "absent" else (used["input"], output)
        self.log.append(Tried(model, attempt, "ok", *said))
        if not asked.get("stream"):
            return await self._in_pieces(request, whole) if case == "pieces" else web.json_response(whole)
        if request.path == "/v1/chat/completions" and not (asked.get("stream_options") or {}).get("include_usage"):
            parts = [part for part in parts if b'"choices": []' not in part]
        if case == "pieces":
            text = b"".join(parts)
            parts = [text[at : at + 7] for at in range(0, len(text), 7)]
        return await self._stream(request, parts, case)

    async def _in_pieces(self, request: web.Request, whole: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        text = json.dumps(whole).encode()
        for at in range(0, len(text), 7):
            await response.write(text[at : at + 7])
            await asyncio.sleep(0)
        return response

    async def _stream(self, request: web.Request, parts: list[bytes], case: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if case == "hangs":
            await asyncio.sleep(60)
        if case == "cut":
            assert request.transport is not None
            await asyncio.sleep(0.05)
            request.transport.close()
        return response
