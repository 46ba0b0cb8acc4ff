"""Runs the collector: listens when its spools are open, and on SIGTERM finishes what is in flight before it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Final

from gatemeter.producers.collector.app import Collector
from gatemeter.producers.collector.settings import CollectorSettings
from gatemeter.producers.emitter import CloseReport, Emitter
from gatemeter.schemas.extras import need

need("gatemeter.producers.collector", "collector", "aiohttp", "prometheus_client")

from aiohttp import web  # noqa: E402  what it needs is checked first

FINISH_SECONDS: Final = 30.0
"""How long requests in flight may take after SIGTERM."""


def serve(
    settings: CollectorSettings, *, timeout_s: float, listening: Callable[[str, int], None]
) -> Mapping[str, CloseReport]:
    """Until SIGTERM or SIGINT. `listening` is told the address. Returns what each gateway's emitter delivered.

    Raises `OSError` where the address or a spool cannot be had.
    """
    emitters: dict[str, Emitter] = {}
    try:
        for gateway_id, gateway in settings.gateways.items():
            emitters[gateway_id] = Emitter(gateway)
        asyncio.run(_served(settings, emitters, listening))
    finally:
        reports = {gateway_id: emitter.close(timeout_s) for gateway_id, emitter in emitters.items()}
    return reports


async def _served(
    settings: CollectorSettings, emitters: Mapping[str, Emitter], listening: Callable[[str, int], None]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = Collector(settings, emitters).application()
    runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=FINISH_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=settings.tls)
        await site.start()
        listening(*runner.addresses[0][:2])
        await stopped.wait()
    finally:
        await runner.cleanup()
