"""What a dead process left is sent again under its own numbers; what lives is left alone; damage is never hidden."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatemeter.producers import Emitter
from gatemeter.producers.complaints import Complaints
from gatemeter.producers.emitter import new_epoch
from gatemeter.producers.encoding import request_id_of
from gatemeter.producers.folders import EpochFolder
from gatemeter.producers.segments import FileSegment, read_header, read_records
from gatemeter.producers.spool import Spool
from gatemeter.producers.validation import spool_form
from support.producers import FakeTransport, request, request_ids, sequences, settings, wait_until


def _die_with(work: Callable[[], None]) -> None:
    """Runs `work` in a child that then dies by SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def _emit_and_die(folder: Path, events: int, partitions: int | None, **changed: object) -> list[str]:
    """A process that emits while Kafka is away. `partitions` None: it never learnt their number."""
    prepared = [request() for _ in range(events)]

    def work() -> None:
        transport = FakeTransport(partitions or 4)
        transport.up = partitions is not None
        emitter = Emitter(settings(folder, **changed), connect=transport)
        if partitions:
            wait_until(lambda: len(transport.sent) == partitions)
            transport.up = False
        for event in prepared:
            assert emitter.request(event)

    _die_with(work)
    return [event.request_id for event in prepared]


@pytest.mark.parametrize("partitions", [4, None])
def test_a_killed_process_loses_nothing(tmp_path: Path, partitions: int | None) -> None:
    ids = _emit_and_die(tmp_path, 300, partitions, segment_bytes=8192)
    transport = FakeTransport(4)
    emitter = Emitter(settings(tmp_path), connect=transport)
    emitter.request(request())
    report = emitter.close(20)
    assert (report.undelivered, report.inherited_bytes) == (0, 0)
    found = sequences(transport.sent)
    assert len({epoch for epoch, _ in found}) == 2
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    assert set(ids) < set(request_ids(transport.sent))
    assert not list(tmp_path.iterdir())


def test_an_epoch_that_was_not_closed_is_never_said_to_be(tmp_path: Path) -> None:
    _emit_and_die(tmp_path, 10, 4)
    transport = FakeTransport(4)
    emitter = Emitter(settings(tmp_path), connect=transport)
    epoch = emitter.epoch
    emitter.close(10)
    assert {record.batch["epoch"] for record in transport.sent if record.batch["closed"]} == {epoch}


def test_a_second_heir_sends_equal_bytes_under_equal_numbers(tmp_path: Path) -> None:
    left, copy = tmp_path / "left", tmp_path / "copy"
    _emit_and_die(left, 100, None)
    shutil.copytree(left, copy)
    hashes = []
    for folder in (left, copy):
        transport = FakeTransport(4)
        Emitter(settings(folder, batch_events=len(hashes) * 6 + 1), connect=transport).close(20)
        hashes.append(
            {
                (record.partition, record.batch["first_sequence"] + index): event["content_hash"]
                for record in transport.sent
                for index, event in enumerate(record.batch["events"])
            }
        )
    assert len(hashes[0]) == 100
    assert hashes[0] == hashes[1]


def test_two_emitters_share_a_folder_and_never_an_epoch(tmp_path: Path) -> None:
    first, second = FakeTransport(2), FakeTransport(2)
    one = Emitter(settings(tmp_path), connect=first)
    wait_until(lambda: len(first.sent) == 2)
    first.up = False
    one.request(request())
    two = Emitter(settings(tmp_path), connect=second)
    two.request(request())
    assert two.close(10).counters.delivered == 1
    assert len(request_ids(second.sent)) == 1
    first.up = True
    assert one.close(10).undelivered == 0
    assert len(request_ids(first.sent)) == 1


def test_another_gateways_spool_is_left_alone(tmp_path: Path) -> None:
    _emit_and_die(tmp_path, 5, 4, gateway_id="other")
    transport = FakeTransport(4)
    assert Emitter(settings(tmp_path), connect=transport).close(10).undelivered == 0
    assert not request_ids(transport.sent)
    assert len(list(tmp_path.rglob("*.seg"))) >= 1
    heir = FakeTransport(4)
    Emitter(settings(tmp_path, gateway_id="other"), connect=heir).close(10)
    assert len(request_ids(heir.sent)) == 5


def test_a_spool_for_another_number_of_partitions_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _emit_and_die(tmp_path, 5, 4)
    transport = FakeTransport(8)
    report = Emitter(settings(tmp_path), connect=transport).close(10)
    assert report.inherited_bytes > 0
    assert not request_ids(transport.sent)
    assert "the number of partitions of a topic must never change" in caplog.text


