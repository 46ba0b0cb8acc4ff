"""Whatever happens to a log and to its tail, each line is published, and what is published twice is the same."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.events import Event
from gatemeter.producers.tails import LogFile, Positions, Tail
from gatemeter.producers.tails.envoy import EnvoyLog
from support.tails import KeptEvents, attempt_line, events_of, request_line, written

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("half"), st.integers(1, 200)),
        st.tuples(st.just("rename"), st.integers(0, 1)),
        st.tuples(st.just("copy"), st.just(0)),
        st.tuples(st.just("read"), st.just(0)),
        st.tuples(st.just("stop"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 7)),
    ),
    max_size=25,
)
LINES = [
    line
    for number in range(1, 60)
    for line in (
        [attempt_line(number, 1, code=500), attempt_line(number, 2), request_line(number, attempts=2)]
        if number % 3
        else [request_line(number, flags="DC"), attempt_line(number, 1, flags="DC")]
    )
]


class Killed(BaseException):
    """As SIGKILL: nothing behind it runs."""


class Mortal(KeptEvents):
    """Dies before it takes another event than the number given."""

    left = 1 << 30

    def emit(self, event: Event) -> bool:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().emit(event)


class World:
    """A log in a folder, who writes it, and one tail after the other."""

    def __init__(self, folder: Path) -> None:
        self.log, self.state, self.kept = folder / "log", folder / "state", Mortal()
        self.log.touch()
        self._positions: Positions | None = None
        self._lines = iter(LINES)
        self._rest = b""
        self._rotations = 0
        self.sent = 0
        self.write(0)

    def write(self, count: int) -> None:
        """Whole lines, behind what was left unfinished."""
        data, self._rest = self._rest, b""
        for _ in range(count):
            line = next(self._lines, None)
            if line is not None:
                data += written(line)
                self.sent += 1
        self._append(data)

    def half(self, size: int) -> None:
        """The begin of a line, whose rest comes with the next write."""
        if not self._rest and (line := next(self._lines, None)) is not None:
            data = written(line)
            self.sent += 1
            self._append(data[:size])
            self._rest = data[size:]

    def _append(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def rotate(self, way: str, begins: int) -> None:
        """As logrotate does, with a writer who has finished its line."""
        self.write(0)
        self._rotations += 1
        rotated = self.log.with_name(f"log.{self._rotations}")
        if way == "copy":
            if not self.log.stat().st_size:
                return
            self.read()  # what comes between copy and truncate is lost to everybody
            shutil.copy(self.log, rotated)
            os.truncate(self.log, 0)
        else:
            self.log.rename(rotated)
            self.log.touch()
        now = rotated.stat().st_mtime_ns
        os.utime(rotated, ns=(now, now + self._rotations))
        self.write(begins)

    def read(self, until: int = 1 << 30) -> None:
        """A tail reads to the end, or is killed before."""
        positions = Positions(self.state)
        source: LogFile | None = None
        self.kept.left = until
        try:
            position = positions.load()
            source = LogFile(self.log, position.head, position.offset, position.since_ns)
            reader = EnvoyLog("envoy-eu", state=json.loads(json.dumps(position.state)))
            tail = Tail(source, reader, self.kept, positions, since_ns=position.since_ns)
            tail.run(threading.Event(), once=True)
        except Killed:
            pass
        finally:
            positions.close()
            if source is not None:
                source.close()


@given(STEPS)
def test_everything_is_published_and_copies_are_equal(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.read()
        for step, value in steps:
            match step:
                case "write":
                    world.write(value)
                case "half":
                    world.half(value)
                case "rename" | "copy":
                    world.rotate(step, value)
                case "kill":
                    world.read(value)
                case _:
                    world.read()
        world.write(0)
        world.read()
        expected = events_of(*LINES[: world.sent]).all
        assert {repr(event) for event in world.kept.all} == {repr(event) for event in expected}
        once = {(type(event).__name__, event.request_id, event.attempt): repr(event) for event in world.kept.all}
        assert len(once) == len(expected)
