"""From a real Envoy to facts: its log is rotated and the tail is killed on the way, and each attempt is charged once.

GATEMETER_ENVOY_CALLS is how many calls are made (400 unless set).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.gateways import add_gateway
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.counting_provider import CountingProvider
from support.envoy import Envoy
from support.kafka import KafkaBroker
from support.mixed_calls import facts_of, make_calls, models
from support.processes import Process, Processes, eventually
from support.spine import Spine

CALLS = int(os.environ.get("GATEMETER_ENVOY_CALLS", "400"))
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
"""
FACTS = """
SELECT model, attempt, status, usage_source, input_text_uncached, output_text_visible
FROM usage_facts FINAL ORDER BY model, attempt
"""
GRADES = """
SELECT DISTINCT gateway_id, evidence_grade, tenant_id, paired, identity_source FROM usage_facts FINAL
"""
WINDOWS = "SELECT sum(attempts), sum(input_tokens), sum(output_tokens) FROM usage_windows FINAL"
TAIL = "from gatemeter.cli.main import app; app()"


class Tails:
    """One tail after the other on the same log and state."""

    def __init__(self, spine: Spine, processes: Processes, kid: str, log: Path, state: Path) -> None:
        self._processes, self.state = processes, state
        self._command = [sys.executable, "-c", TAIL, "tail", "envoy", str(log), "--state", str(state)]
        self._environment = {
            "GATEMETER_BOOTSTRAP": spine.kafka.bootstrap,
            "GATEMETER_TOPIC": spine.topic,
            "GATEMETER_GATEWAY_ID": "envoy-eu",
            "GATEMETER_GATEWAY_KIND": "api_gateway",
            "GATEMETER_KID": kid,
            "GATEMETER_SECRETS_FILE": str(spine.folder / "secrets.json"),
        }

    def start(self, *more: str) -> Process:
        return self._processes.start([*self._command, *more], self._environment)


def disturb(tails: Tails, envoy: Envoy, over: threading.Event) -> None:
    """Kills the tail every other second, and rotates the log each time, while it runs or before the next one does."""
    number = 0
    first = tails.start()
    eventually(lambda: (tails.state / "position.json").exists(), "the tail has begun")
    first.kill()
    assert envoy.process is not None
    while not over.is_set():
        tail = tails.start()
        over.wait(2)
        number += 1
        envoy.log.rename(envoy.log.with_name(f"{envoy.log.name}.{number}"))
        envoy.process.send(signal.SIGUSR1)
        over.wait(0.5)
        tail.kill()


async def test_facts_are_the_providers_own_log_whatever_becomes_of_the_tail(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    began = time.monotonic()
    with Processes(tmp_path) as processes, CountingProvider() as provider:
        spine = Spine(kafka, tmp_path, processes, partitions=2)
        (tmp_path / "tenants.yaml").write_text(TENANTS)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        kid = add_gateway(spine.connection, tmp_path / "secrets.json", "envoy-eu", "api_gateway").kid
        worker = spine.worker(clickhouse_database)
        with Envoy(tmp_path, provider.port, timeout="3s") as envoy:
            tails = Tails(spine, processes, kid, envoy.log, tmp_path / "tail")
            over = threading.Event()
            disturbing = threading.Thread(target=disturb, args=(tails, envoy, over))
            disturbing.start()
            await asyncio.to_thread(asyncio.run, make_calls(envoy.url, models(CALLS)))
            over.set()
            disturbing.join(60)
            called = time.monotonic()
            assert envoy.process is not None
            envoy.process.send(signal.SIGTERM)
            envoy.process.wait()
        last = tails.start("--once", "--timeout", "60", "--json")
        assert last.wait() == 0, last.log
        spine.wait_until_sunk(clickhouse_client, worker)
        expected = facts_of(provider.log)
        facts = [tuple(row) for row in clickhouse_client.query(FACTS).result_rows]
        grades = clickhouse_client.query(GRADES).result_rows
        windows = clickhouse_client.query(WINDOWS).result_rows[0]
        unequal = clickhouse_client.query("SELECT partition, problem FROM conservation WHERE NOT ok").result_rows
        conflicts = clickhouse_client.command("SELECT count() FROM exceptions WHERE kind = 'conflict'")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert len({model for model, *_ in facts}) == CALLS
    assert facts == expected
    assert [tuple(row) for row in grades] == [("envoy-eu", "A", "acme", True, "verified_credential")]
    assert windows == (len(expected), sum(row[4] or 0 for row in expected), sum(row[5] or 0 for row in expected))
    assert (unequal, conflicts) == ([], 0)
    print(f"{CALLS} calls, {len(expected)} attempts: {called - began:.1f} s of calls, {time.monotonic() - began:.1f} s")
