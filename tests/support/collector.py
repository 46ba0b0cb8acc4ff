"""A collector in the test's own process: its settings, a real spool, and no Kafka behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from aiohttp.test_utils import TestServer

from gatemeter.producers import Emitter
from gatemeter.producers.collector.app import Collector
from gatemeter.producers.collector.senders import token_digest
from gatemeter.producers.collector.settings import CollectorSettings
from support.kafka import free_port
from support.producers import FakeTransport
from support.spools import spooled

TOKENS = {source: f"token-of-{source}-0123456789abcdef" for source in ("kong", "apisix", "opa", "events", "otlp")}
GATEWAYS = {"kong": "api_gateway", "apisix": "api_gateway", "opa": "policy_point", "events": "inference_proxy"}
GATEWAYS["otlp"] = "telemetry"


def settings_file(folder: Path, *, bootstrap: str = "", kids: dict[str, str] | None = None, **top: Any) -> Path:
    """Settings of five senders, each of a gateway of its name. `kids`: key ids by gateway, else ones made here."""
    bootstrap = bootstrap or f"127.0.0.1:{free_port()}"
    values = {"listen": "127.0.0.1:0", "spool_folder": str(folder / "spool"), "bootstrap": bootstrap, **top}
    if kids is None:
        kids = {gateway: f"{gateway}-1" for gateway in GATEWAYS}
        secrets = folder / "secrets.json"
        secrets.write_text(json.dumps(dict.fromkeys(kids.values(), "ab" * 32)))
        secrets.chmod(0o600)
        values["secrets_file"] = str(secrets)
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for gateway, kid in kids.items():
        lines += [f"[gateways.{gateway}]", f'kind = "{GATEWAYS[gateway]}"', f'kid = "{kid}"']
        lines += [f"[senders.{gateway}-sender]", f'gateway = "{gateway}"', f'source = "{gateway}"']
        lines += [f'token_sha256 = ["{token_digest(TOKENS[gateway])}"]']
        if gateway == "opa":
            lines += ['subject = { gateway = "kong", ids = "native" }']
    path = folder / "collector.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Running:
    """A client of the collector, and what its spools hold."""

    def __init__(self, http: httpx2.AsyncClient, spool: Path, emitters: dict[str, Emitter]) -> None:
        self.http, self.spool, self.emitters = http, spool, emitters

    async def post(self, path: str, items: Any, source: str | None = None, **headers: str) -> httpx2.Response:
        """`items` as JSON, or bytes as they are, with the token of `source`."""
        body = items if isinstance(items, bytes) else json.dumps(items).encode()
        given = {"authorization": f"Bearer {TOKENS[source]}"} if source else {}
        given |= {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.http.post(path, content=body, headers=given)

    def events(self) -> list[dict[str, Any]]:
        return list(spooled(self.spool))


@asynccontextmanager
async def running_collector(folder: Path, **top: Any) -> AsyncIterator[Running]:
    """Serves until the block ends."""
    settings = CollectorSettings.from_file(settings_file(folder, **top))
    away = FakeTransport()
    away.up = False
    emitters = {gateway: Emitter(emitter, connect=away) for gateway, emitter in settings.gateways.items()}
    server = TestServer(Collector(settings, emitters).application())
    await server.start_server(auto_decompress=False, access_log=None)
    try:
        async with httpx2.AsyncClient(base_url=str(server.make_url("")), timeout=30) as http:
            yield Running(http, folder / "spool", emitters)
    finally:
        await server.close()
        for emitter in emitters.values():
            emitter.close(0)
