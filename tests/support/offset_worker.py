"""A worker whose fold only writes down offsets, and a sink of files: for tests of the app without the real fold.

As a program it is one worker process; `python offset_worker.py FOLDER` with GATEMETER_* in its environment.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from gatemeter.processors.fold.types import LogRecord, LoudStop
from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.port import SinkRefused, SinkUnavailable

OFFSETS: Final = "exceptions"
EMPTY: Final = {"string": "", "bytes": b""}


@dataclass
class OffsetOutput:
    """As `gatemeter.processors.partition.Output`."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    checkpoint: dict[str, Any] | None = None
    next_offset: int = 0
    events: int = 0
    wanted: list[int] = field(default_factory=list)

    def complete(self, record_at: Callable[[int], LogRecord]) -> None:
        """Takes the records at the offsets `wanted`."""
        for offset in self.wanted:
            assert record_at(offset).offset == offset
        self.wanted = []


def checkpoint_row(topic: str, partition: int, next_offset: int) -> dict[str, Any]:
    """A row of `ingest_batches` with nothing in it but the place."""
    row: dict[str, Any] = {name: EMPTY.get(kind, 0) for name, kind in TABLES["ingest_batches"]}
    return row | {"topic": topic, "partition": partition, "next_offset": next_offset, "replay_from": next_offset}


class NoReader:
    """A log reader that nobody asks."""

    async def records(self, topic: str, partition: int, offsets: Sequence[int]) -> dict[int, LogRecord]:
        raise AssertionError(f"nobody needs {offsets} again")


class OffsetFold:
    """Remembers offsets. A record whose value is `stop` is a loud stop, one with `bug` an error of the code."""

    replaying = False

    def __init__(self, topic: str, partition: int, partitions: int, checkpoint: Mapping[str, Any] | None) -> None:
        self._place = (topic, partition)
        self.partitions = partitions
        self.next_offset = int(checkpoint["next_offset"]) if checkpoint else 0

    def check_log_bounds(self, *, earliest: int, end: int) -> None:
        if not earliest <= self.next_offset <= end:
            raise LoudStop(f"{self._place}: {self.next_offset} is not in [{earliest}, {end}]")

    def fold(self, records: Sequence[LogRecord]) -> OffsetOutput:
        for record in records:
            if record.value == b"stop":
                raise LoudStop(f"record {record.offset} says stop")
            if record.value == b"bug":
                raise RuntimeError("a bug in the fold")
        offsets = [record.offset for record in records]
        if offsets[0] < self.next_offset or offsets != sorted(set(offsets)):
            raise AssertionError(f"{offsets[0]}..{offsets[-1]} after {self.next_offset}")
        self.next_offset = offsets[-1] + 1
        rows = pa.table(
            {"partition": [self._place[1]] * len(offsets), "offset": offsets, "pid": [os.getpid()] * len(offsets)}
        )
        return OffsetOutput(
            {OFFSETS: rows}, checkpoint_row(*self._place, self.next_offset), self.next_offset, len(offsets)
        )


class FileSink:
    """A folder of Arrow files. The file `down` in it makes every call fail, `refuse` makes every write refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def _check(self) -> None:
        if (self._folder / "down").exists():
            raise SinkUnavailable("the sink is down", timedelta(milliseconds=100))

    def write(self, table: str, rows: pa.Table) -> None:
        self._check()
        if (self._folder / "refuse").exists():
            raise SinkRefused(f"no table {table}")
        draft = self._folder / f"{uuid.uuid4().hex}.draft"
        with pa.ipc.new_file(draft, rows.schema) as writer:
            writer.write_table(rows)
        draft.rename(draft.with_name(f"{table}-{draft.stem}.arrow"))

    def read(self, table: str) -> list[dict[str, Any]]:
        """All rows that were written to `table`."""
        rows: list[dict[str, Any]] = []
        for path in self._folder.glob(f"{table}-*.arrow"):
            with pa.ipc.open_file(path) as reader:
                rows += reader.read_all().to_pylist()
        return rows

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        self._check()
        found = [row for row in self.read("ingest_batches") if (row["topic"], row["partition"]) == (topic, partition)]
        return max(found, key=lambda row: row["next_offset"], default=None)

    def written(self) -> Counter[tuple[int, int]]:
        """How often each (partition, offset) was written."""
        return Counter((row["partition"], row["offset"]) for row in self.read(OFFSETS))


def main() -> None:
    """Runs one worker."""
    from gatemeter.processors import app, worker
    from gatemeter.processors.settings import load_settings

    real = app.build_app
    worker.build_app = lambda settings, sink: real(settings, sink, OffsetFold)
    worker.leave(worker.run_worker(load_settings(), FileSink(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
