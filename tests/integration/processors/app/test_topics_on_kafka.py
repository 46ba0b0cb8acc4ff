"""`topics apply` on Apache Kafka: made once, held to their shape, a CONTROL at the start of every partition."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType
from typer.testing import CliRunner

from gatemeter.cli.topics import topics_apply
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.topics import TopicsError, apply_topics
from gatemeter.schemas import codec
from support.kafka import KafkaBroker


@pytest.fixture
def connection(kafka: KafkaBroker, tmp_path: Path) -> Connection:
    name = uuid.uuid4().hex[:8]
    operator = init_operator(tmp_path / "operator.json", tmp_path / "operators.json", "ops")
    return Connection(kafka.bootstrap, operator, None, f"events-{name}", f"metadata-{name}")


def apply(connection: Connection, **options: Any) -> Any:
    return apply_topics(connection, seals_topic=connection.events_topic.replace("events", "seals"), **options)


def first_records(connection: Connection, partitions: int) -> list[tuple[int, str]]:
    """(offset, schema) of the first record of every partition."""
    consumer = Consumer({"bootstrap.servers": connection.bootstrap, "group.id": "reads", "enable.auto.commit": False})
    try:
        found = []
        for number in range(partitions):
            consumer.assign([TopicPartition(connection.events_topic, number, 0)])
            message = consumer.poll(20)
            assert message is not None
            assert message.error() is None
            found.append((message.offset(), codec.decode(message.value()).name))
        return found
    finally:
        consumer.close()


def test_every_partition_begins_with_a_control(connection: Connection) -> None:
    done = apply(connection, partitions=3)
    assert len(done.created) == 3
    assert first_records(connection, 3) == [(0, "Control")] * 3
    assert done.applied.metadata_offset == 1


def test_applying_again_creates_nothing_and_completes_the_controls(connection: Connection) -> None:
    apply(connection, partitions=3)
    again = apply(connection, partitions=3)
    assert again.created == ()
    assert again.applied.published == 0
    assert sorted(again.applied.control_offsets) == [0, 1, 2]


def test_topics_have_the_settings_that_money_needs(kafka: KafkaBroker, connection: Connection) -> None:
    apply(connection, partitions=2)
    admin = kafka.admin()

    def config(topic: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(20).items()}

    events = config(connection.events_topic)
    assert events["message.timestamp.type"] == "LogAppendTime"
    assert (events["retention.ms"], events["cleanup.policy"]) == (str(7 * 86_400_000), "delete")
    metadata = config(connection.metadata_topic)
    assert (metadata["retention.ms"], metadata["cleanup.policy"]) == ("-1", "delete")


def test_another_number_of_partitions_is_refused(connection: Connection) -> None:
    apply(connection, partitions=2)
    with pytest.raises(TopicsError, match="has 2 partitions, 4 are asked for: the number never changes"):
        apply(connection, partitions=4)


def test_a_topic_without_the_logs_clock_is_refused(kafka: KafkaBroker, connection: Connection) -> None:
    create_time = {"message.timestamp.type": "CreateTime"}
    kafka.create_topic(connection.events_topic, partitions=2, config=create_time)
    with pytest.raises(TopicsError, match=r"message\.timestamp\.type must be LogAppendTime, got CreateTime"):
        apply(connection, partitions=2)
    with pytest.raises(TopicsError, match="partitions must be 1 to 10000, got 0"):
        apply(connection, partitions=0)


def test_the_command_says_what_it_did_and_refuses_in_one_line(connection: Connection, tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(topics_apply)
    where = ["--bootstrap", connection.bootstrap, "--events-topic", connection.events_topic]
    options = [*where, "--metadata-topic", connection.metadata_topic, "--operator-key", str(tmp_path / "operator.json")]
    done = CliRunner().invoke(command, [*options, "--partitions", "2"])
    assert done.exit_code == 0, done.output
    assert connection.events_topic in done.output
    refused = CliRunner().invoke(command, [*options, "--partitions", "3"])
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {connection.events_topic} has 2 partitions")
    assert refused.stderr.count("\n") == 1
