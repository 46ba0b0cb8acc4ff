"""Hooks that sit in a Python process: the same call with the hook and without it, its provider in memory."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from benchmarks.hooks.provider import ASKED, HEADERS, PATH, Message, Transport, app
from benchmarks.hooks.sides import Call, Comparison, Side, Took

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


@contextmanager
def emitting(bootstrap: str) -> Iterator[Emitter]:
    """An emitter with a spool; all that it took must be delivered at the end, else `RuntimeError`."""
    folder = Path(tempfile.mkdtemp(prefix="gatemeter-hooks-"))
    emitter = spooling_emitter(bootstrap, folder)
    try:
        yield emitter
        report = emitter.close(60)
    finally:
        emitter.close(0)
        shutil.rmtree(folder, ignore_errors=True)
    if report.undelivered or report.counters.dropped or report.counters.invalid:
        raise RuntimeError(f"the emitter did not deliver everything: {report}")


@contextmanager
def in_process(place: Callable[[Emitter | None], Call], bootstrap: str) -> Iterator[Comparison]:
    """Without the hook and with it. The emitter's thread is in this process, and so is its CPU."""
    with emitting(bootstrap) as emitter:

        def cpu_ns() -> int:
            while emitter.counters().spooled:
                time.sleep(0.02)
            return time.process_time_ns()

        yield Comparison(Side(place(None), cpu_ns), Side(place(emitter), cpu_ns))


def asgi(metered: Emitter | None) -> Call:
    """A server's side of one call of an ASGI app."""
    served: Any = app
    if metered is not None:
        served = MeteringMiddleware(app, emitter=metered, identify=lambda scope: WHO)
    loop = asyncio.new_event_loop()

    async def one(stream: bool) -> Took:
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": HEADERS}
        scope["query_string"] = b"stream" if stream else b""
        first = last = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": ASKED[stream], "more_body": False}

        async def send(message: Message) -> None:
            nonlocal first, last
            last = time.perf_counter_ns()
            if not first and message.get("body"):
                first = last

        began = time.perf_counter_ns()
        await served(scope, receive, send)
        return Took(first - began, last - began, time.perf_counter_ns() - began)

    return lambda stream: loop.run_until_complete(one(stream))


def httpx(metered: Emitter | None) -> Call:
    """A client's side of one call, which has its answer when the call returns."""
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
        ended = time.perf_counter_ns() - began
        return Took(first - began, ended, ended)

    return one
