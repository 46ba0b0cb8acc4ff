"""Rows, then checkpoints, then acknowledgements; the same rows again while the sink is away; none after a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from gatemeter.processors import flush as flushing
from gatemeter.processors.flush import Entry, Flusher
from gatemeter.sinks.port import SinkRefused, SinkUnavailable
from support.offset_worker import OFFSETS, OffsetOutput, checkpoint_row


class ListSink:
    """Notes every write; raises what is in `failures` first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.writes: list[tuple[str, list[dict[str, Any]]]] = []

    def write(self, table: str, rows: pa.Table) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.writes.append((table, rows.to_pylist()))

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        return None


def entry(written: list[str], partition: int, next_offset: int, rows: int = 1, *, replay: bool = False) -> Entry:
    tables = {} if replay else {OFFSETS: pa.table({"offset": list(range(rows))})}
    checkpoint = None if replay else checkpoint_row("t", partition, next_offset)
    output = OffsetOutput(tables, checkpoint, next_offset, rows)
    return Entry(("t", partition), output, lambda: written.append(f"{partition}@{next_offset}"))


def flusher(sink: ListSink, **limits: Any) -> Flusher:
    return Flusher(sink, **{"rows": 1_000, "interval_seconds": 60.0, "max_unflushed_rows": 1_000, **limits})


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "FIRST_DELAY_SECONDS", 0.001)


async def test_rows_of_all_partitions_come_before_the_last_checkpoint_of_each() -> None:
    sink, written = ListSink(), list[str]()
    flush = flusher(sink)
    for partition, next_offset in ((1, 5), (2, 7), (1, 9)):
        flush.add(entry(written, partition, next_offset))
    await flush.flush()
    assert [table for table, _ in sink.writes] == [OFFSETS, "ingest_batches"]
    assert len(sink.writes[0][1]) == 3
    assert {(row["partition"], row["next_offset"]) for row in sink.writes[1][1]} == {(1, 9), (2, 7)}
    assert written == ["1@5", "2@7", "1@9"]
    assert flush.unflushed_rows == 0


async def test_a_replay_is_acknowledged_without_a_write() -> None:
    sink, written = ListSink(), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5, replay=True))
    await flush.flush()
    assert (sink.writes, written) == ([], ["1@5"])


async def test_the_same_rows_are_written_again_until_the_sink_takes_them() -> None:
    away = SinkUnavailable("away", timedelta(milliseconds=1))
    sink, written = ListSink(away, away, away), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5, rows=3))
    await flush.flush()
    assert [(table, len(rows)) for table, rows in sink.writes] == [(OFFSETS, 3), ("ingest_batches", 1)]
    assert flush.figures.retries == 3
    assert flush.figures.waiting_for_sink == ""


async def test_a_refused_write_leaves_no_checkpoint_and_no_acknowledgement() -> None:
    sink, written = ListSink(SinkRefused("unknown column")), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5))
    with pytest.raises(SinkRefused):
        await flush.flush()
    assert (sink.writes, written) == ([], [])


async def test_after_a_refused_write_no_later_checkpoint_speaks_for_its_rows() -> None:
    sink, written = ListSink(SinkRefused("row too large")), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5, rows=3))
    with pytest.raises(SinkRefused):
        await flush.flush()
    flush.add(entry(written, 1, 9, rows=2))  # folded while the first write was under way
    await flush.flush()  # the last one before the worker ends
    assert [(table, len(rows)) for table, rows in sink.writes] == [(OFFSETS, 5), ("ingest_batches", 1)]
    assert written == ["1@5", "1@9"]


async def test_rows_of_a_write_that_was_cut_off_come_before_later_checkpoints() -> None:
    sink, written = ListSink(SinkUnavailable("away", timedelta(hours=1))), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5, rows=3))
    under_way = asyncio.create_task(flush.flush())
    while not flush.figures.retries:
        await asyncio.sleep(0.001)
    under_way.cancel()
    await asyncio.wait([under_way])
    flush.add(entry(written, 1, 9, rows=2))
    await flush.flush()
    assert [(table, len(rows)) for table, rows in sink.writes] == [(OFFSETS, 5), ("ingest_batches", 1)]
    assert written == ["1@5", "1@9"]
    assert flush.unflushed_rows == 0


async def test_the_fold_waits_while_too_much_is_unflushed() -> None:
    flush = flusher(ListSink(), rows=10, max_unflushed_rows=10)
    flush.add(entry([], 1, 5, rows=20))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flush.room(), 0.01)
    await flush.flush()
    await asyncio.wait_for(flush.room(), 5)


async def test_what_waits_for_a_partition_that_is_gone_is_forgotten() -> None:
    sink, written = ListSink(), list[str]()
    flush = flusher(sink)
    flush.add(entry(written, 1, 5))
    flush.add(entry(written, 2, 6))
    flush.drop(("t", 1))
    await flush.flush()
    assert written == ["2@6"]
    assert flush.unflushed_rows == 0


async def running(flush: Flusher, act: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(flush.run())
    try:
        await act()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_many_rows_are_flushed_before_the_interval_is_over() -> None:
    sink = ListSink()
    flush = flusher(sink, rows=10, interval_seconds=3600.0)
    done = asyncio.Event()

    async def act() -> None:
        output = entry([], 1, 5, rows=20).output
        flush.add(Entry(("t", 1), output, done.set))
        await asyncio.wait_for(done.wait(), 10)

    await running(flush, act)
    assert sink.writes


async def test_few_rows_are_flushed_when_the_interval_is_over() -> None:
    flush = flusher(ListSink(), interval_seconds=0.01)
    done = asyncio.Event()

    async def act() -> None:
        flush.add(Entry(("t", 1), entry([], 1, 5).output, done.set))
        await asyncio.wait_for(done.wait(), 10)

    await running(flush, act)
