"""The whole system for a test: topics, operator, tenants, a gateway, real workers, and a ClickHouse database."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.gateways import Connection, add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.keyrotation import public_attestation_keys
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.topics import apply_topics
from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.reports.attestations import AttestationKey, keys_from
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually

WORKER = "from gatemeter.cli.worker import worker; worker()"


class Spine:
    """One system. Workers of `worker()` write to `database`, as one consumer group a database."""

    def __init__(self, kafka: KafkaBroker, folder: Path, processes: Processes, *, partitions: int = 6) -> None:
        name = uuid.uuid4().hex[:8]
        self.kafka, self.folder, self.partitions = kafka, folder, partitions
        self.topic, self.metadata_topic, self.seals_topic = f"events-{name}", f"metadata-{name}", f"seals-{name}"
        self._processes = processes
        operator = init_operator(folder / "operator.json", folder / "operators.json", "ops")
        self.connection = Connection(kafka.bootstrap, operator, None, self.topic, self.metadata_topic)
        apply_topics(self.connection, partitions=partitions, seals_topic=self.seals_topic)
        ensure_tick_gateway(self.connection, folder / "secrets.json")
        self.attestation_file = folder / "litellm.attestation.json"
        secrets, attest = folder / "secrets.json", self.attestation_file
        self.kid = add_gateway(self.connection, secrets, "litellm", "inference_proxy", attestation_path=attest).kid

    @property
    def attestation_keys(self) -> dict[str, AttestationKey]:
        """The public keys that an auditor has, from the metadata."""
        return keys_from(public_attestation_keys(self.connection.view()))

    def apply(self, *drafts: Draft) -> None:
        """Puts metadata in force."""
        self.connection.apply(list(drafts))

    def emitter(self, **settings: Any) -> Emitter:
        """A gateway's emitter, without a spool on disk."""
        secret = load_secrets(self.folder / "secrets.json")[self.kid]
        where: dict[str, Any] = {"topic": self.topic, "spool_mode": "memory", "linger_ms": 20}
        where |= {"attestation_key_file": self.attestation_file, **settings}
        who = {"gateway_id": "litellm", "gateway_kind": "inference_proxy", "kid": self.kid, "secret": secret}
        return Emitter(EmitterSettings(bootstrap=self.kafka.bootstrap, **who, **where))

    def worker(
        self, database: ClickHouseSettings, *, command: Sequence[str] = (sys.executable, "-c", WORKER), **settings: str
    ) -> Process:
        """A worker process as `gatemeter worker` starts it, or by another command."""
        environment = {
            "GATEMETER_BOOTSTRAP": self.kafka.bootstrap,
            "GATEMETER_TOPIC": self.topic,
            "GATEMETER_METADATA_TOPIC": self.metadata_topic,
            "GATEMETER_GROUP": database.database,
            "GATEMETER_SECRETS_FILE": str(self.folder / "secrets.json"),
            "GATEMETER_OPERATOR_KEYS_FILE": str(self.folder / "operators.json"),
            "GATEMETER_CLICKHOUSE_URL": database.url,
            "GATEMETER_CLICKHOUSE_USER": database.user,
            "GATEMETER_CLICKHOUSE_PASSWORD": database.password,
            "GATEMETER_CLICKHOUSE_DATABASE": database.database,
            "GATEMETER_SESSION_TIMEOUT_MS": "6000",
            "GATEMETER_FLUSH_INTERVAL_MS": "200",
            "GATEMETER_TICK_AFTER_MS": "2000",
        }
        return self._processes.start(command, {**environment, **settings})

    def wait_until_sunk(self, client: Client, *workers: Process) -> None:
        """Returns when the checkpoints have reached what is the end of the log now."""
        ends = self.kafka.end_offsets(self.topic, self.partitions)

        def reached() -> bool:
            for worker in workers:
                assert worker.running, worker.log[-3000:]
            rows = client.query("SELECT partition, max(next_offset) FROM ingest_batches GROUP BY partition").result_rows
            at = dict(rows)
            return all(at.get(number, 0) >= end for number, end in enumerate(ends))

        eventually(reached, f"the checkpoints reach {ends}", 180)


def ordered(client: Client, table: str, without: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """All rows of a table as it stands after its duplicates have collapsed, in a fixed order."""
    final = "FINAL" if table in ("usage_facts", "policy_facts", "usage_windows") else ""
    query = (
        f"SELECT DISTINCT * EXCEPT ({', '.join(without)}) FROM {table} {final} ORDER BY ALL"
        if without
        else (f"SELECT DISTINCT * FROM {table} {final} ORDER BY ALL")
    )
    return list(client.query(query).result_rows)


def open_client(database: ClickHouseSettings) -> Client:
    """A client of a database; the caller closes it."""
    return connect(database)
