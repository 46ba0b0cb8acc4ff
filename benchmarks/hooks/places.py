"""Where a hook sits, with the hook and without it: a call each way, timed from its begin to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from benchmarks.hooks.provider import ASKED, HEADERS, PATH, Message, Transport, app

from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.producers.hooks import Identity
from gatemeter.producers.hooks.asgi import MeteringMiddleware
from gatemeter.producers.hooks.httpx import MeteredTransport

TOPIC = "hooks"
WHO = Identity(tenant_id="acme", app_id="bot", credential_fingerprint="f" * 32, identity_source="verified_credential")


def spooling_emitter(bootstrap: str, folder: Path) -> Emitter:
    """An emitter as a gateway has it, with its spool in `folder`."""
    settings = EmitterSettings(
        bootstrap=bootstrap,
        gateway_id="bench",
        gateway_kind="api_gateway",
        kid="bench-1",
        secret=b"s" * 32,
        topic=TOPIC,
        spool_folder=folder,
    )
    return Emitter(settings)


@dataclass(frozen=True)
class Took:
    """Nanoseconds to the first byte of the body, and to the end of the call."""

    first_ns: int
    whole_ns: int


Call = Callable[[bool], Took]
"""Makes one call; True for a streamed one."""


def asgi(metered: Emitter | None) -> Call:
    """A server's side of one call of an ASGI app."""
    served: Any = app
    if metered is not None:
        served = MeteringMiddleware(app, emitter=metered, identify=lambda scope: WHO)
    loop = asyncio.new_event_loop()

    async def one(stream: bool) -> Took:
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": HEADERS}
        scope["query_string"] = b"stream" if stream else b""
        first = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": ASKED[stream], "more_body": False}

        async def send(message: Message) -> None:
            nonlocal first
            if not first and message.get("body"):
                first = time.perf_counter_ns()

        began = time.perf_counter_ns()
        await served(scope, receive, send)
        return Took(first - began, time.perf_counter_ns() - began)

    return lambda stream: loop.run_until_complete(one(stream))


def httpx(metered: Emitter | None) -> Call:
    """A client's side of one call."""
    inner = Transport()
    transport = inner if metered is None else MeteredTransport(inner, emitter=metered, identify=lambda request: WHO)
    client = httpx2.Client(transport=transport, headers=HEADERS)

    def one(stream: bool) -> Took:
        url = f"http://provider.test{PATH}" + ("?stream" if stream else "")
        first = 0
        began = time.perf_counter_ns()
        with client.stream("POST", url, content=ASKED[stream]) as response:
            for part in response.iter_raw():
                if not first and part:
                    first = time.perf_counter_ns()
        return Took(first - began, time.perf_counter_ns() - began)

    return one


PLACES: dict[str, Callable[[Emitter | None], Call]] = {"asgi": asgi, "httpx": httpx}