def test_a_flipped_bit_costs_the_rest_of_its_segment_which_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = _emit_and_die(tmp_path, 200, 1, segment_bytes=8192)
    files = sorted(path for path in tmp_path.rglob("*.seg") if path.stat().st_size > 4096)
    data = bytearray(files[1].read_bytes())
    data[len(data) // 2] ^= 1
    files[1].write_bytes(data)
    transport = FakeTransport(1)
    assert Emitter(settings(tmp_path), connect=transport).close(10).undelivered == 0
    numbers = sequences(transport.sent)
    (found,) = numbers.values()
    assert 0 < len(found) < 200
    assert [ids[number] for number in found] == request_ids(transport.sent)
    assert "the rest of it is set aside" in caplog.text
    assert len(list(tmp_path.rglob("*.damaged"))) == 1


def test_a_lock_is_free_when_its_process_is_dead(tmp_path: Path) -> None:
    folder = EpochFolder.create(tmp_path, "1-1-a")
    assert not list(EpochFolder.abandoned(tmp_path))
    folder.release()
    (found,) = EpochFolder.abandoned(tmp_path)
    found.remove()
    assert not list(tmp_path.iterdir())


def test_a_forked_child_goes_on_under_its_own_epoch(tmp_path: Path) -> None:
    transport = FakeTransport(2)
    emitter = Emitter(settings(tmp_path), connect=transport)
    emitter.request(request())
    wait_until(lambda: emitter.counters().delivered == 1)
    parent = emitter.epoch
    child = os.fork()
    if child == 0:
        ok = False
        try:
            transport.sent.clear()
            ok = emitter.request(request()) and emitter.epoch not in ("", parent)
            ok = ok and emitter.close(10).counters[:3] == (1, 0, 1)
            ok = ok and parent not in {epoch for epoch, _ in sequences(transport.sent)}
        finally:
            os._exit(0 if ok else 1)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    emitter.request(request())
    assert emitter.close(10).counters[:3] == (2, 0, 2)
    assert not list(tmp_path.iterdir())


def leave(folder: Path, events: int) -> Path:
    """The spool of a process that died before it knew Kafka."""
    epoch = new_epoch()
    place = EpochFolder.create(folder, epoch)
    spool = Spool(
        *("gw", "inference_proxy", epoch, "gatemeter.events"),
        new_segment=lambda number: FileSegment.create(place.path / f"{number:08d}.seg", number, fsync=False),
        max_bytes=1 << 20,
        segment_bytes=1024,
        complaints=Complaints(),
    )
    for event in [request() for _ in range(events)]:
        assert spool.append(event.request_id, spool_form(event))
    spool.close()
    place.release()
    return place.path


def ids_in(path: Path) -> list[str]:
    """Of the readable events of a segment."""
    segment = FileSegment.open(path, 0)
    header = read_header(segment)
    assert header is not None
    try:
        return [request_id_of(record.body) for record in read_records(segment, header[1])]
    finally:
        segment.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", ["header", "first record"])
def test_events_behind_a_damaged_segment_without_numbers_never_take_the_numbers_of_others(
    tmp_path: Path, damage: str
) -> None:
    """Their numbers follow from all before them: given others, they would be taken for copies and be lost."""
    folder = leave(tmp_path, 60)
    first, second, *rest = sorted(folder.glob("*.seg"))
    assert len(rest) > 2
    kept = ids_in(first)
    header = 12 if damage == "header" else read_header_end(second)
    flip(second, header)
    for _ in range(2):  # and not in a second heir either
        transport = FakeTransport(partitions=1)
        assert Emitter(settings(tmp_path), connect=transport).close(10).undelivered == 0
        assert set(request_ids(transport.sent)) <= set(kept)
    assert [path.stem for path in sorted(folder.glob("*.damaged"))] == [path.stem for path in (second, *rest)]


def read_header_end(path: Path) -> int:
    segment = FileSegment.open(path, 0)
    header = read_header(segment)
    segment.close()
    assert header is not None
    return header[1] + 20


def test_the_end_of_a_closed_epoch_is_announced_also_where_its_last_segment_is_gone(tmp_path: Path) -> None:
    down = FakeTransport(partitions=2)
    emitter = Emitter(settings(tmp_path), connect=down)
    wait_until(lambda: len(down.sent) == 2)
    down.up = False
    emitter.request(request())
    epoch = emitter.epoch
    assert emitter.close(0.2).undelivered == 1
    for path in (tmp_path / epoch).glob("*.seg"):
        path.unlink()  # an heir died after it had deleted them and before it said that the epoch is over
    up = FakeTransport(partitions=2)
    assert Emitter(settings(tmp_path), connect=up).close(10).undelivered == 0
    ends = [record.batch for record in up.sent if record.batch["epoch"] == epoch]
    assert [batch["closed"] for batch in ends] == [True, True]
    assert sum(batch["first_sequence"] for batch in ends) == 1
    assert not list(tmp_path.iterdir())


def test_the_end_of_an_epoch_for_another_number_of_partitions_stays(tmp_path: Path) -> None:
    down = FakeTransport(partitions=2)
    emitter = Emitter(settings(tmp_path), connect=down)
    wait_until(lambda: len(down.sent) == 2)
    down.up = False
    emitter.request(request())
    epoch = emitter.epoch
    emitter.close(0.2)
    for path in (tmp_path / epoch).glob("*.seg"):
        path.unlink()
    up = FakeTransport(partitions=3)
    Emitter(settings(tmp_path), connect=up).close(10)
    assert not [record for record in up.sent if record.batch["epoch"] == epoch]
    assert (tmp_path / epoch / "end").exists()
