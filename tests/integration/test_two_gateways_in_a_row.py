"""Envoy before LiteLLM, on Kafka and ClickHouse: one call, one charge; a silent authority is listed, then charged."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli.adjust import adjust
from gatemeter.cli.corrections import corrections_commit
from gatemeter.processors.metadata.authorities import set_authority
from gatemeter.processors.metadata.entries import Authority
from gatemeter.processors.metadata.gateways import add_gateway
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import Emitter, EmitterSettings, new_request_id, now_us
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.reports.attestations import attestations
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.spine import Spine

CALLS = 40
SILENT = 3
TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
parameters: {grace: 0s, orphan_timer: 1m, horizon: 2m}
"""
app = typer.Typer()
app.command("adjust")(adjust)
app.command("corrections_commit")(corrections_commit)


class Row:
    """`litellm` behind `envoy`, and an agent that keeps a log of its own; each call passes all three."""

    def __init__(self, kafka: KafkaBroker, folder: Path, processes: Processes) -> None:
        self.spine = Spine(kafka, folder, processes, partitions=2)
        connection, secrets = self.spine.connection, folder / "secrets.json"
        envoy = add_gateway(connection, secrets, "envoy", "api_gateway", attestation_path=folder / "envoy.json")
        agent = add_gateway(
            connection, secrets, "agent", "agent_runtime", role="corroborating", attestation_path=folder / "agent.json"
        )
        (folder / "tenants.yaml").write_text(TENANTS)
        self.spine.apply(*read_tenants_file(folder / "tenants.yaml"))
        set_authority(connection, Authority("envoy", "/v1", "litellm", effective_from_us=now_us() - 3_600_000_000))
        self.emitters = {
            "litellm": self.spine.emitter(),
            "envoy": self._emitter("envoy", envoy.kid, folder / "envoy.json"),
            "agent": self._emitter("agent", agent.kid, folder / "agent.json"),
        }

    def _emitter(self, gateway_id: str, kid: str, attestation: Path) -> Emitter:
        secret = load_secrets(self.spine.folder / "secrets.json")[kid]
        who: dict[str, Any] = {"gateway_id": gateway_id, "gateway_kind": "api_gateway", "kid": kid, "secret": secret}
        where: dict[str, Any] = {"topic": self.spine.topic, "spool_mode": "memory", "linger_ms": 20}
        bootstrap = self.spine.kafka.bootstrap
        return Emitter(EmitterSettings(bootstrap=bootstrap, attestation_key_file=attestation, **who, **where))

    def call(self, number: int, *seen_by: str, route: str = "/v1") -> None:
        for gateway in seen_by:
            call = {"request_id": new_request_id(), "request_started_at": now_us(), "tenant_id": "acme", "route": route}
            call |= {"provider": "openai", "model": "gpt-4o", "identity_source": "mtls", "trace_id": f"trace-{number}"}
            emitter = self.emitters[gateway]
            assert emitter.request(**call)
            known = {} if gateway == "agent" else {"provider_request_id": f"chatcmpl-{number}"}
            usage = {"usage_source": "reported", "input_text_uncached": 100, "output_text_visible": 10}
            assert emitter.response(status="ok", **known, **usage, **call)


@pytest.fixture
def row(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Row]:
    with Processes(tmp_path) as processes:
        yield Row(kafka, tmp_path, processes)


def all_of(client: Client, query: str) -> list[tuple[Any, ...]]:
    return [tuple(found) for found in client.query(query).result_rows]


