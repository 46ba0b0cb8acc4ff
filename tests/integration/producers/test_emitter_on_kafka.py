"""On Apache Kafka: killed processes, a broker that is away, two processes on one spool. Nothing lost, no holes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from typer import Typer
from typer.testing import CliRunner

from gatemeter.cli.emit import emit
from gatemeter.producers import Emitter
from gatemeter.schemas import signing
from gatemeter.schemas.partitions import partition_of
from support.kafka import KafkaBroker, die_with_parent
from support.producers import Sent, request, request_ids, response, sequences, settings, wait_until

SCRIPT = Path(__file__).parents[2] / "support" / "emitting_process.py"
PARTITIONS = 3


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    name = f"events-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, partitions=PARTITIONS)
    return name


def read_all(kafka: KafkaBroker, topic: str) -> list[Sent]:
    """Every record of the topic, partition by partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "none", "enable.auto.commit": False})
    ends = kafka.end_offsets(topic, PARTITIONS)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    found: list[Sent] = []
    deadline = time.monotonic() + 30
    while len(found) < sum(ends):
        assert time.monotonic() < deadline
        for message in consumer.consume(500, 0.5):
            assert message.error() is None
            headers = dict(message.headers() or [])
            found.append(Sent(topic, message.partition(), message.key(), message.value(), headers))
    consumer.close()
    return sorted(found, key=lambda sent: sent.partition)


def assert_whole(records: list[Sent], ids: list[str]) -> None:
    """Every id is there, in its partition; no sequence is missing; a number never stands for two events."""
    assert set(ids) <= set(request_ids(records))
    for numbers in sequences(records).values():
        assert sorted(set(numbers)) == list(range(len(set(numbers))))
    meaning: dict[tuple[str, int, int], bytes] = {}
    for record in records:
        batch = record.batch
        for index, event in enumerate(batch["events"]):
            assert record.partition == partition_of(event["request_id"], PARTITIONS)
            place = (batch["epoch"], record.partition, batch["first_sequence"] + index)
            assert meaning.setdefault(place, event["content_hash"]) == event["content_hash"]


class Process:
    """The emitting process and what it has printed."""

    def __init__(self, *arguments: object) -> None:
        self.child = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert self.child.stdout is not None
        self.epoch = self.child.stdout.readline().split()[1]
        self.ids: list[str] = []

    def read(self, count: int) -> None:
        assert self.child.stdout is not None
        self.ids += [self.child.stdout.readline().strip() for _ in range(count)]

    def end(self, number: signal.Signals) -> dict[str, Any]:
        """Sends the signal; returns the report, if there is one."""
        self.child.send_signal(number)
        out, _ = self.child.communicate(timeout=60)
        lines = out.split("\n")
        self.ids += [line for line in lines if len(line) == 32]
        reports = [line for line in lines if line.startswith("report ")]
        return json.loads(reports[0].removeprefix("report ")) if reports else {}


@contextmanager
def emitting(*arguments: object) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.child.kill()
        process.child.wait(10)
        assert process.child.stdout is not None
        process.child.stdout.close()


