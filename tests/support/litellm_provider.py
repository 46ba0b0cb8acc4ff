"""A provider behind a LiteLLM proxy: its own log says, try by try, what each call was answered and used.

The caller's tag is read from the prompt (`tag-12`), and its number decides the tokens, so that no two calls look alike.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from support.hooks import event_of
from support.stub_provider import StubProvider

NOT_REPORTED = "not reported"
"""Missing or estimated: of a try that did not come to its end, chance decides what LiteLLM has seen."""
_TAG = re.compile(r"tag-(\w+)")


@dataclass(frozen=True)
class Served:
    """One try: what a meter must say of it. Tokens are None where the provider said none."""

    tag: str
    model: str
    status: str
    usage_source: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class LiteLLMProvider(StubProvider):
    """Models: `ok`; `absent` says no usage, `zero` no output; `flaky` fails twice; `fails`, `stalls`,
    `cut`, `hangs`, and `slow`, which answers after a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Served] = []
        self._tries: Counter[str] = Counter()

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/responses", self._responses)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _chat_answer, _chat_parts)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _message_answer, _message_parts)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _response_answer, _response_parts)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _embedding_answer, _chat_parts)

    async def _serve(self, request: web.Request, whole: Any, parts: Any) -> web.StreamResponse:
        text = (await request.read()).decode()
        asked, found = json.loads(text), _TAG.search(text)
        tag, model = found[1] if found else "", asked["model"]
        self._tries[tag] += 1
        failure = await self._failure(tag, model)
        if failure is not None:
            return failure
        used = _tokens(tag, model)
        if not asked.get("stream"):
            self._say(tag, model, "ok", "missing" if used is None else "reported", used, whole is _embedding_answer)
            return web.Response(body=_of(tag, json.dumps(whole(used)).encode()), content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        sent = parts(used)
        for part in sent[:3] if model in ("cut", "hangs") else sent:
            await response.write(_of(tag, part))
        if model in ("cut", "hangs"):
            self._say(tag, model, "error" if model == "cut" else "cancelled", NOT_REPORTED, None)
            await (asyncio.sleep(0.2) if model == "cut" else asyncio.sleep(60))
            assert request.transport is not None
            request.transport.close()
        else:
            self._say(tag, model, "ok", "estimated" if used is None else "reported", used)
        return response

    async def _failure(self, tag: str, model: str) -> web.Response | None:
        if model == "slow":
            await asyncio.sleep(1)
        if model == "stalls":
            self._say(tag, model, "timeout", NOT_REPORTED, None)
            await asyncio.sleep(60)
            return web.json_response({"error": {"message": "too late"}}, status=504)
        if model == "fails" or (model == "flaky" and self._tries[tag] <= 2):
            self._say(tag, model, "error", NOT_REPORTED, None)
            return web.json_response({"error": {"message": "overloaded"}}, status=500)
        return None

    def _say(
        self, tag: str, model: str, status: str, source: str, used: tuple[int, int] | None, has_input_only: bool = False
    ) -> None:
        given, made = used or (None, None)
        self.served.append(Served(tag, model, status, source, given, None if has_input_only else made))


def _of(tag: str, answer: bytes) -> bytes:
    """The answer with an id of its own."""
    for known in (b'"chatcmpl-1"', b'"msg_1"', b'"resp_1"'):
        answer = answer.replace(known, known[:-2] + tag.encode() + b'"')
    return answer


def _tokens(tag: str, model: str) -> tuple[int, int] | None:
    if model == "absent":
        return None
    number = sum(tag.encode())
    return 10 + number % 977, 0 if model == "zero" else 1 + number % 89


def _chat_answer(used: tuple[int, int] | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": "planted answer"}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    return answer if used is None else {**answer, "usage": _chat_usage(used)}


def _chat_usage(used: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}


def _chat_parts(used: tuple[int, int] | None) -> list[bytes]:
    base = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_795_000_000,
        "model": "gpt-4o-2024-08-06",
    }
    choices: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "planted "}, None),
        ({"content": "answer"}, None),
        ({}, "stop"),
    ]
    parts = [
        event_of({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in choices
    ]
    if used is not None:
        parts.append(event_of({**base, "choices": [], "usage": _chat_usage(used)}))
    return [*parts, event_of(b"[DONE]")]


def _message_usage(used: tuple[int, int]) -> dict[str, int]:
    return {"input_tokens": used[0], "output_tokens": used[1]}


def _message_answer(used: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": [{"type": "text", "text": "planted answer"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _message_usage(used or (0, 0)),
    }


def _message_parts(used: tuple[int, int] | None) -> list[bytes]:
    given, made = used or (0, 0)
    start = {**_message_answer(None), "content": [], "stop_reason": None, "usage": _message_usage((given, 1))}
    text = {"type": "text", "text": ""}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": text},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "planted answer"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": made}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\n".encode() + event_of(event) for event in events]


def _embedding_answer(used: tuple[int, int] | None) -> dict[str, Any]:
    given = (used or (0, 0))[0]
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    usage = {"prompt_tokens": given, "total_tokens": given}
    return {"object": "list", "data": [vector], "model": "text-embedding-served", "usage": usage}


def _response_answer(used: tuple[int, int] | None) -> dict[str, Any]:
    text = {"type": "output_text", "text": "planted answer", "annotations": []}
    message = {"type": "message", "id": "m1", "status": "completed", "role": "assistant", "content": [text]}
    given, made = used or (0, 0)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_000_000,
        "status": "completed",
        "model": "gpt-4o-2024-08-06",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": given, "output_tokens": made, "total_tokens": given + made},
    }


def _response_parts(used: tuple[int, int] | None) -> list[bytes]:
    whole = _response_answer(used)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_text.delta", "sequence_number": 1, **where, "delta": "planted ", "logprobs": []},
        {"type": "response.output_text.delta", "sequence_number": 2, **where, "delta": "answer", "logprobs": []},
        {"type": "response.completed", "sequence_number": 3, "response": whole},
    ]
    return [f"event: {event['type']}\n".encode() + event_of(event) for event in events]
