"""The emitter never raises, numbers without holes, counts what it refuses, and says what was not delivered."""

from __future__ import annotations

import errno
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from gatemeter.producers import Emitter
from gatemeter.producers.emitter import MAX_SPOOLED_BYTES
from gatemeter.producers.origins import Origin
from gatemeter.producers.transport import Outcome, TransportBroken, TransportBusy
from gatemeter.schemas import codec
from gatemeter.schemas.partitions import partition_of
from support.producers import FakeTransport, request, request_ids, response, sequences, settings, wait_until


def test_events_reach_their_partitions_in_order_and_signed(tmp_path: Path) -> None:
    transport = FakeTransport(partitions=4)
    emitter = Emitter(settings(tmp_path, batch_events=7), connect=transport)
    events = [request() for _ in range(100)]
    assert all(emitter.request(event) for event in events)
    report = emitter.close(10)
    assert (report.undelivered, report.counters.emitted, report.counters.delivered) == (0, 100, 100)
    assert sorted(request_ids(transport.sent)) == sorted(event.request_id for event in events)
    for (_, partition), numbers in sequences(transport.sent).items():
        expected = [event.request_id for event in events if partition_of(event.request_id, 4) == partition]
        assert numbers == list(range(len(expected)))
        assert [entry for entry in request_ids(transport.sent) if entry in set(expected)] == expected
    assert all(record.key == b"gw" and record.headers["gm-kid"] == b"gw-1" for record in transport.sent)
    assert all(len(record.batch["events"]) <= 7 for record in transport.sent)


def test_every_partition_hears_a_first_heartbeat_and_the_end() -> None:
    transport = FakeTransport(partitions=3)
    emitter = Emitter(settings(None), connect=transport)
    wait_until(lambda: len(transport.sent) == 3)
    event = response()
    emitter.response(event)
    emitter.close(10)
    first, last = transport.sent[:3], transport.sent[-3:]
    assert [record.batch["first_sequence"] for record in first] == [0, 0, 0]
    assert sorted(record.partition for record in last) == [0, 1, 2]
    used = partition_of(event.request_id, 3)
    for record in last:
        batch = record.batch
        assert batch["closed"] and not batch["events"]
        assert batch["first_sequence"] == batch["counters"]["emitted"] == (record.partition == used)
        assert batch["counters"]["spooled"] == 0


def test_what_was_emitted_before_kafka_was_there_is_numbered_later(tmp_path: Path) -> None:
    transport = FakeTransport()
    transport.up = False
    emitter = Emitter(settings(tmp_path), connect=transport)
    for _ in range(50):
        assert emitter.request(request())
    assert emitter.counters().spooled == 50
    transport.up = True
    wait_until(lambda: emitter.counters().delivered == 50)
    emitter.request(request())
    assert emitter.close(10).undelivered == 0
    found = sequences(transport.sent)
    assert sum(map(len, found.values())) == 51
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())


def test_invalid_events_are_counted_and_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter(settings(None), connect=FakeTransport())
    with caplog.at_level(logging.WARNING):
        assert not any(emitter.response(response(http_status=-1)) for _ in range(100))
        assert not emitter.request(nonsense=1)
        assert not emitter.request(request(), tenant_id="given twice")
    emitter.close(10)
    assert emitter.counters().invalid == 102
    assert sum("an event was refused" in message for message in caplog.messages) == 1
    assert "RESPONSE.http_status: must be an integer of 0 to 999" in caplog.text


def test_a_full_spool_counts_drops_per_partition_and_takes_no_number(tmp_path: Path) -> None:
    transport = FakeTransport(partitions=2)
    emitter = Emitter(settings(tmp_path, max_spool_bytes=65_536, heartbeat_seconds=1), connect=transport)
    wait_until(lambda: len(transport.sent) == 2)
    transport.up = False
    accepted = sum(emitter.request(request(model="m" * 200)) for _ in range(1000))
    assert 0 < accepted < 1000
    assert emitter.counters().dropped == 1000 - accepted
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.seg")) <= 65_536
    transport.up = True
    wait_until(lambda: emitter.counters().delivered == accepted)
    wait_until(lambda: emitter.request(request()))
    emitter.close(10)
    found = sequences(transport.sent)
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    assert sum(record.batch["counters"]["dropped"] for record in transport.sent[-2:]) == emitter.counters().dropped
    assert not list(tmp_path.iterdir())


def test_an_event_larger_than_a_record_is_refused_and_counted() -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(None), connect=transport)
    wait_until(lambda: transport.sent)
    assert not emitter.response(response(usage_raw="x" * MAX_SPOOLED_BYTES))
    largest = response(usage_raw="x" * (MAX_SPOOLED_BYTES - 200))
    assert emitter.response(largest)
    assert emitter.close(10).counters.dropped == 1
    assert max(len(record.value) for record in transport.sent) <= 900_000
    assert request_ids(transport.sent) == [largest.request_id]