def test_a_killed_process_loses_nothing(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    ids = []
    for _ in range(3):
        with emitting(tmp_path, kafka.bootstrap, topic, 2000) as process:
            process.read(1500)
            process.end(signal.SIGKILL)
            ids += process.ids
    report = Emitter(settings(tmp_path, bootstrap=kafka.bootstrap, topic=topic)).close(30)
    assert (report.undelivered, report.inherited_bytes) == (0, 0)
    assert len(ids) >= 4500
    assert_whole(read_all(kafka, topic), ids)
    assert not list(tmp_path.iterdir())


def test_sigterm_closes_the_epoch_in_order(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    with emitting(tmp_path, kafka.bootstrap, topic, 1000) as process:
        process.read(300)
        report = process.end(signal.SIGTERM)
    assert report["undelivered"] == 0
    records = read_all(kafka, topic)
    assert_whole(records, process.ids)
    last = {record.partition: record.batch for record in records}
    assert all(batch["closed"] for batch in last.values())
    assert sum(batch["first_sequence"] for batch in last.values()) == report["counters"]["emitted"]
    assert not list(tmp_path.iterdir())


def test_kafka_may_come_later_go_away_and_come_back(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    kafka.stop()
    emitter = Emitter(settings(tmp_path, bootstrap=kafka.bootstrap, topic=topic))
    try:
        events = [request() for _ in range(200)]
        assert all(emitter.request(event) for event in events)
        assert emitter.counters().spooled == 200
    finally:
        kafka.start()
    wait_until(lambda: emitter.counters().delivered == 200, 30)
    kafka.kill()
    try:
        more = [response() for _ in range(200)]
        assert all(emitter.response(event) for event in more)
        time.sleep(0.3)
        assert emitter.counters().spooled == 200
    finally:
        kafka.start()
    report = emitter.close(60)
    assert report.undelivered == 0
    assert_whole(read_all(kafka, topic), [event.request_id for event in (*events, *more)])


def test_close_says_how_many_were_not_delivered(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    emitter = Emitter(settings(tmp_path, bootstrap="127.0.0.1:1", topic=topic))
    events = [request() for _ in range(25)]
    for event in events:
        emitter.request(event)
    began = time.monotonic()
    report = emitter.close(1)
    assert (report.undelivered, report.kept) == (25, True)
    assert time.monotonic() - began < 10
    assert Emitter(settings(tmp_path, bootstrap=kafka.bootstrap, topic=topic)).close(30).undelivered == 0
    assert_whole(read_all(kafka, topic), [event.request_id for event in events])


def test_a_missing_topic_keeps_the_spool_and_does_not_make_one(kafka: KafkaBroker, tmp_path: Path) -> None:
    name = f"later-{uuid.uuid4().hex[:8]}"
    emitter = Emitter(settings(tmp_path, bootstrap=kafka.bootstrap, topic=name))
    event = request()
    emitter.request(event)
    time.sleep(1)
    assert emitter.counters().spooled == 1
    kafka.create_topic(name, partitions=PARTITIONS)
    assert emitter.close(30).undelivered == 0
    assert_whole(read_all(kafka, name), [event.request_id])


def test_two_processes_share_one_spool_folder(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    with (
        emitting(tmp_path, kafka.bootstrap, topic, 1000) as one,
        emitting(tmp_path, kafka.bootstrap, topic, 1000) as two,
    ):
        one.read(500)
        two.read(500)
        one.end(signal.SIGKILL)
        assert two.end(signal.SIGTERM)["undelivered"] == 0
    assert Emitter(settings(tmp_path, bootstrap=kafka.bootstrap, topic=topic)).close(30).inherited_bytes == 0
    records = read_all(kafka, topic)
    assert_whole(records, one.ids + two.ids)
    assert {one.epoch, two.epoch} <= {record.batch["epoch"] for record in records}


def test_a_host_that_forks_and_forgets_to_close_loses_nothing(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    script = SCRIPT.with_name("forking_process.py")
    command = [sys.executable, str(script), str(tmp_path), kafka.bootstrap, topic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=die_with_parent, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    records = read_all(kafka, topic)
    assert_whole(records, [])
    assert len(request_ids(records)) == len(set(request_ids(records))) == 500
    assert len({epoch for epoch, _ in sequences(records)}) == 3
    assert sum(record.batch["closed"] for record in records) == 3 * PARTITIONS
    assert not list(tmp_path.iterdir())


def test_a_replay_that_is_stopped_delivers_what_it_has_sent(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    lines = [
        json.dumps({"kind": "REQUEST", "request_id": f"r{number}", "request_started_at": number * 1000})
        for number in range(100_000)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    signing.save_secrets(tmp_path / "secrets.json", {"gw-1": b"k" * 32})
    options = (
        f"--gateway gw --kid gw-1 --secrets {tmp_path}/secrets.json --spool {tmp_path}/spool --topic {topic} --json"
    )
    command = [sys.executable, "-m", "gatemeter.cli.main", "emit", str(tmp_path / "t.jsonl"), *options.split()]
    child = subprocess.Popen(
        [*command, "--bootstrap", kafka.bootstrap], stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    )
    try:
        wait_until(lambda: sum(kafka.end_offsets(topic, PARTITIONS)) > 10, 30)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    report = json.loads(out)
    assert child.returncode == 1
    assert report["stopped"] and not report["undelivered"]
    assert 0 < report["delivered"] < 100_000
    assert_whole(read_all(kafka, topic), [f"r{number}" for number in range(report["delivered"])])


def test_a_trace_is_replayed_by_the_command(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:{number // 60:02}:{number % 60:02}.9799600,{number + 1},{number}" for number in range(1000)]
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    signing.save_secrets(tmp_path / "secrets.json", {"gw-1": b"k" * 32})
    app = Typer()
    app.command()(emit)
    options = f"--gateway gw --kid gw-1 --secrets {tmp_path}/secrets.json --spool {tmp_path}/spool --topic {topic}"
    command = [str(tmp_path / "t.csv"), *options.split(), "--bootstrap", kafka.bootstrap, "--speed", "max", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["delivered"] == 2000
    events = [event for record in read_all(kafka, topic) for event in record.batch["events"]]
    assert len(events) == 2000
    assert sum(event["input_text_uncached"] or 0 for event in events) == 500_500
    assert sum(event["output_text_visible"] or 0 for event in events) == 499_500
    assert max(event["occurred_at"] for event in events) <= time.time() * 1e6
