"""What may be committed: ends of chunks that are written, without one before them missing, of this assignment only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import NoOffsetForPartitionError
from aiokafka.structs import TopicPartition
from faust.types import TP, Message

from gatemeter.processors.app import build_app
from gatemeter.processors.fetched import Fetched
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.settings import load_settings
from gatemeter.processors.transport import BatchConsumer
from gatemeter.schemas.signing import save_secrets
from gatemeter.sinks.memory import MemorySink
from support.offset_worker import OffsetFold

PLACE = TP("gatemeter.events", 3)


def fetched(first: int, count: int, *, log_append_time: bool = True) -> Fetched:
    records = Fetched(
        LogRecord(offset, 7_000 + 1_000 * offset, b"k", b"value", (("h", b"1"),))
        for offset in range(first, first + count)
    )
    records.log_append_time = log_append_time
    return records


class Thread:
    """Stands for the consumer thread: notes where it was sent."""

    def __init__(self) -> None:
        self.opened: list[tuple[TP, int, int]] = []

    async def open_at(self, tp: TP, offset: int, opening: int) -> None:
        self.opened.append((tp, offset, opening))

    def assignment(self) -> set[TP]:
        return {PLACE}


@pytest.fixture
async def consumer(tmp_path: Path) -> BatchConsumer:
    save_secrets(tmp_path / "secrets.json", {})
    (tmp_path / "operators.json").write_text(json.dumps({"ops": "ab" * 32}))
    settings = load_settings(
        {
            "GATEMETER_SECRETS_FILE": str(tmp_path / "secrets.json"),
            "GATEMETER_OPERATOR_KEYS_FILE": str(tmp_path / "operators.json"),
            "GATEMETER_CLICKHOUSE_PASSWORD": "hidden",
        }
    )
    app = build_app(settings, MemorySink(), OffsetFold)
    made = app.consumer
    assert isinstance(made, BatchConsumer)
    made._thread.thread_loop.close()
    made._thread = Thread()  # type: ignore[assignment]
    return made


async def messages_of(consumer: BatchConsumer, opening: int, *batches: list[Any]) -> list[Message]:
    """What `getmany` yields for these fetches."""
    taken = []
    for batch in batches:

        async def next_records(timeout: float, batch: list[Any] = batch) -> Any:
            return {TopicPartition(*PLACE): (opening, batch)}, None

        consumer._wait_next_records = next_records  # type: ignore[method-assign]
        taken += [message async for _, message in consumer.getmany(1.0)]
    return taken


async def test_a_fetch_is_one_message_with_all_its_records(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 10, 0)
    (message,) = await messages_of(consumer, 1, fetched(10, 3))
    chunk = message.value
    assert (message.offset, chunk.start, chunk.end, chunk.size) == (12, 10, 13, 15)  # type: ignore[union-attr]
    assert chunk.records[0] == LogRecord(10, 17_000, b"k", b"value", (("h", b"1"),))  # type: ignore[union-attr]


async def test_a_commit_never_passes_a_chunk_that_is_not_written(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 0, 0)
    first, second, third = await messages_of(consumer, 1, fetched(0, 5), fetched(5, 5), fetched(20, 5))
    assert consumer.ack(second)
    assert consumer.ack(third)
    assert consumer._new_offset(PLACE) is None
    await consumer._add_gap(PLACE, 10, 20)
    assert consumer._new_offset(PLACE) is None
    assert consumer.ack(first)
    assert consumer._new_offset(PLACE) == 25
    assert consumer._new_offset(PLACE) is None
    assert not consumer.ack(first)


async def test_only_offsets_above_the_checkpoint_are_committed(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 0, 8)
    first, second = await messages_of(consumer, 1, fetched(0, 5), fetched(5, 5))
    consumer.ack(first)
    assert consumer._filter_committable_offsets([PLACE]) == {}
    consumer.ack(second)
    assert consumer._filter_committable_offsets([PLACE]) == {PLACE: 10}


async def test_an_acknowledgement_of_an_earlier_assignment_is_ignored(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 0, 0)
    (stale,) = await messages_of(consumer, 1, fetched(0, 5))
    await consumer.open_partition(PLACE, 0, 0)
    (current,) = await messages_of(consumer, 2, fetched(0, 5))
    assert not consumer.is_current(stale)
    assert not consumer.ack(stale)
    assert consumer._new_offset(PLACE) is None
    assert consumer.ack(current)
    assert consumer._new_offset(PLACE) == 5


async def test_records_fetched_before_the_partition_was_opened_are_let_fall(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 100, 0)
    await consumer.open_partition(PLACE, 50, 0)
    assert await messages_of(consumer, 1, fetched(100, 5)) == []
    (message,) = await messages_of(consumer, 2, fetched(50, 5))
    assert message.value.start == 50  # type: ignore[union-attr]


async def test_the_position_is_the_checkpoints_not_the_groups(consumer: BatchConsumer) -> None:
    await consumer.open_partition(PLACE, 42, 40)
    assert consumer._thread.opened == [(PLACE, 42, 1)]  # type: ignore[attr-defined]
    assert PLACE in consumer._get_active_partitions()


async def test_a_record_with_its_producers_time_stops_the_worker(consumer: BatchConsumer) -> None:
    failures: list[BaseException] = []
    consumer.owner.on_failure = failures.append  # type: ignore[attr-defined]
    await consumer.open_partition(PLACE, 0, 0)
    await messages_of(consumer, 1, fetched(0, 1, log_append_time=False))
    assert "message.timestamp.type=LogAppendTime" in str(failures[0])


async def test_a_partition_that_is_not_opened_yet_and_was_never_committed_is_waited_for(
    consumer: BatchConsumer,
) -> None:
    async def no_position(timeout: float) -> Any:
        raise NoOffsetForPartitionError(TopicPartition(*PLACE))

    consumer._wait_next_records = no_position  # type: ignore[method-assign]
    assert [message async for message in consumer.getmany(1.0)] == []
    await consumer.open_partition(PLACE, 0, 0)
    assert len(await messages_of(consumer, 1, fetched(0, 1))) == 1