def test_one_call_is_one_charge_and_what_the_authority_did_not_meter_is_listed_and_charged_once(
    row: Row, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    worker = row.spine.worker(clickhouse_database)
    for number in range(CALLS):
        row.call(number, "agent", "envoy", "litellm")
    for number in range(CALLS, CALLS + SILENT):
        row.call(number, "agent", "envoy")
    row.call(900, "envoy", route="/direct")
    for emitter in row.emitters.values():
        assert emitter.close(30).undelivered == 0
    row.spine.wait_until_sunk(clickhouse_client, worker)
    facts = (
        "SELECT gateway_id, count(), countIf(NOT paired) FROM usage_facts FINAL GROUP BY gateway_id ORDER BY gateway_id"
    )
    assert all_of(clickhouse_client, facts) == [("envoy", 1, 0), ("litellm", CALLS, 0)]
    seen = 2 * (CALLS + SILENT)
    kept = "SELECT gateway_id, reason, count() FROM evidence FINAL GROUP BY ALL ORDER BY gateway_id"
    assert all_of(clickhouse_client, kept) == [("agent", "corroborating", seen), ("envoy", "authority", seen)]
    matched = "SELECT matched_by, count(), max(length(differs)) FROM evidence_matches GROUP BY ALL ORDER BY matched_by"
    assert all_of(clickhouse_client, matched) == [
        ("", 2 * SILENT, 0),
        ("provider_request_id", CALLS, 0),
        ("trace_id", CALLS, 0),
    ]
    silent = "SELECT authority_gateway_id, gateway_id, route, calls, input_tokens FROM silent_authorities"
    expected = [("litellm", "envoy", "/v1", SILENT, 100 * SILENT)]
    eventually(lambda: all_of(clickhouse_client, silent) == expected, "log time passes the grace in every partition")
    assert all_of(clickhouse_client, "SELECT count() FROM metered_twice") == [(0,)]
    assert all_of(clickhouse_client, "SELECT count(), countIf(NOT ok) FROM conservation") == [(2, 0)]
    assert all_of(clickhouse_client, "SELECT sum(missing_events) FROM completeness") == [(0,)]
    attested = attestations(clickhouse_client, row.spine.attestation_keys)
    assert (attested.first_problem, attested.attested) == ("", 2 * (2 * (CALLS + SILENT) + CALLS + 1))
    _charge_one(row, clickhouse_database, clickhouse_client)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def _charge_one(row: Row, database: ClickHouseSettings, client: Client) -> None:
    """One of the unmetered calls becomes a correction, once."""
    ((place,),) = all_of(client, "SELECT place FROM unmetered_calls WHERE gateway_id = 'envoy' ORDER BY place LIMIT 1")
    where = ["--clickhouse-url", database.url, "--clickhouse-user", database.user, "--clickhouse-password"]
    where += [database.password, "--clickhouse-database", database.database, "--bootstrap", row.spine.kafka.bootstrap]
    where += ["--events-topic", row.spine.topic, "--operator-key", str(row.spine.folder / "operator.json")]

    def run_command(*arguments: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, *where], env={"COLUMNS": "400"}, input="n\n")
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.output

    def charge(what: str, exit_code: int = 0, *how: str) -> str:
        given = ("--evidence", what, "--currency", "USD", "--token-cost", "0.0042", "--reason", "bypassed")
        return run_command("adjust", *given, "--json", *(how or ("--yes",)), exit_code=exit_code)

    asked = re.search(r"corrections commit (\S+) --digest (\S+)", charge(place, 1, "--attempt", "1"))
    assert asked is not None
    run = json.loads(charge(place))["run"]
    charged = f"SELECT charged_in_run FROM unmetered_calls WHERE place = '{place}'"
    eventually(lambda: all_of(client, charged) == [(run,)], "the COMMIT is folded")
    assert f"error: --evidence {place}: run {run} charges the call already" in charge(place, 1)
    later = run_command("corrections_commit", asked[1], "--digest", asked[2], exit_code=1)
    assert f"run {run}, committed since it was computed" in later
    entry = "SELECT tenant_id, charge > 0, evidence_place FROM corrections WHERE run_id = {run:String}"
    assert [tuple(found) for found in client.query(entry, {"run": run}).result_rows] == [("acme", True, place)]
    ((metered,),) = all_of(client, "SELECT place FROM evidence_matches WHERE matched_by = 'trace_id' LIMIT 1")
    assert "the call was metered: attempt 1 of request" in charge(metered, 1)
    assert "--evidence must be a place of the view unmetered_calls" in charge("gatemeter.events/0/0/0", 1)
