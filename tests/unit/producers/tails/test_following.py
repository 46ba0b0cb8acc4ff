"""Lines of a log that grows, is rotated both ways, or is cut; and what a restart finds again."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from gatemeter.producers.emitter import EmitterCounters
from gatemeter.producers.events import Event
from gatemeter.producers.tails import LogFile, LogPipe, Position, PositionError, Positions, Tail
from gatemeter.producers.tails.envoy import EnvoyLog
from gatemeter.producers.tails.following import MAX_LINE_BYTES
from gatemeter.producers.tails.running import MAX_BACKLOG_EVENTS
from support.tails import KeptEvents, request_line, run_once, written


def lines(source: LogFile | LogPipe) -> list[bytes]:
    return list(source.ready())


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def aged(path: Path, seconds: int) -> None:
    """Rotations are further apart than the clock of a file system is coarse."""
    os.utime(path, (1_795_783_000 - seconds,) * 2)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"one\ntwo\n")
    return path


def test_a_line_is_read_when_it_is_complete(log: Path) -> None:
    source = LogFile(log)
    assert lines(source) == [b"one", b"two"]
    append(log, b"thr")
    assert lines(source) == []
    append(log, b"ee\n\nfour\n")
    assert lines(source) == [b"three", b"four"]
    source.close()


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    source = LogFile(tmp_path / "log")
    assert lines(source) == []
    append(tmp_path / "log", b"one\n")
    assert lines(source) == [b"one"]
    source.close()


def test_a_line_counts_as_read_when_the_next_is_asked_for(log: Path) -> None:
    source = LogFile(log)
    reading = source.ready()
    assert (next(reading), source.at()[1]) == (b"one", 0)
    assert (next(reading), source.at()[1]) == (b"two", 4)
    assert (next(reading, None), source.at()[1]) == (None, 8)
    source.close()


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(log: Path) -> None:
    source = LogFile(log)
    assert lines(source) == [b"one", b"two"]
    log.rename(log.with_name("access.log.1"))
    append(log.with_name("access.log.1"), b"three\n")
    assert lines(source) == [b"three"]
    log.touch()
    append(log.with_name("access.log.1"), b"four\n")
    assert lines(source) == [b"four"]
    append(log, b"five\n")
    assert lines(source) == [b"five"]
    source.close()


def test_a_file_that_was_copied_and_emptied_is_read_from_its_copy_and_anew(log: Path) -> None:
    source = LogFile(log)
    assert lines(source) == [b"one", b"two"]
    append(log, b"three\n")
    shutil.copy(log, log.with_name("access.log.1"))
    os.truncate(log, 0)
    append(log, b"4\n")
    assert lines(source) == [b"three", b"4"]
    source.close()


def test_an_emptied_file_that_has_grown_past_where_we_were_is_noticed(log: Path) -> None:
    source = LogFile(log)
    assert lines(source) == [b"one", b"two"]
    shutil.copy(log, log.with_name("access.log-20261127"))
    os.truncate(log, 0)
    append(log, b"another line that is longer\n")
    assert lines(source) == [b"another line that is longer"]
    assert source.lost == 0
    source.close()


def test_a_restart_goes_on_in_the_file_that_was_rotated_away_and_in_those_after_it(log: Path) -> None:
    source = LogFile(log)
    reading = source.ready()
    next(reading), next(reading)
    head, offset = source.at()
    source.close()
    log.rename(log.with_name("access.log.2"))
    aged(log.with_name("access.log.2"), 20)
    log.with_name("access.log.1").write_bytes(b"three\n")
    aged(log.with_name("access.log.1"), 10)
    log.with_name("access.log.3.gz").write_bytes(b"compressed")
    log.write_bytes(b"four\n")
    source = LogFile(log, head, offset)
    assert lines(source) == [b"two", b"three", b"four"]
    source.close()


def test_what_was_rotated_away_before_anything_was_read_is_read(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", KeptEvents()
    log.with_name("log.1").write_bytes(written(request_line(1)))
    aged(log.with_name("log.1"), 0)
    assert run_once(log, tmp_path / "state", kept).lines == 0
    for number in (2, 3):
        log.write_bytes(written(request_line(number)))
        log.rename(log.with_name(f"log.{number}"))
    log.touch()
    assert run_once(log, tmp_path / "state", kept).lines == 2
    append(log, written(request_line(4)))
    log.rename(log.with_name("log.4"))
    log.touch()
    assert run_once(log, tmp_path / "state", kept).lines == 1


def test_a_file_that_is_gone_is_told_and_the_new_one_is_read(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = LogFile(log)
    lines(source)
    head, offset = source.at()
    source.close()
    log.unlink()
    log.write_bytes(b"new\n")
    source = LogFile(log, head, offset)
    assert (lines(source), source.lost) == ([b"new"], 1)
    assert "what was read up to byte 8 is not there any more" in caplog.text
    source.close()


def test_a_line_that_is_too_long_is_passed_over_and_counted(log: Path) -> None:
    append(log, b"x" * (2 * MAX_LINE_BYTES + 10) + b"\nthree\n")
    source = LogFile(log)
    assert (lines(source), source.passed_over) == ([b"one", b"two", b"three"], 1)
    source.close()


def test_what_a_rotated_file_ends_with_unfinished_is_counted(log: Path) -> None:
    source = LogFile(log)
    append(log, b"half")
    lines(source)
    log.rename(log.with_name("access.log.1"))
    log.write_bytes(b"new\n")
    assert (lines(source), source.passed_over) == ([b"new"], 1)
    source.close()


def test_a_pipe_is_read_in_pieces_until_its_writer_closes_it() -> None:
    reading, writing = os.pipe()
    source = LogPipe(reading)
    os.write(writing, b"one\ntw")
    assert lines(source) == [b"one"]
    assert lines(source) == []
    os.write(writing, b"o\nthree")
    os.close(writing)
    assert (lines(source), source.is_over) == ([b"two"], False)
    assert (lines(source), source.is_over) == ([b"three"], True)
    os.close(reading)


def test_a_position_survives_and_a_broken_one_says_what_to_do(tmp_path: Path) -> None:
    positions = Positions(tmp_path)
    first = positions.load()
    assert (first.head, first.offset, first.state) == ("", 0, {}) and first.since_ns > 0
    assert positions.load() == first
    positions.save(Position("ab", 12, {"x": 1}, 5))
    assert positions.load() == Position("ab", 12, {"x": 1}, 5)
    for text in (b"{", b"[]", b'{"version": 2}', b'{"version":1,"head":"","offset":-1,"state":{}}'):
        (tmp_path / "position.json").write_bytes(text)
        with pytest.raises(PositionError, match="move it away to read the log from its beginning"):
            positions.load()
    positions.close()


def test_runs_one_after_the_other_read_each_line_once(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", KeptEvents()
    for number in range(5):
        append(log, written(request_line(number)) + b"not json\n")
        report = run_once(log, tmp_path / "state", kept)
        assert (report.lines, report.bad_lines, report.events) == (2, 1, 2)
    assert len({event.request_id for event in kept.responses}) == len(kept.responses) == 5


class FullEmitter(KeptEvents):
    """Refuses events, as a spool that is full; or says that too much waits."""

    def __init__(self, spooled: int = 0) -> None:
        super().__init__()
        self.room, self.spooled = 3, spooled

    def emit(self, event: Event) -> bool:
        if len(self.all) >= self.room:
            return False
        return super().emit(event)

    def counters(self) -> EmitterCounters:
        return EmitterCounters(len(self.all), self.spooled, 0, 0, 0)


@pytest.mark.parametrize("spooled", [0, MAX_BACKLOG_EVENTS + 1])
def test_a_full_spool_is_waited_for_and_a_line_that_was_cut_short_is_read_again(tmp_path: Path, spooled: int) -> None:
    log, emitter, stopped = tmp_path / "log", FullEmitter(spooled), threading.Event()
    log.write_bytes(written(*(request_line(number) for number in range(3))))
    positions, source = Positions(tmp_path / "state"), LogFile(log)
    tail = Tail(source, EnvoyLog("envoy-eu"), emitter, positions)
    running = threading.Thread(target=tail.run, args=(stopped,))
    running.start()
    stopped.wait(0.3)
    stopped.set()
    running.join(30)
    positions.close()
    source.close()
    again = KeptEvents()
    run_once(log, tmp_path / "state", again)
    everything = {repr(event) for event in (*emitter.all, *again.all)}
    assert len(everything) == 6


class HarmfulReader(EnvoyLog):
    """Fails on every second line in a way that nobody foresaw."""

    count = 0

    def events(self, line: bytes) -> list[Event]:
        self.count += 1
        if self.count % 2:
            raise RuntimeError("sk-planted-secret")
        return super().events(line)


def test_a_line_that_breaks_the_reader_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, kept = tmp_path / "log", KeptEvents()
    log.write_bytes(written(*(request_line(number) for number in range(4))))
    source = LogFile(log)
    report = Tail(source, HarmfulReader("envoy-eu"), kept).run(threading.Event(), once=True)
    source.close()
    assert (report.errors, report.events, len(kept.responses)) == (2, 4, 2)
    assert "RuntimeError" in caplog.text and "planted" not in caplog.text
