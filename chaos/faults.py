"""The faults: what each does to the stage, for how long, and when it is over.

A fault is a generator: what is before `yield` begins it, it yields the seconds that it lasts, what follows ends it. It
returns the workers that must have opened partitions before the stage can be said to have recovered.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

from chaos.stage import REQUEST_TIMEOUT_MS, SESSION_MS, Stage, Worker

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import proxy

FEWEST_WORKERS: Final = 2
MOST_WORKERS: Final = 3

Course = Generator[float, None, list[Worker]]
Fault = Callable[[Stage, random.Random], Course]


def kill_worker(stage: Stage, rng: random.Random) -> Course:
    """SIGKILL, and another one starts at once."""
    yield from ()
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGKILL)
    stage.remove(victim)
    return [stage.start_worker()]


def kill_all_workers(stage: Stage, rng: random.Random) -> Course:
    """A power cut for all of them."""
    yield from ()
    for victim in list(stage.workers):
        victim.signal(signal.SIGKILL)
        stage.remove(victim)
    return [stage.start_worker() for _ in range(FEWEST_WORKERS)]


def terminate_worker(stage: Stage, rng: random.Random) -> Course:
    """SIGTERM, and another one starts when it has ended."""
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGTERM)
    stage.remove(victim)
    while victim.process.running:
        yield 0.2
    return [stage.start_worker()]


def scale_out(stage: Stage, rng: random.Random) -> Course:
    """One worker more; where there are enough, one less before."""
    if len(stage.workers) >= MOST_WORKERS:
        yield from scale_in(stage, rng)
    return [stage.start_worker()]


def scale_in(stage: Stage, rng: random.Random) -> Course:
    """One worker less, in order; where there are few, one more before."""
    if len(stage.workers) <= FEWEST_WORKERS:
        more = stage.start_worker()
        while not more.opened and more.process.running:
            yield 0.2
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGTERM)
    stage.remove(victim)
    while victim.process.running:
        yield 0.2
    return []


def pause_worker(stage: Stage, rng: random.Random) -> Course:
    """SIGSTOP for longer than the session lasts: its partitions move, and it wakes up as a zombie."""
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGSTOP)
    yield SESSION_MS / 1000 + rng.uniform(2, 4)
    victim.signal(signal.SIGCONT)
    return []


def pause_worker_in_a_write(stage: Stage, rng: random.Random) -> Course:
    """As above, while its inserts are under way: they reach ClickHouse after the new owner's."""
    stage.sink_proxy.fault = proxy.SILENT
    yield 1.0
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGSTOP)
    stage.sink_proxy.fault = None
    yield SESSION_MS / 1000 + rng.uniform(2, 4)
    victim.signal(signal.SIGCONT)
    return []


def ahead(stage: Stage, rng: random.Random) -> Course:
    """A worker whose clock is fast takes the place of another."""
    yield from ()
    return _with_clock(stage, rng, rng.randrange(600, 3_000))


def behind(stage: Stage, rng: random.Random) -> Course:
    """A worker whose clock is slow takes the place of another."""
    yield from ()
    return _with_clock(stage, rng, -rng.randrange(600, 3_000))


def _with_clock(stage: Stage, rng: random.Random, clock_s: int) -> list[Worker]:
    victim = rng.choice(stage.workers)
    victim.signal(signal.SIGKILL)
    stage.remove(victim)
    return [stage.start_worker(clock_s)]


def restart_broker(stage: Stage, rng: random.Random) -> Course:
    """Kafka ends in order and starts again."""
    stage.broker.stop(timeout_seconds=8)
    yield rng.uniform(0, 2)
    stage.broker.start()
    return []


def kill_broker(stage: Stage, rng: random.Random) -> Course:
    """Kafka is killed and starts again."""
    stage.broker.kill()
    yield rng.uniform(0, 2)
    stage.broker.start()
    return []


