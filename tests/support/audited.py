"""A system whose traffic is sunk and whose workers have stopped, and copies of its database to tamper with."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from gatemeter.processors.admission import Trust
from gatemeter.processors.auditing.checks import Checks, Sources
from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.processors.sealing.anchors import Anchor, FolderAnchor
from gatemeter.processors.sealing.chain import SealsRecord
from gatemeter.processors.sealing.hours import Place
from gatemeter.processors.sealing.reading import SealReader
from gatemeter.processors.sealing.sealer import Sealer, Trusted
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic
from gatemeter.producers import Emitter, new_request_id, now_us
from gatemeter.schemas.seals import HOUR_US
from gatemeter.schemas.signing import OperatorKey, load_secrets
from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from gatemeter.sinks.reports.audit import Audit, Finding, Result, run_checks
from support.clickhouse import ClickHouse
from support.mutations import mutate
from support.seals import SEALER
from support.spine import Spine

EXAMPLES = Path(__file__).parents[2] / "examples"


def emit(emitter: Emitter, count: int) -> None:
    """`count` requests of three events each, some of them retried, some told twice in other words."""
    for number in range(count):
        call: dict[str, Any] = {
            "request_id": new_request_id(),
            "request_started_at": now_us(),
            "tenant_id": ("retail-banking", "engineering", "nobody")[number % 3],
            "app_id": "mobile-assistant",
            "identity_source": "verified_credential",
            "provider": "openai",
            "model": "gpt-4o",
        }
        usage = {"usage_source": "reported", "input_text_uncached": 100 + number, "output_text_visible": 10}
        assert emitter.request(**call)
        assert emitter.policy(decision_id=new_request_id(), policy_id="pii-redaction", outcome="allow", **call)
        if number % 5 == 0:
            assert emitter.response(status="error", delivered=False, **call, **usage)
            assert emitter.request(**call, attempt=2)
            assert emitter.response(status="ok", attempt=2, **call, **usage)
        else:
            assert emitter.response(status="ok", delivered=True, **call, **usage)
        if number % 50 == 1:
            assert emitter.response(status="ok", delivered=True, **call, **usage, latency_us=7)


@dataclass
class Audited:
    """A database and the log that it was made of."""

    spine: Spine
    database: ClickHouseSettings
    client: Client
    seals_topic: str

    def sources(self, **changes: Any) -> Sources:
        """All that an auditor may give."""
        trust = self.trust
        given = Sources(
            self.client,
            kafka=Kafka(self.spine.kafka.bootstrap),
            operator_keys=trust.operator_keys,
            secrets=trust.secrets,
            refold=True,
            events_topic=self.spine.topic,
            metadata_topic=self.spine.metadata_topic,
            seals_topic=self.seals_topic,
            sealers={SEALER.kid: SEALER.public_hex},
            anchors=(str(self.spine.folder / "anchor"),),
        )
        return replace(given, **changes)

    @property
    def trust(self) -> Trust:
        """Secrets and operators' public keys of this system."""
        return Trust(load_secrets(self.spine.folder / "secrets.json"), self.spine.connection.trusted)

    def audit(self, *only: str, **changes: Any) -> Audit:
        """The audit, without waiting for workers: none runs."""
        checks = Checks(self.sources(**changes))
        names = frozenset(only) or checks.names
        return run_checks(checks.chosen(names), looks=1, pause=timedelta(0))

    def wrong(self, *only: str, **changes: Any) -> list[Finding]:
        """What the audit finds wrong."""
        return self.audit(*only, **changes).of(Result.WRONG)

    def change(self, table: str, assignment: str, where: str) -> None:
        """Rewrites rows in place, as somebody with the administrator's rights could."""
        mutate(self.client, table, f"UPDATE {assignment} WHERE {where}")

    def delete(self, table: str, where: str) -> None:
        """Deletes rows for good."""
        mutate(self.client, table, f"DELETE WHERE {where}")

    def insert_changed(self, table: str, replacing: str, where: str) -> None:
        """Copies rows with some columns replaced: `replacing` is a list of `expression AS column`."""
        rows = f"(SELECT * FROM {table} FINAL WHERE {where})"
        self.client.command(f"INSERT INTO {table} SELECT * REPLACE ({replacing}) FROM {rows}")

    def records(self) -> list[SealsRecord]:
        """The records of the topic of seals."""
        return self._topic(self.spine.seals_topic).read(0)

    def rewrite_topic(self, records: Sequence[SealsRecord]) -> None:
        """From now on the topic of seals is one that holds these records."""
        self.seals_topic = f"seals-{uuid.uuid4().hex[:8]}"
        self.spine.kafka.create_topic(self.seals_topic)
        topic = self._topic(self.seals_topic)
        for record in records:
            topic.append(b"", record.value, [(name, value or b"") for name, value in record.headers.items()])

    def seal(self, key: OperatorKey, anchors: Sequence[Anchor] = ()) -> None:
        """Somebody with this key seals what is over, in this database and its topic."""
        seal(self.spine, self.database, key, self.seals_topic, anchors)

    def _topic(self, name: str) -> KafkaSealsTopic:
        return KafkaSealsTopic(self.spine.kafka.bootstrap, name, self.spine.topic)

    def one(self, query: str) -> Any:
        """The first value of a query."""
        return self.client.query(query).result_rows[0][0]


