"""A gateway as a process that writes a log entry of each call and posts it to a collector, as Kong, APISIX or a gateway
of one's own does: `python posting_gateway.py PORT FORM COLLECTOR TOKEN PROVIDER`.

The entries of Kong and APISIX have the documented form, with what these products do not know filled in as they fill it
in: zeros, and in Kong's case a count of its own. Neither product can be installed here. An entry is posted until it is
acknowledged. A body with `forbidden` in it is refused; a model `...-cached` is answered from a cache the second time; a
failed try is followed by another of the same model, a model `down-...` by `ok-after-...`; four tries in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

TIMEOUT_S = 1.0
TRIES = 4
CHAT = "/v1/chat/completions"


@dataclass
class Seen:
    """What the gateway knows of a call when it is over."""

    model: str
    stream: bool
    started_ms: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    tried: list[tuple[str, int]] = field(default_factory=list)
    """Model and status of each try at the provider."""
    status: int = 0
    ended: str = ""
    """`cut` or `left`, where the gateway itself knows."""
    cached: bool = False
    usage: dict[str, int] = field(default_factory=dict)
    characters: int = 0
    duration_ms: int = 0


def kong(seen: Seen) -> dict[str, Any]:
    """Kong fills in its own count of the prompt beforehand, and in a stream that of the answer."""
    usage = {"prompt_tokens": 7, "completion_tokens": 0} | ({} if seen.stream else seen.usage)
    if seen.stream:
        usage["completion_tokens"] = -(-seen.characters // 4)
    proxy: dict[str, Any] = {
        "tried_targets": [
            {"provider": "openai", "model": model, "route_type": "llm/v1/chat"} for model, _ in seen.tried
        ],
        "meta": {
            "provider_name": "openai",
            "request_model": seen.tried[-1][0] if seen.tried else seen.model,
            "request_mode": "stream" if seen.stream else "oneshot",
            "llm_latency": seen.duration_ms,
        },
        "usage": usage,
    }
    if seen.cached:
        proxy["cache"] = {"cache_status": "Hit"}
    entry = {
        "source": "upstream" if seen.tried else "kong",
        "started_at": seen.started_ms,
        "request": {"id": seen.id, "uri": CHAT, "method": "POST"},
        "response": {"status": seen.status},
        "latencies": {"request": seen.duration_ms},
        "tries": [{"ip": "127.0.0.1", "port": 443}] * bool(seen.tried),
        "ai": {"proxy": proxy},
    }
    if seen.tried:
        entry["upstream_status"] = seen.tried[-1][1]
    return entry


def apisix(seen: Seen) -> dict[str, Any]:
    """APISIX passes on what the provider says, and has 0 where it says nothing."""
    entry: dict[str, Any] = {
        "request": {"uri": CHAT, "method": "POST"},
        "response": {"status": seen.status},
        "route_id": "chat",
        "start_time": seen.started_ms,
        "latency": seen.duration_ms,
        "request_id": seen.id,
        "request_type": "ai_stream" if seen.stream else "ai_chat",
    }
    if seen.tried:
        said = {name: str(seen.usage.get(name, 0)) for name in ("prompt_tokens", "completion_tokens")}
        entry |= {"upstream": "127.0.0.1:443", "upstream_status": ", ".join(str(code) for _, code in seen.tried)}
        entry["llm_summary"] = {"model": seen.tried[-1][0], "duration": seen.duration_ms, **said}
    else:
        entry["request_llm_model"] = seen.model
    return entry


def events(seen: Seen) -> list[dict[str, Any]]:
    """A gateway of one's own, which knows how its calls ended."""
    started, ended = seen.started_ms * 1000, (seen.started_ms + seen.duration_ms) * 1000
    call = {"request_id": seen.id, "request_started_at": started, "provider": "openai", "operation": "chat"}
    said: list[dict[str, Any]] = []
    for attempt, (model, code) in enumerate(seen.tried or [(seen.model, seen.status)], 1):
        is_last = attempt >= len(seen.tried)
        what = {**call, "model": model, "attempt": attempt}
        said.append({"kind": "REQUEST", **what, "occurred_at": started})
        if not seen.tried and not seen.cached:
            decision = {"decision_id": seen.id, "policy_id": "words", "outcome": "deny"}
            said.append({"kind": "POLICY", **what, "attempt": 0, "occurred_at": ended, **decision})
            break
        status = (
            "timeout"
            if code == 504
            else "error"
            if code >= 400
            else {"cut": "error", "left": "cancelled"}.get(seen.ended, "ok")
        )
        used: dict[str, Any] = {"usage_source": "missing"}
        if is_last and status == "ok" and seen.usage:
            used = {"usage_source": "reported", "input_text_uncached": seen.usage["prompt_tokens"]}
            used["output_text_visible"] = seen.usage["completion_tokens"]
        cache = {"gateway_cache": "exact"} if seen.cached else {}
        said.append(
            {"kind": "RESPONSE", **what, "occurred_at": ended, "status": status, "http_status": code, **used, **cache}
        )
    return said


