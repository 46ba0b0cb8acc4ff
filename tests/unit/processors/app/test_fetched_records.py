"""Whole Kafka batches in, the fold's records out: the same ones, positions and errors as aiokafka's own `getall`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from gatemeter.processors.fetched import Fetched, Results
from gatemeter.processors.fold.types import LogRecord

PLACE = TopicPartition("gatemeter.events", 3)
ATTRIBUTES = slice(21, 23)
LOG_APPEND_TIME, CONTROL = 0x08, 0x20


def batch(first: int, count: int, *, producer: int = -1, transactional: bool = False, flags: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, transactional, producer, 0, 0, 1 << 20)
    for delta in range(count):
        builder.append(delta, 7_000 + first + delta, b"k", b"v%d" % (first + delta), [("h", b"1")])
    return with_flags(builder.build(), first, flags)


def with_flags(built: bytearray, first: int, flags: int) -> bytes:
    """A builder numbers from 0 and knows no flags; the checksum begins behind the offset and in front of the flags."""
    from aiokafka.record.util import calc_crc32c_py as crc32c

    built[:8] = first.to_bytes(8, "big")
    built[ATTRIBUTES] = (int.from_bytes(built[ATTRIBUTES], "big") | flags).to_bytes(2, "big")
    built[17:21] = crc32c(bytes(built[21:])).to_bytes(4, "big")
    return bytes(built)


def abort_marker(offset: int, producer: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, True, producer, 0, -1, 1 << 20)
    builder.append(0, 7_000, b"\x00\x00\x00\x00", b"\x00" * 6, [])
    return with_flags(builder.build(), offset, CONTROL)


class Assignment:
    """Stands for the assignment: active, at one position."""

    active = True

    def __init__(self, position: int) -> None:
        self.position = position
        self.paused = False

    def state_value(self, tp: TopicPartition) -> Any:
        return SimpleNamespace(position=self.position, paused=self.paused, consumed_to=self._moved)

    def _moved(self, position: int) -> None:
        self.position = position


def result(buffer: bytes, assignment: Assignment, aborted: Sequence[tuple[int, int]] = ()) -> FetchResult:
    records = PartitionRecords(
        PLACE, MemoryRecords(buffer), list(aborted), assignment.position, None, None, True, READ_COMMITTED
    )
    return FetchResult(PLACE, assignment=assignment, partition_records=records, backoff=0)


def quick(buffer: bytes, assignment: Assignment, aborted: Sequence[tuple[int, int]] = ()) -> FetchResult:
    results = Results()
    results[PLACE] = result(buffer, assignment, aborted)
    return results[PLACE]


def as_log(records: Sequence[Any]) -> list[LogRecord]:
    return [LogRecord(r.offset, r.timestamp * 1000, r.key, r.value or b"", r.headers) for r in records]


LOGS = {
    "plain": (batch(5, 4) + batch(9, 3), 5, ()),
    "from the middle of a batch": (batch(5, 4) + batch(9, 3), 7, ()),
    "with a hole": (batch(5, 4) + batch(90, 3), 5, ()),
    "aborted": (
        batch(5, 2, producer=7, transactional=True) + batch(7, 2) + abort_marker(9, 7) + batch(10, 2),
        5,
        ((7, 5),),
    ),
    "nothing but a marker": (abort_marker(5, 7), 5, ((7, 5),)),
}


@pytest.mark.parametrize("most", [None, 1, 2, 3, 4, 100])
@pytest.mark.parametrize("name", LOGS)
def test_it_gives_what_aiokafka_gives_at_the_same_positions(name: str, most: int | None) -> None:
    buffer, position, aborted = LOGS[name]
    theirs, ours = Assignment(position), Assignment(position)
    slow, fast = result(buffer, theirs, aborted), quick(buffer, ours, aborted)
    taken: list[LogRecord] = []
    expected: list[LogRecord] = []
    while slow.has_more():
        expected += as_log(slow.getall(most))
    while fast.has_more():
        part = fast.getall(most)
        assert most is None or len(part) <= most
        taken += part
        assert ours.position > (taken[-1].offset if taken else position)
    assert taken == expected
    assert ours.position == theirs.position


def test_it_says_who_set_the_timestamps() -> None:
    broker, both = batch(5, 2, flags=LOG_APPEND_TIME), batch(5, 2, flags=LOG_APPEND_TIME) + batch(7, 2)
    assert quick(broker, Assignment(5)).getall(None).log_append_time
    assert not quick(both, Assignment(5)).getall(None).log_append_time
    half = quick(both, Assignment(5))
    assert [half.getall(2).log_append_time, half.getall(2).log_append_time] == [True, False]


def test_a_broken_batch_is_an_error_and_is_never_passed() -> None:
    broken = bytearray(batch(7, 2))
    broken[-1] ^= 1
    assignment = Assignment(5)
    fetched = quick(batch(5, 2) + bytes(broken) + batch(9, 2), assignment)
    assert [record.offset for record in fetched.getall(2)] == [5, 6]
    with pytest.raises(CorruptRecordException):
        fetched.getall(2)
    assert fetched.getall(2) == []
    assert (assignment.position, fetched.has_more()) == (7, False)


def test_what_was_fetched_for_another_position_or_while_paused_is_let_fall() -> None:
    elsewhere, paused = Assignment(5), Assignment(5)
    moved, stopped = quick(batch(5, 4), elsewhere), quick(batch(5, 4), paused)
    elsewhere.position, paused.paused = 6, True
    assert moved.getall(None) == stopped.getall(None) == Fetched()
    assert not moved.has_more() and not stopped.has_more()


def test_an_error_stays_what_it_is() -> None:
    results = Results({PLACE: FetchError(error=ValueError("x"), backoff=0)})
    with pytest.raises(ValueError, match="x"):
        results[PLACE].check_raise()
    assert isinstance(Results({PLACE: result(batch(5, 1), Assignment(5))})[PLACE].getall(None), Fetched)
