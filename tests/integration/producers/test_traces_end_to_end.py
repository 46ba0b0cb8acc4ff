"""Real instrumentations beside a charging gateway: one fact a call, spans matched, what nobody metered named."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.gateways import add_gateway
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers.collector.senders import token_digest
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.counting_provider import CountingProvider
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually
from support.spine import Spine
from support.traces import PLANTED, export, span

AGENT = Path(__file__).resolve().parents[2] / "support" / "instrumented_agent.py"
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
parameters: {grace: 0s, orphan_timer: 1m, horizon: 2m}
"""
FACTS = """
SELECT model, status, gateway_id, tenant_id, input_text_uncached, output_text_visible
FROM usage_facts FINAL ORDER BY model
"""
MATCHES = """
SELECT gateway_id, model, matched_by, fact_gateway_id, app_id, ambiguous, differs
FROM evidence_matches ORDER BY gateway_id, model
"""
UNMETERED = "SELECT gateway_id, model FROM unmetered_calls ORDER BY gateway_id"
CLAIMS = "SELECT groupUniqArray(tuple(gateway_kind, reason, evidence_grade, kind)) FROM evidence"


def settings_file(folder: Path, spine: Spine, kids: dict[str, str]) -> Path:
    """Both gateways say that they are telemetry; one of them is registered as charging."""
    lines = [
        'listen = "127.0.0.1:0"',
        f'spool_folder = "{folder / "collected"}"',
        f'bootstrap = "{spine.kafka.bootstrap}"',
        f'topic = "{spine.topic}"',
        f'secrets_file = "{folder / "secrets.json"}"',
    ]
    for gateway, kid in kids.items():
        lines += [f"[gateways.{gateway}]", 'kind = "telemetry"', f'kid = "{kid}"']
        lines += [f"[senders.{gateway}]", f'gateway = "{gateway}"', 'source = "otlp"']
        lines += [f'token_sha256 = ["{token_digest(gateway)}"]']
    (folder / "collector.toml").write_text("\n".join(lines) + "\n")
    return folder / "collector.toml"


def started_collector(processes: Processes, settings: Path) -> tuple[Process, str]:
    process = processes.start([sys.executable, "-m", "gatemeter.cli.main", "collector", "serve", str(settings)], {})
    eventually(lambda: "listening on" in process.log or not process.running, "the collector listens")
    assert process.running, process.log[-3000:]
    return process, "http://" + process.log.partition("listening on ")[2].split()[0]


def run_agent(processes: Processes, spine: Spine, folder: Path, provider: str, traces: str) -> None:
    environment = {
        "PROVIDER_URL": provider,
        "OTEL_SERVICE_NAME": "research-agent",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces,
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20research-traces",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OPENAI_API_KEY": "sk-planted-secret-0123456789",
        "GATEMETER_BOOTSTRAP": spine.kafka.bootstrap,
        "GATEMETER_TOPIC": spine.topic,
        "GATEMETER_GATEWAY_ID": "litellm",
        "GATEMETER_GATEWAY_KIND": "inference_proxy",
        "GATEMETER_KID": spine.kid,
        "GATEMETER_SECRETS_FILE": str(folder / "secrets.json"),
        "GATEMETER_SPOOL_FOLDER": str(folder / "metered"),
    }
    agent = processes.start([sys.executable, str(AGENT)], environment)
    assert agent.wait() == 0 and "undelivered: 0" in agent.log, agent.log


def test_spans_are_matched_to_facts_and_never_make_one(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    with Processes(tmp_path) as processes, CountingProvider() as provider:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        (tmp_path / "tenants.yaml").write_text(TENANTS)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        traces = add_gateway(spine.connection, tmp_path / "secrets.json", "research-traces", "telemetry").kid
        worker = spine.worker(clickhouse_database)
        kids = {"research-traces": traces, "litellm": spine.kid}
        collector, url = started_collector(processes, settings_file(tmp_path, spine, kids))
        run_agent(processes, spine, tmp_path, provider.url, f"{url}/v1/traces")
        claim = {"gen_ai.request.model": "claimed", "gen_ai.response.id": "chatcmpl-nobody"}
        for _ in range(2):  # sent again, as if the answer had been lost
            headers = {"authorization": "Bearer litellm"}
            said = httpx2.post(f"{url}/v1/traces", json=export(span(9, claim)), headers=headers, timeout=60)
            assert (said.status_code, said.json()) == (200, {})
        collector.send(signal.SIGTERM)
        assert collector.wait() == 0, collector.log
        spine.wait_until_sunk(clickhouse_client, worker)
        expected = [("litellm", "claimed"), ("research-traces", "ok-5")]
        eventually(lambda: rows(clickhouse_client, UNMETERED) == expected, "the grace of both partitions has passed")
        facts, matches = rows(clickhouse_client, FACTS), rows(clickhouse_client, MATCHES)
        claims = rows(clickhouse_client, CLAIMS)[0][0]
        stored = str(rows(clickhouse_client, "SELECT * EXCEPT content_hash FROM evidence"))
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        logs = collector.log
    served = {tried.model: (tried.input_tokens, tried.output_tokens) for tried in provider.log}
    assert [fact[:4] for fact in facts] == [
        ("down-4", "error", "litellm", "acme"),
        *((f"ok-{number}", "ok", "litellm", "acme") for number in (1, 2, 3)),
    ]
    assert [(fact[0], fact[4:]) for fact in facts] == [(fact[0], served[fact[0]]) for fact in facts]
    by_id, by_trace = ("provider_request_id", "litellm"), ("trace_id", "litellm")
    nobody = ("", "")
    assert [(gateway, model, *how) for gateway, model, *how, _, _, _ in matches] == [
        ("litellm", "claimed", *nobody),
        ("research-traces", "down-4", *by_trace),
        ("research-traces", "ok-1", *by_id),
        ("research-traces", "ok-2", *by_trace),
        ("research-traces", "ok-3", *by_id),
        ("research-traces", "ok-5", *nobody),
    ]
    assert {match[4] for match in matches if match[0] == "research-traces"} == {"research-agent"}
    assert [(match[1], match[6]) for match in matches if match[5] or match[6]] == []
    assert claims == [("telemetry", "corroborating", "C", "RESPONSE")]
    assert not any(text in stored + logs for text in PLANTED)


def rows(client: Client, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql).result_rows]
