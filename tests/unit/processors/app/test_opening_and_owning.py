"""Opening a partition at its checkpoint, feeding it, pausing it, and letting it go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from gatemeter.processors import assignment
from gatemeter.processors import ownership as owning
from gatemeter.processors.assignment import Opener
from gatemeter.processors.flush import Flusher
from gatemeter.processors.fold.types import LogRecord, LoudStop, SecretMissing
from gatemeter.processors.metadata.log import NeedsMetadata
from gatemeter.processors.ownership import Ownership, Tools
from gatemeter.processors.transport import Chunk
from gatemeter.processors.trust import LiveTrust
from gatemeter.schemas.signing import save_secrets
from gatemeter.sinks.port import SinkUnavailable
from support.offset_worker import OFFSETS, FileSink, NoReader, OffsetFold, OffsetOutput, checkpoint_row

PLACE = TP("t", 0)


class Bounds:
    """A log of [earliest, end); the first `failures` questions fail."""

    def __init__(self, earliest: int = 0, end: int = 1_000, failures: int = 0) -> None:
        self.earliest, self.end, self.failures = earliest, end, failures

    async def partitions(self, topic: str) -> int:
        if self.failures:
            self.failures -= 1
            raise KafkaConnectionError("away")
        return 4

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.earliest, self.end


class FakeConsumer:
    """Notes what the owner asks for."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, int]] = []
        self.paused: set[TP] = set()
        self.acked: list[int] = []

    async def open_partition(self, tp: TP, offset: int, committed: int) -> None:
        self.opened.append((offset, committed))

    def is_current(self, message: Any) -> bool:
        return message.value.opening == len(self.opened)

    def pause_partitions(self, tps: set[TP]) -> None:
        self.paused |= tps

    def resume_partitions(self, tps: set[TP]) -> None:
        self.paused -= tps

    def at_end(self, tp: TP) -> bool:
        return True

    def ack(self, message: Any) -> bool:
        self.acked.append(message.value.end)
        return True


class WaitingFold(OffsetFold):
    """Raises `waits` first, one a call."""

    waits: ClassVar[list[Exception]] = []

    def fold(self, records: Sequence[LogRecord]) -> OffsetOutput:
        if WaitingFold.waits:
            raise WaitingFold.waits.pop(0)
        return super().fold(records)


def message(start: int, count: int, opening: int = 1, value: bytes = b"12345") -> Any:
    records = [LogRecord(offset, 0, None, value, ()) for offset in range(start, start + count)]
    chunk = Chunk(records, start, start + count, opening, 5 * count)
    return SimpleNamespace(tp=PLACE, value=chunk)


async def at_once(offset: int) -> None:
    return None


class Stage:
    """An ownership with everything around it in memory."""

    def __init__(self, folder: Path, bounds: Bounds, log_reader: Any = NoReader(), **tools: Any) -> None:  # noqa: B008
        self.sink = FileSink(folder / "sink")
        self.flusher = Flusher(self.sink, rows=1, interval_seconds=60, max_unflushed_rows=1_000)
        self.reloads = 0
        opener = Opener(self.sink, bounds, tools.pop("make_fold", WaitingFold), at_once)
        limits = {"fold_bytes": 1_000, "linger_seconds": 0.0, **tools}
        self.ownership = Ownership(
            Tools(opener, self.flusher, log_reader, self.reload, **limits), embedded_broker=False, stop_seconds=0.2
        )
        self.consumer = FakeConsumer()
        self._flushing = self.ownership.watch(asyncio.create_task(self.flusher.run()))

    def reload(self) -> None:
        self.reloads += 1

    async def own(self) -> None:
        self.ownership.assigned(self.consumer, [PLACE])  # type: ignore[arg-type]
        await until(lambda: self.consumer.opened)

    async def close(self) -> None:
        self._flushing.cancel()
        await self.ownership.stop()


async def until(condition: Any) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited 5 s")


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(owning, "SECRET_RETRY_SECONDS", 0.001)
    WaitingFold.waits = []


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path, Bounds())
    yield made
    await made.close()


async def test_a_partition_is_read_from_its_checkpoint(stage: Stage) -> None:
    from gatemeter.sinks.arrow import rows_to_arrow

    stage.sink.write("ingest_batches", rows_to_arrow("ingest_batches", [checkpoint_row("t", 0, 40)]))
    await stage.own()
    assert stage.consumer.opened == [(40, 40)]


async def test_a_failed_read_of_the_checkpoint_is_tried_again_and_never_means_none(tmp_path: Path) -> None:
    class Away:
        calls = 0

        def write(self, table: str, rows: Any) -> None:
            raise AssertionError("nothing is to be written")

        def latest_checkpoint(self, topic: str, partition: int) -> Mapping[str, Any]:
            self.calls += 1
            if self.calls < 3:
                raise SinkUnavailable("away")
            return {"next_offset": 7}

    sink = Away()
    opened = await Opener(sink, Bounds(failures=2), OffsetFold, at_once).open("t", 0)  # type: ignore[arg-type]
    assert (opened.fold.next_offset, opened.checkpoint_offset, sink.calls) == (7, 7, 3)


@pytest.mark.parametrize(("earliest", "end"), [(1, 10), (5, 5)])
async def test_a_log_that_does_not_begin_where_it_must_is_a_loud_stop(tmp_path: Path, earliest: int, end: int) -> None:
    with pytest.raises(LoudStop):
        await Opener(FileSink(tmp_path / "sink"), Bounds(earliest, end), OffsetFold, at_once).open("t", 0)


