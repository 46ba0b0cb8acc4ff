"""The whole system in one block: broker, ClickHouse, metadata in force, workers; keys in a folder of mode 0700."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from gatemeter.cli.embedded.broker import start_broker
from gatemeter.cli.embedded.children import Children
from gatemeter.processors.metadata.gateways import Connection, add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.topics import PARTITIONS, RETENTION_DAYS, wanted_topics
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.local.launcher import LocalClickHouse, start
from gatemeter.sinks.migrations import migrate

OPERATOR = "local-operator"
SEALER = "local-sealer"


@dataclass(frozen=True)
class Wanted:
    """What to run. `gateways`: id → kind; `drafts`: metadata to be in force before the first event; ports 0: any."""

    workers: int
    gateways: dict[str, str]
    drafts: Sequence[Draft]
    clickhouse_port: int = 0
    partitions: int = PARTITIONS


@dataclass(frozen=True)
class Embedded:
    """A running system. `kids`: gateway id → the key id of its secret in `secrets_file`."""

    bootstrap: str
    clickhouse: ClickHouseSettings
    folder: Path
    children: Children
    kids: dict[str, str]
    partitions: int

    @property
    def secrets_file(self) -> Path:
        """Secrets of all gateways."""
        return self.folder / "secrets.json"

    @property
    def operator_file(self) -> Path:
        """The private key of the operator."""
        return self.folder / "operator.json"

    def attestation_file(self, gateway: str) -> Path:
        """The private key with which a gateway attests what it sends."""
        return self.folder / f"{gateway}.attestation.json"

    @property
    def operator_keys_file(self) -> Path:
        """The public keys that workers trust."""
        return self.folder / "operators.json"

    @property
    def sealer_file(self) -> Path:
        """The private key with which hours are sealed."""
        return self.folder / "sealer.json"

    @property
    def sealers_file(self) -> Path:
        """Its public half: what gatemeter verify-proof needs."""
        return self.folder / "sealers.json"

    @property
    def password_file(self) -> Path:
        """The password of ClickHouse."""
        return self.folder / "clickhouse-password"

    @property
    def environment(self) -> dict[str, str]:
        """Where everything is, as workers and commands read it."""
        return {
            "GATEMETER_BOOTSTRAP": self.bootstrap,
            "GATEMETER_CLICKHOUSE_URL": self.clickhouse.url,
            "GATEMETER_CLICKHOUSE_USER": self.clickhouse.user,
            "GATEMETER_CLICKHOUSE_PASSWORD_FILE": str(self.password_file),
            "GATEMETER_SECRETS_FILE": str(self.secrets_file),
            "GATEMETER_OPERATOR_KEYS_FILE": str(self.operator_keys_file),
            "GATEMETER_SEALER_KEY_FILE": str(self.sealer_file),
            "GATEMETER_SEALERS_FILE": str(self.sealers_file),
        }

    def shell_file(self, gateway: str, kind: str) -> Path:
        """A file for shells: after it commands, and hooks of `gateway`, need no option to find this system."""
        own = {
            "GATEMETER_OPERATOR_KEY_FILE": str(self.operator_file),
            "GATEMETER_GATEWAY_ID": gateway,
            "GATEMETER_GATEWAY_KIND": kind,
            "GATEMETER_KID": self.kids[gateway],
            "GATEMETER_ATTESTATION_KEY_FILE": str(self.attestation_file(gateway)),
        }
        lines = [f"export {name}={quote(value)}\n" for name, value in (self.environment | own).items()]
        path = self.folder / "env"
        path.write_text("".join(lines), "utf-8")
        return path


@contextmanager
def embedded_system(wanted: Wanted, say: Callable[[str], None]) -> Iterator[Embedded]:
    """Starts everything, in order, and ends everything in reverse; the folder with keys and logs is deleted."""
    say("Starting ClickHouse and the broker")
    with (
        tempfile.TemporaryDirectory(prefix="gatemeter-", ignore_cleanup_errors=True) as name,
        start(port=wanted.clickhouse_port) as server,
        Children(Path(name), say) as children,
    ):
        bootstrap = start_broker(children)
        system = Embedded(bootstrap, _clickhouse(server), Path(name), children, {}, wanted.partitions)
        migrate(system.clickhouse)
        say("Putting tenants, prices and gateway keys in force")
        system = replace(system, kids=_put_in_force(system, wanted))
        say(f"Starting {wanted.workers} workers")
        for number in range(1, wanted.workers + 1):
            _start_worker(system, number)
        yield system


def _clickhouse(server: LocalClickHouse) -> ClickHouseSettings:
    return ClickHouseSettings(url=server.url, user=server.user, password=server.password)


def _put_in_force(system: Embedded, wanted: Wanted) -> dict[str, str]:
    operator = init_operator(system.operator_file, system.operator_keys_file, OPERATOR)
    init_operator(system.sealer_file, system.sealers_file, SEALER, "sealer")
    connection = Connection(system.bootstrap, operator)
    _make_topics(connection, wanted.partitions)
    # All of it before the first CONTROL: under the default parameters the floors would rise to half an hour ago, and
    # floors never sink again.
    connection.apply(list(wanted.drafts))
    kids = {
        gateway: add_gateway(
            connection, system.secrets_file, gateway, kind, attestation_path=system.attestation_file(gateway)
        ).kid
        for gateway, kind in wanted.gateways.items()
    }
    ensure_tick_gateway(connection, system.secrets_file)
    return kids


def _make_topics(connection: Connection, partitions: int) -> None:
    topics = wanted_topics(connection, partitions=partitions, retention_days=RETENTION_DAYS, embedded=True)
    admin = AdminClient({"bootstrap.servers": connection.bootstrap, "log_level": 0})
    made = admin.create_topics([NewTopic(topic.name, topic.partitions, 1) for topic in topics])
    for future in made.values():
        future.result(30)


def _start_worker(system: Embedded, number: int) -> None:
    if not system.password_file.exists():
        system.password_file.touch(mode=0o600)
        system.password_file.write_text(system.clickhouse.password, "utf-8")
    settings = {
        **system.environment,
        "GATEMETER_EMBEDDED_BROKER": "1",
        "GATEMETER_WORKER": f"worker-{number}",
        "GATEMETER_SEAL_EVERY_MS": "5000",
        "GATEMETER_SESSION_TIMEOUT_MS": "6000",
        "POLARS_MAX_THREADS": "1",
    }
    system.children.start(
        f"worker-{number}", [sys.executable, "-m", "gatemeter.cli.main", "worker"], settings, is_revived=True
    )
