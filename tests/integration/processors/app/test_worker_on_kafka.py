"""Workers on Apache Kafka with a fold that writes down offsets: nothing lost, nothing repeated without a crash."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from gatemeter.schemas.signing import OperatorKey, save_secrets
from support.kafka import KafkaBroker
from support.offset_worker import FileSink
from support.processes import Process, Processes, eventually

PARTITIONS = 6
WORKER = Path(__file__).parents[3] / "support" / "offset_worker.py"


class System:
    """A topic, a sink of files and workers of one group."""

    def __init__(self, kafka: KafkaBroker, folder: Path, processes: Processes) -> None:
        name = uuid.uuid4().hex[:8]
        self.kafka = kafka
        self.topic = f"events-{name}"
        self.sink = FileSink(folder / "sink")
        self.folder = folder
        self._processes = processes
        kafka.create_topic(self.topic, partitions=PARTITIONS)
        kafka.create_topic(f"metadata-{name}")
        save_secrets(folder / "secrets.json", {})
        operator = OperatorKey.generate("operator")
        (folder / "operators.json").write_text(json.dumps({operator.kid: operator.public_hex}))
        self.environment = {
            "GATEMETER_BOOTSTRAP": kafka.bootstrap,
            "GATEMETER_TOPIC": self.topic,
            "GATEMETER_METADATA_TOPIC": f"metadata-{name}",
            "GATEMETER_GROUP": f"group-{name}",
            "GATEMETER_SECRETS_FILE": str(folder / "secrets.json"),
            "GATEMETER_OPERATOR_KEYS_FILE": str(folder / "operators.json"),
            "GATEMETER_CLICKHOUSE_PASSWORD": "not used",
            "GATEMETER_FLUSH_INTERVAL_MS": "200",
            "GATEMETER_SESSION_TIMEOUT_MS": "6000",
            "GATEMETER_STOP_TIMEOUT_MS": "5000",
        }
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        self.produced = 0

    def worker(self, **settings: str) -> Process:
        command = [sys.executable, str(WORKER), str(self.folder / "sink")]
        return self._processes.start(command, {**self.environment, **settings})

    def produce(self, count: int, value: bytes = b"x" * 100) -> None:
        failed: list[object] = []
        for _ in range(count):
            self._producer.produce(
                self.topic,
                value,
                partition=self.produced % PARTITIONS,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            self.produced += 1
        assert self._producer.flush(60) == 0
        assert not failed

    def wait_until_written(self) -> None:
        eventually(lambda: len(self.sink.written()) >= self.produced, f"{self.produced} records written")

    def committed(self) -> int:
        """Sum of what the group has committed."""
        from confluent_kafka import Consumer, TopicPartition

        group = self.environment["GATEMETER_GROUP"]
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": group})
        try:
            asked = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            return sum(max(found.offset, 0) for found in consumer.committed(asked, timeout=20))
        finally:
            consumer.close()


@pytest.fixture
def system(kafka: KafkaBroker, tmp_path: Path) -> Iterator[System]:
    with Processes(tmp_path) as processes:
        yield System(kafka, tmp_path, processes)


def test_sigterm_scale_out_and_scale_in_lose_and_repeat_nothing(system: System) -> None:
    first = system.worker()
    system.produce(3_000)
    system.wait_until_written()
    second = system.worker()
    eventually(lambda: "going on at offset" in second.log, "the second worker owns partitions")
    system.produce(3_000)
    first.send(signal.SIGTERM)
    system.produce(3_000)
    assert first.wait() == 0
    system.wait_until_written()
    second.send(signal.SIGTERM)
    assert second.wait() == 0
    written = system.sink.written()
    assert len(written) == system.produced
    assert set(written.values()) == {1}
    assert system.committed() == system.produced


def test_a_killed_worker_loses_nothing_and_only_what_had_no_checkpoint_is_repeated(system: System) -> None:
    killed = system.worker()
    for _ in range(8):
        system.produce(1_000)
        time.sleep(0.1)
    eventually(lambda: system.sink.written(), "the first rows")
    killed.kill()
    checkpointed = {
        number: (system.sink.latest_checkpoint(system.topic, number) or {"next_offset": 0})["next_offset"]
        for number in range(PARTITIONS)
    }
    system.produce(1_000)
    successor = system.worker()
    system.wait_until_written()
    successor.send(signal.SIGTERM)
    assert successor.wait() == 0
    written = system.sink.written()
    assert len(written) == system.produced
    repeated = {place for place, count in written.items() if count > 1}
    assert all(offset >= checkpointed[partition] for partition, offset in repeated)


def test_a_sink_that_is_away_pauses_the_worker_and_nothing_is_lost(system: System) -> None:
    down = system.folder / "sink" / "down"
    down.touch()
    worker = system.worker()
    eventually(lambda: "its checkpoint cannot be read now" in worker.log, "the read of the checkpoint is tried again")
    down.unlink()
    system.produce(600)
    system.wait_until_written()
    down.touch()
    system.produce(600)
    eventually(lambda: "ClickHouse is not available" in worker.log, "the write is tried again")
    assert worker.running
    committed = system.committed()
    assert committed <= 600
    down.unlink()
    system.wait_until_written()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert set(system.sink.written().values()) == {1}


def test_a_refused_write_stops_the_worker_with_one_clear_line(system: System) -> None:
    (system.folder / "sink" / "refuse").touch()
    worker = system.worker()
    system.produce(60)
    assert worker.wait() == 1
    assert "worker stops: no table" in worker.log
    assert "Traceback" not in worker.log
    assert system.committed() == 0


def test_a_loud_stop_ends_the_worker_and_keeps_what_was_folded_before(system: System) -> None:
    worker = system.worker()
    system.produce(600)
    system.wait_until_written()
    system.produce(PARTITIONS, b"stop")
    assert worker.wait() == 1
    assert worker.log.count("worker stops: record 100 says stop") == 1
    assert "Traceback" not in worker.log
    assert len(system.sink.written()) == 600
    assert system.committed() == 600


def test_a_bug_in_the_fold_ends_the_worker_and_says_where(system: System) -> None:
    worker = system.worker()
    system.produce(6, b"bug")
    assert worker.wait() == 1
    assert "a bug in the fold" in worker.log
    assert "Traceback" in worker.log
    assert not system.sink.written()


def test_records_that_carry_their_producers_time_are_refused(system: System) -> None:
    system.kafka.create_topic(f"{system.topic}-c", partitions=1, config={"message.timestamp.type": "CreateTime"})
    worker = system.worker(GATEMETER_TOPIC=f"{system.topic}-c")
    producer = Producer({"bootstrap.servers": system.kafka.bootstrap})
    producer.produce(f"{system.topic}-c", b"x")
    assert producer.flush(30) == 0
    assert worker.wait() == 1
    assert "message.timestamp.type=LogAppendTime" in worker.log
    assert not system.sink.written()


def test_a_wrong_setting_ends_the_program_with_one_line(system: System) -> None:
    worker = system.worker(GATEMETER_FLUSH_ROWS="many")
    assert worker.wait() != 0
    assert "GATEMETER_FLUSH_ROWS must be an integer from 100 to 1000000, got 'many'" in worker.log


def test_a_broker_that_restarts_loses_and_repeats_nothing(system: System) -> None:
    worker = system.worker()
    system.produce(600)
    system.wait_until_written()
    system.kafka.stop()
    system.kafka.start()
    system.produce(600)
    system.wait_until_written()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert set(system.sink.written().values()) == {1}
