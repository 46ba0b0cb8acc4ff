"""One run: faults one after the other while gateways speak, then everything is counted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from chaos.checks import check
from chaos.faults import FAULTS, FEWEST_WORKERS, schedule
from chaos.stage import PARTITIONS, GatewayProcess, Stage, Worker, end_in_order, stage

LOOK_SECONDS: Final = 0.25
RECOVERY_LIMIT_SECONDS: Final = 240
DRAIN_LIMIT_SECONDS: Final = 300
FEWEST_FAULTS: Final = 20
CLOSING_SECONDS: Final = 45
"""What a run needs beside the load: start, drain, audit."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """What is to be played. The fold's times are shorter in a short run, so that it forgets and counts orphans too."""

    seconds: float
    events: int
    seed: int
    horizon_s: int
    orphan_timer_s: int
    logs: Path | None = None

    @property
    def load_seconds(self) -> float:
        """How long the gateways speak."""
        return max(60.0, self.seconds - CLOSING_SECONDS)


@dataclass(frozen=True)
class Injected:
    """One fault: seconds since the load began, how long it lasted, and how long it took until new rows came."""

    name: str
    at_s: float
    lasted_s: float
    recovered_s: float


class NotRecovered(Exception):
    """The text says from what, and what workers said last."""


def run(size: Size, say: Say) -> dict[str, Any]:
    """Plays a run and returns what it showed."""
    rng = random.Random(size.seed)
    say(f"Starting Apache Kafka, ClickHouse and {FEWEST_WORKERS} workers (seed {size.seed})")
    with stage(size.horizon_s, size.orphan_timer_s, size.logs) as place:
        for _ in range(FEWEST_WORKERS):
            place.start_worker()
        until(place, lambda: all(worker.opened for worker in place.workers), "the workers' start")
        gateways = GatewayProcess(
            place,
            events_per_s=size.events / size.load_seconds,
            seed=size.seed,
            lose_until_s=size.load_seconds - size.orphan_timer_s - 30,
        )
        try:
            began = time.monotonic()
            injected = _play(place, gateways, size, rng, say)
            said = gateways.finish()
            load_s = time.monotonic() - began
        finally:
            gateways.kill()
        say(f"{said['events']:,} events said in {load_s:.0f} s; waiting until they are sunk")
        ends = place.ends()
        until(place, lambda: reached(place, ends), "the end of the log", DRAIN_LIMIT_SECONDS)
        codes = end_in_order(place)
        report = _report(size, injected, said, load_s) | {"crashes": place.crashes, "exit_codes": codes}
        report["proxy"] = dict(sorted(place.sink_proxy.met.items()))
        return report | check(place, said, say)


def _play(place: Stage, gateways: GatewayProcess, size: Size, rng: random.Random, say: Say) -> list[Injected]:
    """Faults until events and time are through, and `FEWEST_FAULTS` have been."""
    began = time.monotonic()
    injected: list[Injected] = []
    for name in schedule(rng):
        _pause(place, rng.uniform(0.5, 2.0))
        passed = time.monotonic() - began
        enough = gateways.figures["events"] >= size.events or passed >= 2 * size.load_seconds
        if len(injected) >= FEWEST_FAULTS and enough:
            return injected
        if len(injected) >= FEWEST_FAULTS and passed >= size.load_seconds - 15:
            continue  # too late for one more; the last events come without
        injected.append(_inject(place, name, passed, rng))
        one = injected[-1]
        say(f"{one.at_s:6.1f} s  {one.name:42} {one.lasted_s:5.1f} s   first new rows after {one.recovered_s:4.1f} s")
    raise AssertionError("the schedule has no end")


def _inject(place: Stage, name: str, at_s: float, rng: random.Random) -> Injected:
    course = FAULTS[name](place, rng)
    began = time.monotonic()
    after: list[Worker] = []
    while True:
        try:
            lasts_s = next(course)
        except StopIteration as end:
            after = end.value
            break
        time.sleep(lasts_s)
    ended = time.monotonic()
    _wait_for_rows(place, after, name)
    return Injected(name, at_s, ended - began, time.monotonic() - ended)


def _wait_for_rows(place: Stage, after: list[Worker], name: str) -> None:
    """Until `after` have opened partitions, and every partition has a newer checkpoint than it had then."""
    until(place, lambda: all(one.opened or one not in place.workers for one in after), f"workers after: {name}")
    before = place.checkpoints()

    def moved() -> bool:
        now = place.checkpoints()
        return all(now.get(number, 0) > before.get(number, 0) for number in range(PARTITIONS))

    until(place, moved, f"new rows of every partition after: {name}")


def _pause(place: Stage, seconds: float) -> None:
    time.sleep(seconds)
    place.supervise()


def until(place: Stage, condition: Callable[[], bool], what: str, limit_s: float = RECOVERY_LIMIT_SECONDS) -> None:
    """Returns when `condition()` is true, and keeps workers running meanwhile. Raises `NotRecovered`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            last = "\n".join(f"worker {one.number}: {one.process.log[-1500:]}" for one in place.workers)
            raise NotRecovered(f"waited {limit_s:.0f} s for {what}; workers said last:\n{last}")
        place.supervise()
        time.sleep(LOOK_SECONDS)


def reached(place: Stage, ends: dict[int, int]) -> bool:
    """Whether the checkpoints have reached these ends."""
    now = place.checkpoints()
    return all(now.get(number, 0) >= end for number, end in ends.items())


def _report(size: Size, injected: list[Injected], said: dict[str, Any], load_s: float) -> dict[str, Any]:
    recovered = [one.recovered_s for one in injected]
    killed = [one.recovered_s for one in injected if "killed" in one.name and "broker" not in one.name]
    return {
        "faults": len(injected),
        "kinds_of_fault": len({one.name for one in injected}),
        "events": said["events"],
        "resent": said["resent"],
        "epochs": said["epochs"],
        "events_per_s": round(said["events"] / load_s),
        "seconds": round(load_s),
        "seed": size.seed,
        "horizon_s": size.horizon_s,
        "recovery_p50_s": round(median(recovered), 1),
        "recovery_max_s": round(max(recovered), 1),
        "recovery_of_killed_max_s": round(max(killed), 1) if killed else None,
    }