async def test_a_fold_that_needs_metadata_is_made_when_it_is_loaded(tmp_path: Path) -> None:
    waited: list[int] = []

    async def wait(offset: int) -> None:
        waited.append(offset)

    def make(topic: str, partition: int, partitions: int, checkpoint: Any) -> OffsetFold:
        if not waited:
            raise NeedsMetadata(9)
        return OffsetFold(topic, partition, partitions, checkpoint)

    await Opener(FileSink(tmp_path / "sink"), Bounds(), make, wait).open("t", 0)
    assert waited == [9]


async def test_what_is_folded_is_written_and_acknowledged(stage: Stage) -> None:
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    stage.ownership.deliver(message(3, 2))
    await until(lambda: stage.consumer.acked == [3, 5])
    assert sorted(stage.sink.written().elements()) == [(0, offset) for offset in range(5)]


async def test_a_partition_waits_for_a_secret_and_for_metadata(stage: Stage) -> None:
    WaitingFold.waits = [NeedsMetadata(4), SecretMissing("gw-1"), SecretMissing("gw-1")]
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    await until(lambda: stage.consumer.acked == [3])
    assert stage.reloads == 2
    assert stage.ownership.failure is None


async def test_a_full_inbox_pauses_the_partition_until_it_is_folded(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Bounds(), fold_bytes=20, linger_seconds=60.0)
    await stage.own()
    stage.ownership.deliver(message(0, 2))
    assert not stage.consumer.paused
    stage.ownership.deliver(message(2, 2))
    assert stage.consumer.paused == {PLACE}
    await until(lambda: stage.consumer.acked == [2, 4])
    assert not stage.consumer.paused
    await stage.close()


async def test_a_chunk_of_an_earlier_assignment_is_let_fall(stage: Stage) -> None:
    await stage.own()
    await stage.own()
    await until(lambda: len(stage.consumer.opened) == 2)
    stage.ownership.deliver(message(500, 3, opening=1))
    stage.ownership.deliver(message(0, 3, opening=2))
    await until(lambda: stage.consumer.acked == [3])
    assert stage.ownership.failure is None


async def test_a_chunk_that_is_lost_inside_the_worker_stops_it(stage: Stage) -> None:
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    stage.ownership.deliver(message(6, 3))
    assert "expected records from 3, got them from 6" in str(stage.ownership.failure)


async def test_revocation_writes_what_is_folded(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Bounds())
    stage._flushing.cancel()
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    await until(lambda: stage.flusher.unflushed_rows)
    await stage.ownership.revoked([PLACE])
    assert stage.consumer.acked == [3]
    assert stage.ownership.partitions == {}


async def test_revocation_does_not_wait_for_a_sink_that_is_away(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Bounds())
    stage._flushing.cancel()
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    await until(lambda: stage.flusher.unflushed_rows)
    (tmp_path / "sink" / "down").touch()
    await stage.ownership.revoked([PLACE])
    assert stage.consumer.acked == []
    (tmp_path / "sink" / "down").unlink()
    await until(lambda: stage.consumer.acked == [3])


async def test_a_loud_stop_is_said_once_and_nothing_more_is_folded(stage: Stage) -> None:
    said: list[BaseException] = []
    stage.ownership.on_failure = said.append
    WaitingFold.waits = [LoudStop("enough")]
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    await until(lambda: said)
    stage.ownership.deliver(message(3, 3))
    stage.ownership.fail(RuntimeError("later"))
    assert [str(error) for error in said] == ["enough"]
    assert stage.sink.read(OFFSETS) == []


def test_secrets_are_added_when_the_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    save_secrets(path, {"gw-1": bytes(32)})
    live = LiveTrust(path, {})
    save_secrets(path, {"gw-2": bytes(range(32))})
    live.reload()
    assert sorted(live.trust.secrets) == ["gw-1", "gw-2"]
    path.write_text(json.dumps({"gw-3": "short"}))
    live.reload()
    assert sorted(live.trust.secrets) == ["gw-1", "gw-2"]
    path.unlink()
    live.reload()
    assert sorted(live.trust.secrets) == ["gw-1", "gw-2"]


class WantingFold(OffsetFold):
    """Every output needs record 0 again."""

    def fold(self, records: Sequence[LogRecord]) -> OffsetOutput:
        output = super().fold(records)
        output.wanted = [0]
        return output


class SlowReader:
    """Answers when `ready` is set."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def records(self, topic: str, partition: int, offsets: Sequence[int]) -> dict[int, LogRecord]:
        await self.ready.wait()
        return {offset: LogRecord(offset, 0, None, b"", ()) for offset in offsets}


async def test_a_partition_waits_for_the_records_that_its_rows_need_and_writes_nothing_before(tmp_path: Path) -> None:
    reader = SlowReader()
    stage = Stage(tmp_path, Bounds(), reader, make_fold=WantingFold)
    await stage.own()
    stage.ownership.deliver(message(0, 3))
    owned = stage.ownership.partitions[PLACE]
    await until(lambda: owned.waiting_for.startswith("the records of conflicts"))
    assert stage.sink.read(OFFSETS) == []
    reader.ready.set()
    await until(lambda: stage.consumer.acked == [3])
    assert [row["offset"] for row in stage.sink.read(OFFSETS)] == [0, 1, 2]
    assert owned.waiting_for == ""
    await stage.close()
