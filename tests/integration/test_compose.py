"""docker-compose.yml without Docker: each of our services by its own command and environment, as plain processes.

Kafka is Apache Kafka and ClickHouse the embedded engine; only addresses and folders are replaced.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatemeter.processors.metadata.gateways import Connection, add_gateway
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import Emitter, EmitterSettings, new_request_id, now_us
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import connect
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("topics", "keys", "migrate")
CALLS = 50


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def interpolated(text: str, variables: dict[str, str]) -> str:
    """As Compose does it: ${NAME:-default}, ${NAME:?message}, $$."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match[1], match[2], match[3]
        if name not in variables and kind == "?":
            raise LookupError(f"{name}: {rest}")
        return variables.get(name, rest or "")

    return re.sub(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}", value, text).replace("$$", "$")


@dataclass
class Stack:
    """Runs services of the file in this test's world."""

    broker: KafkaBroker
    clickhouse: ClickHouse
    keys: Path
    web_port: int
    processes: Processes

    def translated(self, text: str) -> str:
        variables = {
            "GATEMETER_KEYS": str(self.keys),
            "GATEMETER_CLICKHOUSE_ROLES": "false",  # chDB has no roles
            "GATEMETER_CLICKHOUSE_FSYNC": "false",
        }
        places = {
            "kafka:29092": self.broker.bootstrap,
            "http://clickhouse:8123": self.clickhouse.server.url,
            "/run/secrets/clickhouse_password": str(self.keys / "clickhouse-password"),
            "/run/gatemeter": str(self.keys),
            "6066": str(self.web_port),
        }
        text = interpolated(text, variables)
        for inside, here in places.items():
            text = text.replace(inside, here)
        return text

    def start(self, name: str, **more: str) -> Process:
        service = compose()["services"][name]
        command = [self.translated(word) for word in service["command"]]
        assert command[0] == "gatemeter"
        environment = {key: self.translated(value) for key, value in service.get("environment", {}).items()}
        program = [str(Path(sys.executable).with_name("gatemeter")), *command[1:]]
        return self.processes.start(program, {**environment, **more})

    def healthy(self, name: str) -> bool:
        test = compose()["services"][name]["healthcheck"]["test"]
        assert test[:2] == ["CMD", "python"]
        command = [sys.executable, *(self.translated(word) for word in test[2:])]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


@pytest.fixture
def stack(clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Stack]:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    (keys / "clickhouse-password").write_text(clickhouse.server.password)
    init_operator(keys / "operator.json", keys / "operators.json", "ops-1")
    with KafkaBroker() as broker, Processes(tmp_path) as processes:
        yield Stack(broker, clickhouse, keys, 20_000 + secrets.randbelow(10_000), processes)
    clickhouse.drop(clickhouse.settings())


def emit(stack: Stack, kid: str) -> None:
    secret = load_secrets(stack.keys / "secrets.json")[kid]
    where: dict[str, Any] = {"bootstrap": stack.broker.bootstrap, "spool_mode": "memory"}
    settings = EmitterSettings(gateway_id="gw", gateway_kind="api_gateway", kid=kid, secret=secret, **where)
    emitter = Emitter(settings)
    for _ in range(CALLS):
        emitter.response(
            request_id=new_request_id(),
            request_started_at=now_us(),
            tenant_id="engineering",
            identity_source="mtls",
            status="ok",
            usage_source="reported",
            input_text_uncached=10,
            output_text_visible=1,
        )
    assert emitter.close(30).undelivered == 0


def test_every_service_does_its_work_by_its_own_command(stack: Stack) -> None:
    for name in (*JOBS, *JOBS):  # a job that is run again does no harm
        job = stack.start(name)
        assert job.wait() == 0, f"{name}: {job.log}"
    operator = init_operator(stack.keys / "operator.json", stack.keys / "operators.json", "ops-1")
    connection = Connection(stack.broker.bootstrap, operator)
    connection.apply(list(read_tenants_file(ROOT / "examples" / "tenants.yaml")))
    kid = add_gateway(connection, stack.keys / "secrets.json", "gw", "api_gateway").kid
    workers = [stack.start("processor"), stack.start("processor", GATEMETER_WEB_PORT="0")]
    eventually(lambda: stack.healthy("processor"), "the first worker is healthy")
    emit(stack, kid)
    client = connect(stack.clickhouse.settings())

    def facts() -> bool:
        for worker in workers:
            assert worker.running, worker.log[-3000:]
        query = "SELECT count(), countIf(attribution = 'attributed') FROM attempts"
        return client.query(query).result_rows == [(CALLS, CALLS)]

    eventually(facts, f"{CALLS} facts are there")
    client.close()


def test_jobs_come_before_workers_and_workers_can_be_scaled() -> None:
    services = compose()["services"]
    needed = services["processor"]["depends_on"]
    assert {name: needed[name]["condition"] for name in JOBS} == dict.fromkeys(JOBS, "service_completed_successfully")
    assert "container_name" not in services["processor"]
    assert "ports" not in services["processor"]
    for name in ("kafka", "clickhouse", "processor"):
        assert services[name]["healthcheck"]["test"], name


def test_there_is_no_default_password_and_nothing_is_published_beyond_loopback() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    with pytest.raises(LookupError, match="GATEMETER_KEYS: set it to a folder"):
        interpolated(compose()["secrets"]["clickhouse_password"]["file"], {})
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        named = [name for name in service.get("environment", {}) if "PASSWORD" in name]
        assert all(name.endswith("_FILE") for name in named), named
    assert not re.search(r"PASSWORD:-", text)