FORMS: dict[str, tuple[str, Any]] = {
    "kong": ("/kong", kong),
    "apisix": ("/apisix", apisix),
    "events": ("/v1/events", events),
}


class Gateway:
    def __init__(self, form: str, collector: str, token: str, provider: str) -> None:
        self._path, self._entry = FORMS[form]
        self._collector, self._provider = collector, provider
        self._headers = {"authorization": f"Bearer {token}"}
        self._cache: dict[str, tuple[bytes, dict[str, int]]] = {}
        self._posts: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body)
        seen = Seen(asked["model"], bool(asked.get("stream")), time.time_ns() // 1_000_000)
        began = time.monotonic()
        try:
            return await self._answer(request, seen, asked, body)
        except (ConnectionResetError, asyncio.CancelledError):
            seen.ended = seen.ended or "left"
            raise
        finally:
            seen.duration_ms = int((time.monotonic() - began) * 1000)
            task = asyncio.ensure_future(self._post(json.dumps(self._entry(seen))))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    async def _answer(self, request: web.Request, seen: Seen, asked: Any, body: bytes) -> web.StreamResponse:
        if b"forbidden" in body:
            seen.status = 403
            return web.json_response({"error": "forbidden"}, status=403)
        if seen.model in self._cache:
            seen.status, seen.cached = 200, True
            answer, seen.usage = self._cache[seen.model]
            return web.Response(body=answer, content_type="application/json")
        async with aiohttp.ClientSession() as session:
            for number in range(TRIES):
                model = seen.model if number < 2 or not seen.model.startswith("down") else f"ok-after-{seen.model}"
                timeout = aiohttp.ClientTimeout(total=None, sock_read=30, sock_connect=5)
                call = session.post(self._provider + CHAT, json={**asked, "model": model}, timeout=timeout)
                try:
                    response = await asyncio.wait_for(call, TIMEOUT_S if "stalls" in model else 30)
                except TimeoutError:
                    seen.tried.append((model, 504))
                    seen.status = 504
                    return web.json_response({"error": "time is up"}, status=504)
                seen.tried.append((model, response.status))
                seen.status = response.status
                if response.status < 400 or "only" in model:
                    break
            return await self._pass_on(request, seen, response)

    async def _pass_on(self, request: web.Request, seen: Seen, response: aiohttp.ClientResponse) -> web.StreamResponse:
        if not seen.stream:
            answer = await response.read()
            if response.status < 400:
                seen.usage = json.loads(answer).get("usage") or {}
            if seen.model.endswith("-cached"):
                self._cache[seen.model] = answer, seen.usage
            return web.Response(body=answer, status=response.status, content_type="application/json")
        passed = web.StreamResponse(status=response.status, headers={"content-type": "text/event-stream"})
        await passed.prepare(request)
        try:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    said = json.loads(line[6:])
                    seen.usage = said.get("usage") or seen.usage
                    seen.characters += sum(
                        len(c.get("delta", {}).get("content") or "") for c in said.get("choices", ())
                    )
                await passed.write(line)
        except aiohttp.ClientError:
            seen.ended = "cut"
        return passed

    async def _post(self, entry: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    aiohttp.ClientSession(headers=self._headers) as session,
                    session.post(self._collector + self._path, data=entry) as answer,
                ):
                    if answer.status < 300:
                        return
            await asyncio.sleep(0.2)


def main(port: str, form: str, collector: str, token: str, provider: str) -> None:
    app = web.Application()
    app.router.add_post(CHAT, Gateway(form, collector, token, provider).handle)
    web.run_app(app, host="127.0.0.1", port=int(port), handler_cancellation=True, access_log=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
