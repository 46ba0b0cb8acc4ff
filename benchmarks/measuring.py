"""Runs one contender on one topic and measures it from outside: from its first fetch to its last checkpoint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final

from benchmarks.world import Topic, World
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect

START_LINE: Final = "going on at offset"
_LINE: Final = re.compile(rf"^(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}}) .*{START_LINE}", re.MULTILINE)
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS: Final = 0.01
POLL_SECONDS: Final = 0.25
LIMIT_SECONDS: Final = 240.0

WORKER: Final = (sys.executable, "-c", "from gatemeter.cli.worker import worker; worker()")
"""What `gatemeter worker` runs."""


@dataclass(frozen=True)
class Measured:
    """One run. `events` were taken in `seconds`, for `cpu_seconds` of the process, user and system, all threads."""

    events: int
    seconds: float
    cpu_seconds: float
    database: ClickHouseSettings

    @property
    def us_per_event(self) -> float:
        """CPU of the process."""
        return self.cpu_seconds / self.events * 1e6

    @property
    def events_per_s(self) -> float:
        """Wall clock, broker and ClickHouse on the same machine."""
        return self.events / self.seconds


class CpuSamples:
    """CPU seconds of a process over time, from /proc, by a thread that costs next to nothing."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/stat"
        self._samples: list[tuple[float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            try:
                with open(self._path, encoding="ascii") as file:  # noqa: PTH123 - a hundred times a second
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                return
            self._samples.append((time.time(), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S))

    def stop(self) -> None:
        """No more samples."""
        self._end.set()
        self._thread.join()

    def at(self, when: float) -> float:
        """CPU seconds spent until the time `when`."""
        return max((cpu for taken, cpu in self._samples if taken <= when), default=0.0)


class Running:
    """A contender's process; killed at the end of the block, and by the kernel where the bench dies."""

    def __init__(self, world: World, topic: str, database: ClickHouseSettings, command: Sequence[str]) -> None:
        from support.kafka import die_with_parent

        self._log = world.folder / f"{database.database}.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **world.environment(topic, database)},
                cwd=world.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text("utf-8", "replace")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(world: World, topic: Topic, command: Sequence[str]) -> Measured:
    """Starts the contender, waits until its checkpoints have reached the end of the topic, and ends it."""
    database = world.database()
    client = connect(database)
    with Running(world, topic.name, database, command) as running:
        samples = CpuSamples(running.process.pid)
        wait_until_written(client, topic, running)
        samples.stop()
        started, ended = _first_fetch(running.log), _last_checkpoint(client)
    client.close()
    return Measured(topic.events, ended - started, samples.at(ended) - samples.at(started), database)


def wait_until_written(client: Client, topic: Topic, running: Running) -> None:
    """Returns when the checkpoints have reached the end of the topic."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        rows = client.query("SELECT partition, max(next_offset) FROM ingest_batches GROUP BY partition").result_rows
        reached = dict(rows)
        if all(reached.get(partition, 0) >= end for partition, end in topic.ends.items()):
            return
        if time.monotonic() > deadline or running.process.poll() is not None:
            raise RuntimeError(f"a contender did not finish:\n{running.log[-4000:]}")
        time.sleep(POLL_SECONDS)


def _first_fetch(log: str) -> float:
    found = _LINE.search(log)
    if found is None:
        raise RuntimeError(f"the contender did not say when it began:\n{log[-4000:]}")
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _last_checkpoint(client: Client) -> float:
    query = "SELECT toUnixTimestamp64Micro(max(written_at)) FROM ingest_batches"
    return float(client.query(query).result_rows[0][0]) / 1e6
