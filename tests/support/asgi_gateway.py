"""A gateway as an ASGI app behind the middleware, served by uvicorn: `uvicorn asgi_gateway:app`.

It sends what comes to the provider at PROVIDER_URL and passes the answer on, part by part. It answers 504 where the
provider takes longer than three seconds to begin, and 403 where the body says `forbidden`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx

from gatemeter.producers import Emitter, EmitterSettings, new_request_id
from gatemeter.producers.hooks import Identity
from gatemeter.producers.hooks.asgi import MeteringMiddleware

EMITTER = Emitter(EmitterSettings.from_environment(spool_folder=Path(os.environ["GATEMETER_SPOOL_FOLDER"])))
PROVIDER = httpx.AsyncClient(base_url=os.environ["PROVIDER_URL"], timeout=httpx.Timeout(30, read=30))
BEGIN_WITHIN_S = 3.0


async def gateway(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if b"forbidden" in body:
        EMITTER.policy(**scope["gatemeter.call"], decision_id=new_request_id(), policy_id="words", outcome="deny")
        await answer(send, 403, b'{"error": {"message": "forbidden"}}')
        return
    request = PROVIDER.build_request("POST", scope["path"], content=body)
    try:
        response = await asyncio.wait_for(PROVIDER.send(request, stream=True), BEGIN_WITHIN_S)
    except TimeoutError:
        await answer(send, 504, b'{"error": {"message": "time is up"}}')
        return
    left = asyncio.ensure_future(receive())
    passing = asyncio.ensure_future(passed(response, send))
    await asyncio.wait({left, passing}, return_when=asyncio.FIRST_COMPLETED)
    for task in (left, passing):
        task.cancel()
    await response.aclose()
    if passing.done() and not passing.cancelled():
        passing.result()


async def passed(response: httpx.Response, send: Any) -> None:
    kind = response.headers["content-type"].encode()
    await send({"type": "http.response.start", "status": response.status_code, "headers": [(b"content-type", kind)]})
    async for part in response.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = MeteringMiddleware(
    gateway,
    emitter=EMITTER,
    identify=lambda scope: Identity(tenant_id="acme", app_id="bot", identity_source="verified_credential"),
)
