"""A real Envoy before a real LiteLLM proxy: both see every call, the one that is the authority makes the fact, and each
call is charged once. GATEMETER_IN_A_ROW_CALLS is how many calls are made (120 unless set).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.authorities import set_authority
from gatemeter.processors.metadata.entries import Authority
from gatemeter.processors.metadata.gateways import add_gateway
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.envoy import PROVIDER_KEYS, Envoy, headers
from support.kafka import KafkaBroker
from support.litellm_provider import LiteLLMProvider, Served
from support.litellm_proxy import CALLER_KEY, LiteLLMProxy, as_served, asking
from support.processes import Processes, eventually
from support.spine import Spine

CALLS = int(os.environ.get("GATEMETER_IN_A_ROW_CALLS", "120"))
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
parameters: {grace: 0s, orphan_timer: 1m, horizon: 2m}
"""
KINDS: list[tuple[str, str, bool]] = [
    *[("ok", "/v1/chat/completions", False)] * 4,
    *[("ok", "/v1/chat/completions", True)] * 4,
    ("ok", "/v1/responses", False),
    ("ok", "/v1/responses", True),
    ("ok", "/v1/embeddings", False),
    ("claude", "/v1/messages", False),
    ("claude", "/v1/messages", True),
    ("zero", "/v1/chat/completions", False),
    ("zero", "/v1/chat/completions", True),
    ("absent", "/v1/chat/completions", False),
    ("flaky", "/v1/chat/completions", False),
    ("flaky", "/v1/chat/completions", True),
    ("cut", "/v1/chat/completions", True),
]
FACTS = """
SELECT trace_id, request_id, attempt, model, status, usage_source, input_text_uncached, output_text_visible,
       gateway_id, tenant_id, status = 'error' AND http_status IS NULL AS unreached
FROM attempts WHERE has_response
"""
SEEN = """
SELECT matched_by, arrayExists(each -> each.1 LIKE '%_tokens', differs) AS tokens_differ, count() AS calls
FROM evidence_matches WHERE gateway_id = 'envoy-eu' GROUP BY ALL
"""


def trace_of(number: int) -> str:
    return f"{number + 1:032x}"


async def make_calls(url: str) -> None:
    """All calls, sixteen at once, each with a trace of its own."""
    free = asyncio.Semaphore(16)
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:

        async def one(number: int) -> None:
            model, path, stream = KINDS[number % len(KINDS)]
            call = asking(model, f"row{number}", path, **({"stream": True} if stream else {}))
            traced = {"traceparent": f"00-{trace_of(number)}-{'cd' * 8}-01"}
            async with free:
                with contextlib.suppress(httpx2.TransportError):
                    await client.post(call["url"], json=call["json"], headers={**headers(), **traced})

        await asyncio.gather(*map(one, range(CALLS)))


async def test_one_call_through_two_meters_is_one_charge(
    kafka: KafkaBroker,
    tmp_path: Path,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
) -> None:
    keys = dict.fromkeys(PROVIDER_KEYS, CALLER_KEY)  # what Envoy takes for the providers is LiteLLM
    with Processes(tmp_path) as processes, LiteLLMProvider() as provider:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        kid = add_gateway(spine.connection, tmp_path / "secrets.json", "envoy-eu", "api_gateway").kid
        (tmp_path / "tenants.yaml").write_text(TENANTS)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        set_authority(
            spine.connection, Authority("envoy-eu", "*", "litellm", effective_from_us=now_us() - 3_600_000_000)
        )
        worker = spine.worker(clickhouse_database)
        proxy = LiteLLMProxy(processes, provider.url, spine, tmp_path / "proxy", kafka.bootstrap)
        proxy.wait_until_ready()
        with Envoy(tmp_path, int(proxy.url.rpartition(":")[2]), timeout="30s", keys=keys) as envoy:
            await make_calls(envoy.url)
            assert envoy.process is not None
            envoy.process.send(signal.SIGTERM)
            envoy.process.wait()
        proxy.stop()
        tailed = processes.start(
            [
                *(sys.executable, "-c", "from gatemeter.cli.main import app; app()", "tail", "envoy", str(envoy.log)),
                *("--state", str(tmp_path / "tail"), "--once", "--timeout", "60"),
            ],
            {
                "GATEMETER_BOOTSTRAP": kafka.bootstrap,
                "GATEMETER_TOPIC": spine.topic,
                "GATEMETER_GATEWAY_ID": "envoy-eu",
                "GATEMETER_GATEWAY_KIND": "api_gateway",
                "GATEMETER_KID": kid,
                "GATEMETER_SECRETS_FILE": str(tmp_path / "secrets.json"),
            },
        )
        assert tailed.wait() == 0, tailed.log
        heir = spine.emitter(spool_mode="process", spool_folder=proxy.spool)
        eventually(lambda: spine_is_empty(proxy.spool, heir.epoch), "what the proxy left in its spool is delivered")
        heir.close(60)
        spine.wait_until_sunk(clickhouse_client, worker)
        facts = list(clickhouse_client.query(FACTS).named_results())
        seen = {tuple(row[:2]): row[2] for row in clickhouse_client.query(SEEN).result_rows}
        twice = clickhouse_client.command("SELECT count() FROM metered_twice")
        unequal = clickhouse_client.query("SELECT partition, problem FROM conservation WHERE NOT ok").result_rows
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert {(fact["gateway_id"], fact["tenant_id"]) for fact in facts} == {("litellm", "acme")}
    said = Counter(said_by(fact) for fact in facts)
    served = Counter(provider.served)
    assert list((served - said).elements()) == []
    assert sum((said - served).values()) == sum(fact["unreached"] for fact in facts if said_by(fact) not in served)
    assert len({(fact["request_id"], fact["attempt"]) for fact in facts}) == len(facts)
    assert (twice, unequal) == (0, [])
    assert not [key for key in seen if key[1]], f"tokens that two meters of one call say differently: {seen}"
    assert {by for by, _ in seen} <= {"provider_request_id", "trace_id"}, f"calls that Envoy saw without a fact: {seen}"
    print(f"{CALLS} calls, {len(facts)} attempts; what Envoy saw, by how it matched: {seen}")


def spine_is_empty(spool: Path, own: str) -> bool:
    """Whether a spool holds nothing but the heir's own epoch."""
    return not [path for path in spool.rglob("*.seg") if path.parent.name != own]


def said_by(fact: dict[str, Any]) -> Served:
    """A fact in the words of the provider's log."""
    return as_served({**fact, "client_request_id": f"row{int(fact['trace_id'], 16) - 1}"})