def sunk(spine: Spine, clickhouse: ClickHouse, requests: int) -> ClickHouseSettings:
    """Sends requests through a worker into a new database; the worker has ended."""
    database = clickhouse.migrated()
    card = Draft("RateCard", build_card(EXAMPLES / "rates.yaml").datum)
    spine.apply(*read_tenants_file(EXAMPLES / "tenants.yaml"), card)
    worker = spine.worker(database, GATEMETER_TICK_AFTER_MS="600000")
    emitter = spine.emitter()
    emit(emitter, requests)
    assert emitter.close(30).undelivered == 0
    stranger = Producer({"bootstrap.servers": spine.kafka.bootstrap})
    stranger.produce(spine.topic, b"no record of ours", partition=1)
    assert stranger.flush(30) == 0
    client = connect(database)
    spine.wait_until_sunk(client, worker)
    client.close()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    seal(spine, database, SEALER, spine.seals_topic, [FolderAnchor(spine.folder / "anchor")])
    return database


class _Later(SealReader):
    """Every partition has long passed every hour: no test can wait for one."""

    def floors(self, places: Sequence[Place]) -> dict[Place, int | None]:
        return dict.fromkeys(places, now_us() + 100 * HOUR_US)


def seal(
    spine: Spine, database: ClickHouseSettings, key: OperatorKey, seals_topic: str, anchors: Sequence[Anchor]
) -> None:
    """Seals the hours of the traffic and one empty hour after it."""
    client = connect(database)
    topic = KafkaSealsTopic(spine.kafka.bootstrap, seals_topic, spine.topic)
    trusted = Trusted({key.kid: key.public_hex}, spine.connection.trusted)
    sealer = Sealer(client, ClickHouseSink(database), topic, key, trusted, seals_topic=seals_topic, anchors=anchors)
    sealer._reader = _Later(client)
    last = client.query("SELECT toUnixTimestamp64Micro(max(posted_hour)) FROM usage_facts").result_rows[0][0]
    done = sealer.run(int(last) + HOUR_US)
    assert len(done.hours) >= 2, done
    client.close()


@contextmanager
def copy_of(spine: Spine, clickhouse: ClickHouse, original: ClickHouseSettings) -> Iterator[Audited]:
    """A database with the same rows, to tamper with. No worker writes to it, so that the next test may have it."""
    database, objects = clickhouse.lent()
    client = connect(database)
    try:
        filled = "SELECT DISTINCT table FROM system.parts WHERE active AND database = {of:String}"
        for (table,) in client.query(filled, {"of": original.database}).result_rows:
            if table in TABLES:
                client.command(f"INSERT INTO {table} SELECT * FROM {original.database}.{table}")
        yield Audited(spine, database, client, spine.seals_topic)
    finally:
        client.close()
        clickhouse.leave(database, objects)
