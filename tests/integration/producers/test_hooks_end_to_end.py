"""From the hooks to facts, through the real emitter, Kafka and a worker, attempt by attempt."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx2
import openai
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers.hooks.asgi import MeteringMiddleware, Receive, Scope, Send
from gatemeter.producers.hooks.httpx import MeteredTransport
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.hooks import ACME, ASKED, SECRET, STREAM
from support.kafka import KafkaBroker
from support.processes import Processes
from support.spine import Spine
from support.stub_provider import StubProvider

CALLS = 10
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
"""
FACTS = """
SELECT model, attempt, status, countIf(paired), sum(input_text_uncached), sum(output_text_visible),
       uniqExact(request_id), any(evidence_grade), any(tenant_id)
FROM usage_facts FINAL GROUP BY model, attempt, status ORDER BY model, attempt
"""
MESSAGES: Any = ASKED["messages"]


async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that streams an answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for part in STREAM:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_facts_are_what_the_provider_answered_attempt_by_attempt(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    with Processes(tmp_path) as processes, StubProvider() as provider:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        (tmp_path / "tenants.yaml").write_text(TENANTS)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        worker, emitter = spine.worker(clickhouse_database), spine.emitter()
        with httpx2.Client(transport=MeteredTransport(emitter=emitter, identify=lambda request: ACME)) as http:
            client = openai.OpenAI(api_key=SECRET, base_url=provider.url + "/v1", http_client=http)
            for number in range(CALLS):
                model = "flaky" if number == 0 else "ok"
                client.chat.completions.create(model=model, messages=MESSAGES)
        app = MeteringMiddleware(gateway, emitter=emitter, identify=lambda scope: ACME)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as callers:
            for _ in range(CALLS):
                await callers.post("http://gateway.test/v1/chat/completions", json={**ASKED, "stream": True})
        assert emitter.close(60).undelivered == 0
        spine.wait_until_sunk(clickhouse_client, worker)
        facts = clickhouse_client.query(FACTS).result_rows
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    who = ("A", "acme")
    assert [tuple(row) for row in facts] == [
        ("flaky", 1, "error", 1, None, None, 1, *who),
        ("flaky", 2, "error", 1, None, None, 1, *who),
        ("flaky", 3, "ok", 1, 12, 3, 1, *who),
        ("gpt-4o", 1, "ok", CALLS, 12 * CALLS, 3 * CALLS, CALLS, *who),
        ("ok", 1, "ok", CALLS - 1, 12 * (CALLS - 1), 3 * (CALLS - 1), CALLS - 1, *who),
    ]
    assert [model for _, model in provider.log] == ["flaky"] * 3 + ["ok"] * (CALLS - 1)
