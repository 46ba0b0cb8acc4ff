"""Conflicts on Apache Kafka: the copy that came first is read again from the log, however long ago it was folded."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from gatemeter.processors.fold.types import LoudStop
from gatemeter.processors.rereading import KafkaLogReader
from gatemeter.producers import new_request_id, now_us
from gatemeter.schemas import codec
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Processes
from support.spine import Spine


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes, partitions=1)


def events_of(value: bytes) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = codec.decode(value).datum["events"]
    return events


def test_both_copies_are_kept_as_bytes_also_by_a_worker_that_never_folded_the_first(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    call: dict[str, Any] = {"request_id": new_request_id(), "request_started_at": now_us(), "status": "ok"}
    emitter = spine.emitter()
    for tokens in (10, 11, 12):
        worker = spine.worker(clickhouse_database)
        emitter.response(input_text_uncached=tokens, **call)
        spine.emitter().close(30)  # something else behind it
        while emitter.counters().spooled:
            pass
        spine.wait_until_sunk(clickhouse_client, worker)
        worker.send(signal.SIGKILL)
        worker.wait()
    emitter.close(30)
    rows = clickhouse_client.query_arrow(
        "SELECT first_offset, offset, raw, first_raw, detail FROM exceptions FINAL"
        " WHERE kind = 'conflict' ORDER BY offset",
        use_strings=False,
    ).to_pylist()
    assert len(rows) == 2
    for row, tokens in zip(rows, (11, 12), strict=True):
        assert [event["input_text_uncached"] for event in events_of(row["raw"])] == [tokens]
        assert [event["input_text_uncached"] for event in events_of(row["first_raw"])] == [10]
        (tokens_differ,) = [
            entry for entry in json.loads(row["detail"])["differs"] if entry["field"] == "input_text_uncached"
        ]
        assert (tokens_differ["first"], tokens_differ["second"]) == (10, tokens)
    assert rows[0]["first_offset"] == rows[1]["first_offset"] < rows[0]["offset"]


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    name = f"again-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "acks": "all"})
    for number in range(3000):
        producer.produce(name, f"value {number}".encode(), b"k", 1, headers=[("h", b"1")])
    assert producer.flush(30) == 0
    return name


def test_scattered_records_are_read_again_in_order_and_known_afterwards(kafka: KafkaBroker, topic: str) -> None:
    wanted = [0, 1, 2, 700, 701, 1999, 2999]

    async def read() -> None:
        reader = KafkaLogReader({"bootstrap_servers": kafka.bootstrap}, isolation_level="read_committed")
        try:
            found = await reader.records(topic, 1, wanted)
            assert {offset: record.value for offset, record in found.items()} == {
                offset: f"value {offset}".encode() for offset in wanted
            }
            record = found[700]
            assert (record.offset, record.key, record.headers) == (700, b"k", (("h", b"1"),))
            assert record.timestamp_us > 1_700_000_000_000_000
            await reader.close()
            kept = reader._connected
            reader._connected = None  # type: ignore[method-assign,assignment]
            assert await reader.records(topic, 1, [2, 1999]) == {2: found[2], 1999: found[1999]}
            reader._connected = kept  # type: ignore[method-assign]
            assert (await reader.records(topic, 1, [5]))[5].value == b"value 5"
        finally:
            await reader.close()

    asyncio.run(read())


def test_a_record_that_is_gone_stops_loudly(kafka: KafkaBroker, topic: str) -> None:
    async def read() -> None:
        reader = KafkaLogReader({"bootstrap_servers": kafka.bootstrap}, isolation_level="read_committed")
        try:
            await reader.records(topic, 1, [3000 * 1000])
        finally:
            await reader.close()

    with pytest.raises(LoudStop, match="records that the fold still needs are gone"):
        asyncio.run(read())


def test_a_broker_that_is_away_is_asked_again(kafka: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatemeter.processors.rereading.RETRY_SECONDS", 0.2)

    async def read() -> bytes:
        reader = KafkaLogReader({"bootstrap_servers": "127.0.0.1:9"}, isolation_level="read_committed")
        reading = asyncio.create_task(reader.records(topic, 1, [7]))
        await asyncio.sleep(1)
        assert not reading.done()
        reader._client["bootstrap_servers"] = kafka.bootstrap
        try:
            return (await reading)[7].value
        finally:
            await reader.close()

    assert asyncio.run(read()) == b"value 7"