def cut_kafka(stage: Stage, rng: random.Random) -> Course:
    """Connections of the workers to Kafka are reset again and again."""
    for _ in range(6):
        stage.kafka_proxy.cut()
        yield rng.uniform(0.1, 0.8)
    return []


def part_from_kafka(stage: Stage, rng: random.Random) -> Course:
    """Workers cannot reach Kafka."""
    stage.kafka_proxy.refuse()
    yield rng.uniform(3, 9)
    stage.kafka_proxy.start()
    return []


def kill_worker_without_sink(stage: Stage, rng: random.Random) -> Course:
    """ClickHouse is away, a worker that waits for it is killed, and its successor must wait too."""
    stage.sink_proxy.fault = proxy.REFUSE
    yield 1.5
    after = yield from kill_worker(stage, rng)
    yield rng.uniform(3, 5)
    stage.sink_proxy.fault = None
    return after


def lose_replies_and_kill(stage: Stage, rng: random.Random) -> Course:
    """Inserts are applied, nobody learns of it, and a worker dies."""
    stage.sink_proxy.fault = proxy.LOSE_REPLY
    yield 2.0
    after = yield from kill_worker(stage, rng)
    stage.sink_proxy.fault = None
    return after


def _sink(fault: proxy.Fault, low_s: float, high_s: float) -> Fault:
    def play(stage: Stage, rng: random.Random) -> Course:
        stage.sink_proxy.fault = fault
        yield rng.uniform(low_s, high_s)
        stage.sink_proxy.fault = None
        return []

    return play


def mixed_answers(stage: Stage, rng: random.Random) -> Course:
    """One request in several fails, each in another way."""
    kinds = (proxy.BROKEN, proxy.CUT_REPLY, proxy.LOSE_REPLY, proxy.CUT_REQUEST, proxy.GATEWAY, proxy.CUT_PROGRESS)
    for _ in range(20):
        stage.sink_proxy.once(rng.choice(kinds), rng.choice(("", "INSERT")))
        yield 0.25
    stage.sink_proxy.heal()
    return []


FAULTS: Final[dict[str, Fault]] = {
    "worker killed": kill_worker,
    "worker terminated": terminate_worker,
    "all workers killed": kill_all_workers,
    "scaled out": scale_out,
    "scaled in": scale_in,
    "worker paused beyond its session": pause_worker,
    "worker paused in a write": pause_worker_in_a_write,
    "worker with a fast clock": ahead,
    "worker with a slow clock": behind,
    "broker restarted": restart_broker,
    "broker killed": kill_broker,
    "connections to Kafka reset": cut_kafka,
    "workers parted from Kafka": part_from_kafka,
    "ClickHouse down": _sink(proxy.REFUSE, 5, 10),
    "ClickHouse silent": _sink(proxy.SILENT, REQUEST_TIMEOUT_MS / 1000 + 1, REQUEST_TIMEOUT_MS / 1000 + 4),
    "ClickHouse answers 500": _sink(proxy.BROKEN, 3, 5),
    "ClickHouse answers 503": _sink(proxy.BUSY, 3, 5),
    "ClickHouse's disk full": _sink(proxy.NO_SPACE, 3, 6),
    "half-written answers": _sink(proxy.CUT_REPLY, 3, 5),
    "half-forwarded inserts": _sink(proxy.CUT_REQUEST, 3, 5),
    "replies lost after the insert": _sink(proxy.LOSE_REPLY, 3, 5),
    "slow answers": _sink(proxy.SLOW, 3, 5),
    "answers that fail now and then": mixed_answers,
    "worker killed while ClickHouse is down": kill_worker_without_sink,
    "worker killed after lost replies": lose_replies_and_kill,
}


def schedule(rng: random.Random) -> Generator[str, None, None]:
    """Names without end: every fault once in random order, then again in another one."""
    while True:
        yield from rng.sample(list(FAULTS), len(FAULTS))