def test_close_says_what_was_not_delivered_and_the_next_one_sends_it(tmp_path: Path) -> None:
    down = FakeTransport()
    emitter = Emitter(settings(tmp_path), connect=down)
    wait_until(lambda: len(down.sent) == 4)
    down.up = False
    for _ in range(10):
        emitter.request(request())
    epoch, report = emitter.epoch, emitter.close(0.2)
    assert (report.undelivered, report.kept) == (10, True)
    assert emitter.close(5) == report
    assert not emitter.request(request())
    assert emitter.counters().dropped == 1
    up = FakeTransport()
    assert Emitter(settings(tmp_path), connect=up).close(10).undelivered == 0
    assert sum(map(len, sequences(up.sent, epoch).values())) == 10
    ends = [record.batch for record in up.sent if record.batch["closed"] and record.batch["epoch"] == epoch]
    assert sum(batch["first_sequence"] for batch in ends) == 10
    assert not list(tmp_path.iterdir())


def test_memory_is_lost_and_says_so() -> None:
    transport = FakeTransport()
    transport.up = False
    emitter = Emitter(settings(None), connect=transport)
    emitter.request(request())
    report = emitter.close(0.1)
    assert (report.undelivered, report.kept) == (1, False)


def test_failed_batches_are_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    transport = FakeTransport(partitions=1)
    transport.refuse = [Outcome.FAILED, Outcome.FAILED]
    emitter = Emitter(settings(tmp_path), connect=transport)
    for _ in range(20):
        emitter.request(request())
    assert emitter.close(10).undelivered == 0
    assert list(sequences(transport.sent).values()) == [list(range(20))]


def test_a_broker_with_a_smaller_limit_gets_smaller_batches() -> None:
    transport = FakeTransport(partitions=1)
    transport.largest = 2000
    emitter = Emitter(settings(None, linger_ms=200), connect=transport)
    for _ in range(100):
        emitter.request(request())
    assert emitter.close(10).undelivered == 0
    assert list(sequences(transport.sent).values()) == [list(range(100))]


def test_threads_share_one_numbering(tmp_path: Path) -> None:
    transport = FakeTransport(partitions=2)
    emitter = Emitter(settings(tmp_path, segment_bytes=8192), connect=transport)
    threads = [
        threading.Thread(target=lambda: [emitter.request(request()) for _ in range(500)], daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert emitter.close(20).undelivered == 0
    found = sequences(transport.sent)
    assert sum(map(len, found.values())) == 2000
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())


def test_an_event_emitted_from_within_the_call_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path), connect=transport)
    write, inner = os.pwrite, request()

    caller = threading.get_ident()

    def write_with_a_signal_handler_in_between(descriptor: int, data: bytes, offset: int) -> int:
        if threading.get_ident() != caller:  # the publishing thread begins its segments as it likes
            return write(descriptor, data, offset)
        monkeypatch.setattr(os, "pwrite", write)
        assert emitter.request(inner)
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write_with_a_signal_handler_in_between)
    outer = request()
    assert emitter.request(outer)
    assert emitter.close(10).undelivered == 0
    assert request_ids(transport.sent) == [outer.request_id, inner.request_id]
    assert list(sequences(transport.sent).values()) == [[0, 1]]


def test_a_disk_that_is_full_costs_the_event_and_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path), connect=transport)
    wait_until(lambda: transport.sent)
    emitter.request(request())
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:20], offset))
    assert not emitter.request(request())
    monkeypatch.setattr(os, "pwrite", write)
    emitter.request(request())
    report = emitter.close(10)
    assert (report.undelivered, report.counters.dropped) == (0, 1)
    assert list(sequences(transport.sent).values()) == [[0, 1]]


def test_an_interruption_between_write_and_number_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path), connect=transport)
    wait_until(lambda: transport.sent)
    write = os.pwrite

    def interrupted(descriptor: int, data: bytes, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", write)
        write(descriptor, data, offset)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        emitter.request(request())
    emitter.request(request())
    assert emitter.close(10).undelivered == 0
    assert list(sequences(transport.sent).values()) == [[0, 1]]


def test_fsync_mode_returns_when_the_disk_has_the_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path, spool_mode="fsync"), connect=transport)
    wait_until(lambda: transport.sent)
    synced, sync = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), sync(descriptor))[1])
    assert emitter.request(request())
    assert synced
    assert emitter.close(10).undelivered == 0
    assert len(request_ids(transport.sent)) == 1


