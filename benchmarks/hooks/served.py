"""The stub provider over HTTP, in a process of its own: `python -m benchmarks.hooks.served PORT`."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web
from benchmarks.hooks.provider import PARTS, PATH, WHOLE

_FIRST_CHUNK_AHEAD_S = 0.02
"""So that a proxy gets it alone; the others come as fast as they go, and many together."""


async def _answer(request: web.Request) -> web.StreamResponse:
    if not json.loads(await request.read()).get("stream"):
        return web.Response(body=WHOLE, content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(PARTS[0])
    await asyncio.sleep(_FIRST_CHUNK_AHEAD_S)
    for part in PARTS[1:]:
        await response.write(part)
        await asyncio.sleep(0)
    return response


if __name__ == "__main__":
    served = web.Application()
    served.router.add_post(PATH, _answer)
    web.run_app(served, host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None, access_log=None)
