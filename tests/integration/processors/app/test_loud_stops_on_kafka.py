"""Loud stops on Apache Kafka: where going on would be a guess, the worker ends with one line that says what to do."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.topics import apply_topics
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.sender import Sender, response
from support.spine import Spine

QUIET = {"GATEMETER_TICK_AFTER_MS": "600000"}


class World:
    """A system with one partition, and some usage that a worker has folded."""

    def __init__(self, spine: Spine, database: ClickHouseSettings, client: Client) -> None:
        self.spine, self.database, self.client = spine, database, client

    def folded(self) -> None:
        """A worker folds what is there and ends."""
        sender = Sender(self.spine)
        for _ in range(3):
            sender.send(sender.batch(response()))
        sender.flush()
        worker = self.spine.worker(self.database, **QUIET)
        self.spine.wait_until_sunk(self.client, worker)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0

    def create_again(self, records: int) -> None:
        """The broker came back empty; somebody applied the topics and sent a few batches."""
        admin = self.spine.kafka.admin()
        admin.delete_topics([self.spine.topic])[self.spine.topic].result(30)
        eventually(lambda: self.spine.topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
        apply_topics(self.spine.connection, partitions=1, seals_topic=self.spine.seals_topic)
        sender = Sender(self.spine)
        for _ in range(records):
            sender.send(sender.batch(response()))
        sender.flush()

    def stops_with(self, **settings: str) -> str:
        """The line with which a worker ends."""
        worker = self.spine.worker(self.database, **QUIET, **settings)
        eventually(lambda: not worker.running, "the worker stops", 90)
        assert worker.wait() != 0, worker.log
        lines = [line for line in worker.log.splitlines() if "ERROR" in line or "CRITICAL" in line]
        told = [line for line in lines if self.spine.topic in line or self.spine.metadata_topic in line]
        assert told, worker.log
        assert "Traceback" not in worker.log
        return told[0]


@pytest.fixture
def world(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> Iterator[World]:
    with Processes(tmp_path) as processes:
        yield World(Spine(kafka, tmp_path, processes, partitions=1), clickhouse_database, clickhouse_client)


def test_a_log_that_came_back_shorter_names_a_new_generation(world: World) -> None:
    world.folded()
    world.create_again(0)
    line = world.stops_with()
    assert f"{world.spine.topic}[0]: the log ends at offset" in line
    assert "rows up to" in line and "the log was re-created or cut; restore it, or" in line
    assert f"--events-topic {world.spine.topic}.g2" in line


def test_trace_08_other_records_under_the_same_offsets_name_a_new_generation(world: World) -> None:
    world.folded()
    world.create_again(20)
    line = world.stops_with()
    assert "is not the one that was folded there: the log was re-created; restore it, or" in line
    assert f"--events-topic {world.spine.topic}.g2" in line


def test_another_number_of_partitions_names_a_new_generation(world: World) -> None:
    world.folded()
    admin = world.spine.kafka.admin()
    admin.create_partitions([NewPartitions(world.spine.topic, 2)])[world.spine.topic].result(30)
    eventually(lambda: len(admin.list_topics(timeout=10).topics[world.spine.topic].partitions) == 2, "there are two")
    line = world.stops_with()
    assert "has 2 partitions, its checkpoint was written with 1; the number never changes" in line
    assert f"--events-topic {world.spine.topic}.g2" in line


def test_a_log_without_a_control_at_its_start_names_topics_apply(world: World) -> None:
    name = f"{world.spine.topic}-bare"
    world.spine.kafka.create_topic(name, partitions=1, config={"message.timestamp.type": "LogAppendTime"})
    world.spine.topic = name
    sender = Sender(world.spine)
    sender.send(sender.batch(response()))
    sender.flush()
    line = world.stops_with()
    assert f"{name}[0]: the log does not start with a CONTROL record (offset 0)" in line
    assert line.rstrip().endswith("write one into every partition with: gatemeter topics apply")


def test_a_log_that_was_cut_names_the_command_that_accepts_the_gap(world: World) -> None:
    world.folded()
    end = world.spine.kafka.end_offsets(world.spine.topic, 1)[0]
    sender = Sender(world.spine)
    sender.send(sender.batch(response()))
    sender.flush()
    admin, place = world.spine.kafka.admin(), TopicPartition(world.spine.topic, 0, end + 1)
    admin.delete_records([place])[place].result(30)
    line = world.stops_with()
    assert f"the log starts at offset {end + 1}, but the fold needs it from" in line
    assert f"gatemeter topics accept-gap --events-topic {world.spine.topic} --partition 0 --reason TEXT" in line


def test_another_fold_release_names_what_to_install(world: World) -> None:
    world.folded()
    release = Draft("Parameters", {**parameters(world), "fold_release": 32_000})
    world.spine.apply(release)
    line = world.stops_with()
    assert "fold release 32000 is in force, this worker has" in line
    assert line.rstrip().endswith("install the release that the parameters name")


def parameters(world: World) -> dict[str, object]:
    """Those in force, as a record."""
    now = world.spine.connection.view().parameters
    names = ("version", "fast_below_us", "normal_below_us", "slow_below_us")
    return {
        **{name: getattr(now, name) for name in ("horizon_us", "future_bound_us", "orphan_timer_us", "grace_us")},
        "latency_thresholds": {name: getattr(now.latency, name) for name in names},
    }