def test_what_is_spooled_is_sent_also_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path), connect=transport)
    wait_until(lambda: transport.sent)
    transport.up = False
    for _ in range(2000):
        assert emitter.request(request())

    def full(path: object, *arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatemeter.producers.segments.FileSegment.create", full)
    transport.up = True
    wait_until(lambda: emitter.counters().delivered == 2000, 3)
    assert emitter.close(10).undelivered == 0


def test_a_request_id_that_is_no_text_is_refused_and_takes_no_number() -> None:
    transport = FakeTransport(partitions=1)
    transport.up = False
    emitter = Emitter(settings(None), connect=transport)
    assert not emitter.request(request(request_id=uuid.uuid4()))  # msgspec alone would take it for text
    assert emitter.request(request())
    transport.up = True
    wait_until(lambda: transport.sent)
    assert emitter.request(request())
    report = emitter.close(10)
    assert (report.undelivered, report.counters.emitted, report.counters.invalid) == (0, 2, 1)
    assert sequences(transport.sent) == {(transport.sent[0].batch["epoch"], 0): [0, 1]}


def test_what_a_finalizer_emits_while_events_are_numbered_gets_a_number_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = FakeTransport(partitions=1)
    transport.up = False
    emitter = Emitter(settings(tmp_path), connect=transport)
    for _ in range(10):
        emitter.request(request())
    learn, late = Origin.learn, request()

    def learn_with_a_finalizer(origin: Origin, partitions: int) -> None:
        assert emitter.request(late)
        learn(origin, partitions)

    monkeypatch.setattr(Origin, "learn", learn_with_a_finalizer)
    transport.up = True
    wait_until(lambda: emitter.counters().delivered == 11)
    emitter.request(request())
    assert emitter.close(10).undelivered == 0
    assert late.request_id in request_ids(transport.sent)
    assert list(sequences(transport.sent).values()) == [list(range(12))]


def test_batches_that_wait_for_another_try_keep_their_place_in_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatemeter.producers.publishing._WINDOW_BYTES", 50_000)
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(tmp_path, batch_bytes=2_000, linger_ms=0), connect=transport)
    wait_until(lambda: transport.sent)
    transport.refuse = [Outcome.FAILED] * 1_000_000
    for _ in range(2_000):
        assert emitter.request(request(model="m" * 100))
    run = emitter._run
    assert run is not None
    wait_until(lambda: run.publisher.work.failures > 60)
    waiting = sum(len(batch.value) for _, _, batch in tuple(run.publisher._retries))
    assert 0 < waiting < 60_000
    transport.refuse = []
    wait_until(lambda: emitter.counters().delivered == 2_000, 40)
    assert emitter.close(10).undelivered == 0
    assert run.publisher._window_bytes == 0
    assert sorted(sequences(transport.sent).popitem()[1]) == list(range(2_000))


def test_a_full_queue_to_kafka_is_waited_for(tmp_path: Path) -> None:
    class Busy(FakeTransport):
        refusals = 30

        def send(self, *place: Any, **record: Any) -> None:
            if self.refusals:
                self.refusals -= 1
                raise TransportBusy
            super().send(*place, **record)

    transport = Busy(partitions=1)
    emitter = Emitter(settings(tmp_path, batch_events=10), connect=transport)
    for _ in range(200):
        emitter.request(request())
    assert emitter.close(20).undelivered == 0
    assert [sorted(numbers) for numbers in sequences(transport.sent).values()] == [list(range(200))]


def test_a_transport_that_cannot_be_made_again_costs_no_batch(tmp_path: Path) -> None:
    class Breaking(FakeTransport):
        broken = 0

        def __call__(self) -> FakeTransport:
            if 0 < self.broken < 4:
                self.broken += 1
                raise OSError("no thread for the client")
            return self

        def send(self, *place: Any, **record: Any) -> None:
            if record["value"] and not self.broken and codec.decode(record["value"]).datum["events"]:
                self.broken = 1
                raise TransportBroken("fenced")
            super().send(*place, **record)

    transport = Breaking(partitions=1)
    emitter = Emitter(settings(tmp_path, batch_events=10), connect=transport)
    for _ in range(100):
        emitter.request(request())
    wait_until(lambda: emitter.counters().delivered == 100, 20)
    assert emitter.close(10).undelivered == 0
    assert [sorted(numbers) for numbers in sequences(transport.sent).values()] == [list(range(100))]


def test_a_disk_without_room_is_counted_in_heartbeats_and_forgotten_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = FakeTransport(partitions=2)
    emitter = Emitter(settings(tmp_path, heartbeat_seconds=1, segment_bytes=4096), connect=transport)
    wait_until(lambda: len(transport.sent) == 2)
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    refused = [emitter.request(request()) for _ in range(100)]
    assert not any(refused)
    before = len(transport.sent)

    def dropped() -> int:
        newest = {record.partition: record.batch["counters"]["dropped"] for record in tuple(transport.sent)[before:]}
        return sum(newest.values())

    wait_until(lambda: dropped() == 100)
    monkeypatch.setattr(os, "pwrite", write)
    assert all(emitter.request(request()) for _ in range(100))
    report = emitter.close(10)
    assert (report.undelivered, report.counters.emitted, report.counters.dropped) == (0, 100, 100)
    assert all(numbers == list(range(len(numbers))) for numbers in sequences(transport.sent).values())


def test_counters_and_epoch_may_be_read_while_another_thread_closes() -> None:
    for _ in range(50):
        emitter = Emitter(settings(None), connect=FakeTransport())
        failures: list[Exception] = []
        ended = threading.Event()

        def look(emitter: Emitter = emitter, failures: list[Exception] = failures, ended: Any = ended) -> None:
            while not ended.is_set():
                try:
                    emitter.counters()
                    assert emitter.epoch is not None
                except Exception as error:  # noqa: BLE001
                    failures.append(error)
                    return

        thread = threading.Thread(target=look)
        thread.start()
        emitter.close(5)
        ended.set()
        thread.join()
        assert failures == []
