"""From posts over TLS to facts, through a collector that is killed, and senders that send everything again."""

from __future__ import annotations

import json
import signal
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.gateways import add_gateway
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.certificates import Certificates
from support.collected import changed, payload
from support.collector import GATEWAYS, TOKENS, settings_file
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually
from support.spine import Spine

CALLS = 30
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
policy_prices:
  - prices: guards
    currency: USD
    policies: [{policy: http/example/authz/allow, per_decision: 0.001}]
"""
FACTS = """
SELECT gateway_id, status, count(), uniqExact(request_id), sum(input_text_uncached), sum(output_text_visible),
       any(tenant_id), any(evidence_grade)
FROM usage_facts FINAL GROUP BY gateway_id, status ORDER BY gateway_id
"""
JOINED = """
SELECT count(), uniqExact(p.request_id), any(p.sender_gateway_id), any(p.outcome), any(p.tenant_id)
FROM (SELECT * FROM policy_facts FINAL) AS p
INNER JOIN (SELECT * FROM usage_facts FINAL) AS u ON p.gateway_id = u.gateway_id AND p.request_id = u.request_id
"""


def kong(number: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 100 + number, "completion_tokens": number + 1}
    who = {"consumer": {"username": "bots", "custom_id": "acme"}}
    return changed(payload("kong_documented"), request__id=f"native-{number}", ai__proxy__usage=usage, **who)


def decision(number: int) -> dict[str, Any]:
    [entry] = payload("opa_documented")
    return changed(entry, decision_id=f"d-{number}", input__request_id=f"native-{number}")


def plain(number: int) -> list[dict[str, Any]]:
    call = {"request_id": f"plain-{number}", "request_started_at": 1787113201000000, "occurred_at": 1787113202000000}
    call |= {"tenant_id": "acme", "identity_source": "mtls", "provider": "openai", "model": "gpt-4o"}
    used = {"status": "ok", "usage_source": "reported", "input_text_uncached": number, "output_text_visible": 1}
    return [{"kind": "REQUEST", **call}, {"kind": "RESPONSE", **call, **used}]


class Collectors:
    """One after the other at one address, with one spool."""

    def __init__(self, processes: Processes, settings: Path, trusted: ssl.SSLContext) -> None:
        self._processes, self._settings = processes, settings
        self._trusted = trusted
        self.process, self.url = self.start()

    def start(self) -> tuple[Process, str]:
        command = [sys.executable, "-m", "gatemeter.cli.main", "collector", "serve", str(self._settings)]
        process = self._processes.start(command, {})
        eventually(lambda: "listening on" in process.log or not process.running, "the collector listens")
        assert process.running, process.log[-3000:]
        return process, "https://" + process.log.partition("listening on ")[2].split()[0]

    def again(self, number: signal.Signals) -> int:
        """Ends it by a signal; the next one takes its place. Its exit code."""
        self.process.send(number)
        code = self.process.wait()
        self.process, self.url = self.start()
        return code

    def post(self, path: str, source: str, items: Any) -> int:
        headers = {"authorization": f"Bearer {TOKENS[source]}"}
        with httpx2.Client(verify=self._trusted) as http:
            return http.post(self.url + path, json=items, headers=headers, timeout=60).status_code

    def post_everything(self) -> None:
        """Many small senders at once."""
        posts = [("/kong", "kong", kong(number)) for number in range(CALLS)]
        posts += [("/logs", "opa", [decision(number)]) for number in range(CALLS)]
        posts += [("/v1/events", "events", plain(number)) for number in range(CALLS)]
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda post: self.post(*post), posts)) == {200}


def test_what_is_acknowledged_becomes_a_fact_once(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    certificates = Certificates(tmp_path, "spiffe://acme/kong")
    with Processes(tmp_path) as processes:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        (tmp_path / "tenants.yaml").write_text(TENANTS)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        secrets = tmp_path / "secrets.json"
        kids = {name: add_gateway(spine.connection, secrets, name, kind).kid for name, kind in GATEWAYS.items()}
        worker = spine.worker(clickhouse_database)
        tls = {"certificate": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key")}
        settings = settings_file(
            tmp_path, bootstrap=kafka.bootstrap, kids=kids, topic=spine.topic, secrets_file=str(secrets)
        )
        text = (
            settings.read_text() + "[tls]\n" + "".join(f"{name} = {json.dumps(path)}\n" for name, path in tls.items())
        )
        text = text.replace(
            'subject = { gateway = "kong"', 'fields = { tenant_id = "input.tenant_id" }\nsubject = { gateway = "kong"'
        )
        text = text.replace('source = "kong"\n', 'source = "kong"\nfields = { tenant_id = "consumer.custom_id" }\n')
        settings.write_text(text)
        collectors = Collectors(processes, settings, certificates.context)
        collectors.post_everything()
        collectors.again(signal.SIGKILL)
        collectors.post_everything()  # the replies were lost, say
        assert collectors.again(signal.SIGTERM) == 0
        collectors.process.send(signal.SIGTERM)
        assert collectors.process.wait() == 0, collectors.process.log
        spine.wait_until_sunk(clickhouse_client, worker)
        facts = clickhouse_client.query(FACTS).result_rows
        joined = clickhouse_client.query(JOINED).result_rows
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    numbers = range(CALLS)
    assert [tuple(row) for row in facts] == [
        ("events", "ok", CALLS, CALLS, sum(numbers), CALLS, "acme", "A"),
        ("kong", "ok", CALLS, CALLS, sum(100 + n for n in numbers), sum(n + 1 for n in numbers), "acme", "A"),
    ]
    assert [tuple(row) for row in joined] == [(CALLS, CALLS, "opa", "allow", "acme")]
