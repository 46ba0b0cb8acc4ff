"""One Apache Kafka, one embedded ClickHouse, metadata in force, and topics filled with the same events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from benchmarks.load import Said, Wire, records
from confluent_kafka import Producer

from gatemeter.cli.demo.people import GATEWAYS
from gatemeter.processors.metadata.gateways import Connection, add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.processors.topics import apply_topics
from gatemeter.schemas.signing import load_secrets
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.local.launcher import start

if TYPE_CHECKING:
    from support.clickhouse import ClickHouse
    from support.kafka import KafkaBroker

PARTITIONS: Final = 12
ROOT: Final = Path(__file__).resolve().parents[1]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Topic:
    """A loaded topic: `records` and `events` beyond CONTROL, re-sent batches counted once, and the end of each log."""

    name: str
    per_batch: int
    events: int
    ends: dict[int, int]


@dataclass(frozen=True)
class World:
    """Where everything is. `epoch` begins the gateways' one run."""

    broker: KafkaBroker
    clickhouse: ClickHouse
    folder: Path
    connection: Connection
    kids: dict[str, str]
    epoch: str

    def load(self, name: str, said: Sequence[Said], per_batch: int) -> Topic:
        """A new topic with these events."""
        self.create(name)
        wire = Wire(name, PARTITIONS, self.kids, load_secrets(self.folder / "secrets.json"), self.epoch)
        _produce(self.broker.bootstrap, name, records(said, per_batch, wire))
        ends = self.broker.end_offsets(name, PARTITIONS)
        return Topic(name, per_batch, len(said), dict(enumerate(ends)))

    def create(self, name: str) -> None:
        """A new, empty topic with its CONTROL records: what tenants, prices and keys are in force."""
        apply_topics(replace(self.connection, events_topic=name), partitions=PARTITIONS)

    def database(self) -> ClickHouseSettings:
        """A new database with all tables."""
        return self.clickhouse.migrated()

    def drop(self, database: ClickHouseSettings) -> None:
        """Forgets a database."""
        self.clickhouse.drop(database)

    def environment(self, topic: str, database: ClickHouseSettings) -> dict[str, str]:
        """Settings of one worker or rival; but for names and addresses the defaults, and no TICK into a shared log."""
        return {
            "GATEMETER_BOOTSTRAP": self.broker.bootstrap,
            "GATEMETER_TOPIC": topic,
            "GATEMETER_METADATA_TOPIC": self.connection.metadata_topic,
            "GATEMETER_GROUP": database.database,
            "GATEMETER_SECRETS_FILE": str(self.folder / "secrets.json"),
            "GATEMETER_OPERATOR_KEYS_FILE": str(self.folder / "operators.json"),
            "GATEMETER_CLICKHOUSE_URL": database.url,
            "GATEMETER_CLICKHOUSE_USER": database.user,
            "GATEMETER_CLICKHOUSE_PASSWORD": database.password,
            "GATEMETER_CLICKHOUSE_DATABASE": database.database,
            "GATEMETER_TICK_AFTER_MS": "600000",
            "PYTHONPATH": str(ROOT),
        }


@contextmanager
def world(say: Say, now_us: int) -> Iterator[World]:
    """Starts everything and ends everything."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.clickhouse import ClickHouse
    from support.kafka import KafkaBroker

    say("Starting Apache Kafka and the embedded ClickHouse")
    with (
        TemporaryDirectory(prefix="gatemeter-bench-") as name,
        KafkaBroker(heap="1g", measured=True) as broker,
        start() as server,
    ):
        folder = Path(name)
        operator = init_operator(folder / "operator.json", folder / "operators.json", "bench")
        connection = Connection(broker.bootstrap, operator, None, "events", "metadata")
        apply_topics(connection, partitions=PARTITIONS)
        connection.apply(_metadata())
        ensure_tick_gateway(connection, folder / "secrets.json")
        kids = {
            gateway: add_gateway(connection, folder / "secrets.json", gateway, kind).kid
            for gateway, kind in GATEWAYS.items()
        }
        yield World(broker, ClickHouse(server), folder, connection, kids, f"{now_us}-1-{1:016x}")


def _metadata() -> list[Draft]:
    examples = ROOT / "examples"
    card = Draft("RateCard", build_card(examples / "rates.yaml").datum)
    return [*read_tenants_file(examples / "tenants.yaml"), card]


def _produce(bootstrap: str, topic: str, to_send: Iterator[Any]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": "lz4"})
    failures: list[str] = []

    def report(error: Any, _: Any) -> None:
        if error is not None:
            failures.append(str(error))

    for record in to_send:
        while True:
            try:
                producer.produce(
                    topic, record.value, record.key, record.partition, on_delivery=report, headers=record.headers
                )
                break
            except BufferError:
                producer.poll(0.05)
    left = producer.flush(60)
    if left or failures:
        raise RuntimeError(f"{left + len(failures)} records could not be loaded into {topic}: {failures[:1]}")


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000
