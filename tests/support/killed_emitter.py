"""Emitters that are killed at a chosen step of the file system: `python killed_emitter.py FOLDER FIRST STRIDE`.

For each chosen step, in a folder of its own: processes die with a spool; another inherits it, emits, learns the number
of partitions late, publishes and closes, but dies just before or after its n-th call to the file system; last comes
one that nobody kills. Writes a line of JSON a step: what was accepted, what reached Kafka, what is left. Processes are
forks of this one, which has no threads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatemeter.producers import Emitter
from gatemeter.producers.transport import Outcome
from gatemeter.schemas import codec
from support.producers import FakeTransport, request, settings, wait_until

PARTITIONS = 2
STEPS = ("open", "pwrite", "ftruncate", "mkdir", "rmdir", "unlink", "rename", "close")
CHANGED: dict[str, Any] = {"segment_bytes": 4096, "max_spool_bytes": 128 * 1024, "batch_events": 7, "linger_ms": 1}


class Log:
    """Lines that survive the process: written by the system call itself, which is never a step."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._write = os.write

    def add(self, *values: str) -> None:
        self._write(self._descriptor, (" ".join(values) + "\n").encode())


class Kafka(FakeTransport):
    """Keeps what it is given in a file."""

    def __init__(self, log: Log, *, up: bool = True) -> None:
        super().__init__(PARTITIONS)
        self.up = up
        self._log = log

    def send(self, topic: str, partition: int, *, value: bytes, done: Callable[[Outcome], None], **rest: Any) -> None:
        def kept(outcome: Outcome) -> None:
            if outcome is Outcome.DELIVERED:
                self._log.add(str(partition), value.hex())
            done(outcome)

        super().send(topic, partition, value=value, done=kept, **rest)


def fork(work: Callable[[], None]) -> bool:
    """Whether `work` ran to its end in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        raise AssertionError("an emitter failed by itself")
    return not os.WIFSIGNALED(status)


def die_at(step: int) -> None:
    """Kills this process at its `step`-th call: even ones before the call, odd ones after it."""
    left = step // 2

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1 and step % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*arguments, **named)
            if left == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return stepped

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def emit(emitter: Emitter, count: int, log: Log) -> None:
    for _ in range(count):
        event = request()
        if emitter.request(event):
            log.add(event.request_id)


def leave_a_spool(spool: Path, accepted: Log, sent: Log) -> None:
    """Two dead processes: one killed before it knew Kafka, one closed in order with events left."""

    def killed() -> None:
        emit(Emitter(settings(spool, **CHANGED), connect=Kafka(sent, up=False)), 25, accepted)
        os.kill(os.getpid(), signal.SIGKILL)

    def closed() -> None:
        kafka = Kafka(sent)
        emitter = Emitter(settings(spool / "closed", **CHANGED), connect=kafka)
        wait_until(lambda: len(kafka.sent) == PARTITIONS)
        kafka.up = False
        emit(emitter, 15, accepted)
        emitter.close(0.01)
        for path in (spool / "closed").iterdir():
            path.rename(spool / path.name)
        (spool / "closed").rmdir()

    assert not fork(killed)
    assert fork(closed)


def victim(step: int, spool: Path, accepted: Log, sent: Log) -> None:
    """Emits before and after Kafka is there, so that segments are begun, read, freed and closed; dies somewhere."""
    die_at(step)
    kafka = Kafka(sent, up=False)
    emitter = Emitter(settings(spool, **CHANGED), connect=kafka)
    emit(emitter, 12, accepted)
    kafka.up = True
    emit(emitter, 12, accepted)
    emitter.close(10)


def heir(spool: Path, accepted: Log, sent: Log) -> None:
    emitter = Emitter(settings(spool, **CHANGED), connect=Kafka(sent))
    emit(emitter, 1, accepted)
    report = emitter.close(20)
    assert (report.undelivered, report.inherited_bytes) == (0, 0), report


def run(folder: Path, step: int) -> dict[str, Any]:
    """One step: what came of it."""
    spool = folder / "spool"
    spool.mkdir(parents=True)
    accepted, sent = Log(folder / "accepted"), Log(folder / "sent")
    leave_a_spool(spool, accepted, sent)
    ended = sorted(path.parent.name for path in spool.glob("*/end"))
    survived = fork(lambda: victim(step, spool, accepted, sent))
    assert fork(lambda: heir(spool, accepted, sent))
    events, closed = [], []
    for line in (folder / "sent").read_text().splitlines():
        partition, value = line.split()
        batch = codec.decode(bytes.fromhex(value)).datum
        if batch["closed"]:
            closed.append([batch["epoch"], int(partition), batch["first_sequence"]])
        for index, event in enumerate(batch["events"]):
            place = [batch["epoch"], int(partition), batch["first_sequence"] + index]
            events.append([*place, event["request_id"], event["content_hash"].hex()])
    return {
        "step": step,
        "survived": survived,
        "accepted": (folder / "accepted").read_text().split(),
        "events": events,
        "closed": closed,
        "ended": ended,
        "left": sorted(str(path.relative_to(spool)) for path in spool.rglob("*")),
    }


def main(folder: str, first: int, stride: int) -> None:
    step = first
    while True:
        result = run(Path(folder) / str(step), step)
        print(json.dumps(result), flush=True)
        if result["survived"]:
            return
        step += stride


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
