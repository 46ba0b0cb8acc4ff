"""What hooks add to a call: the same calls with a hook and without it, in turn, one hook after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.hooks.outage import CALLS_PER_S, outage
from benchmarks.hooks.places import TOPIC, asgi, httpx, in_process
from benchmarks.hooks.provider import CHUNKS
from benchmarks.hooks.proxies import behind_envoy, behind_litellm
from benchmarks.hooks.sides import Comparison, Side, Took

from support.kafka import KafkaBroker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Rounds; whole and streamed calls of a round, each with and without the hook; calls whose CPU is taken."""

    rounds: int
    calls: int
    streams: int
    cpu_calls: int


@dataclass(frozen=True)
class Hook:
    """How two sides of it are made, and how much is measured of it."""

    compared: Callable[[KafkaBroker], AbstractContextManager[Comparison]]
    size: Size


HOOKS: Final = {
    "asgi": Hook(lambda broker: in_process(asgi, broker.bootstrap), Size(15, 300, 20, 3000)),
    "httpx": Hook(lambda broker: in_process(httpx, broker.bootstrap), Size(15, 300, 20, 3000)),
    "envoy": Hook(behind_envoy, Size(10, 300, 10, 3000)),
    "litellm": Hook(behind_litellm, Size(6, 100, 5, 300)),
}
QUICK: Final = Size(2, 20, 2, 20)


def run(names: Sequence[str], outage_s: float, say: Say, size: Size | None = None) -> dict[str, Any]:
    """The figures of these hooks, then of `outage_s` without Kafka. Raises `RuntimeError` where an event was lost."""
    figures: dict[str, Any] = {}
    with KafkaBroker(measured=True) as broker:
        broker.create_topic(TOPIC, partitions=12)
        for name in names:
            hook = HOOKS[name]
            say(f"{name}: with and without the hook, {(size or hook.size).rounds} rounds")
            with hook.compared(broker) as compared:
                found = added(compared, size or hook.size)
            figures[name] = {**found, **compared.more}
    if outage_s:
        say(f"Kafka away for {outage_s:.0f} s at {CALLS_PER_S} calls/s")
        figures["outage"] = outage(outage_s)
    return figures


def added(compared: Comparison, size: Size) -> dict[str, float]:
    """Medians over the rounds of what the hook adds, in microseconds."""
    rounds = [_round(compared, size) for _ in range(size.rounds)]
    bare, metered = _cpu(compared.bare, size.cpu_calls), _cpu(compared.metered, size.cpu_calls)
    medians = {name: round(median(each[name] for each in rounds), 1) for name in rounds[0]}
    return {**medians, "cpu_us": round(metered - bare, 1), "bare_cpu_us": round(bare, 1)}


def _round(compared: Comparison, size: Size) -> dict[str, float]:
    """`request`: until the client has the answer, at a steady pace. `busy`: the whole call, without a pause."""
    bare, metered = _in_turn(compared, False, size.calls, 1 / CALLS_PER_S)
    bare_busy, busy = _in_turn(compared, False, size.calls, 0)
    plain, read = _in_turn(compared, True, size.streams, 0)
    return {
        "request_p50_us": _at(metered, _last, 50) - _at(bare, _last, 50),
        "request_p99_us": _at(metered, _last, 99) - _at(bare, _last, 99),
        "first_byte_us": _at(read, _first, 50) - _at(plain, _first, 50),
        "chunk_us": (_at(read, _whole, 50) - _at(plain, _whole, 50)) / CHUNKS,
        "busy_call_p50_us": _at(busy, _whole, 50) - _at(bare_busy, _whole, 50),
        "bare_request_p50_us": _at(bare, _last, 50),
        "bare_request_p99_us": _at(bare, _last, 99),
    }


def _in_turn(compared: Comparison, stream: bool, calls: int, pace_s: float) -> tuple[list[Took], list[Took]]:
    """So many calls of each side, a call every `pace_s` seconds at most."""
    bare: list[Took] = []
    metered: list[Took] = []
    next_s = time.perf_counter()
    for _ in range(calls):
        for side, took in ((compared.bare, bare), (compared.metered, metered)):
            time.sleep(max(0.0, next_s - time.perf_counter()))
            next_s = max(next_s + pace_s, time.perf_counter())
            took.append(side.call(stream))
    return bare, metered


def _cpu(side: Side, calls: int) -> float:
    """Microseconds of CPU of one call, all threads of the process."""
    before = side.cpu_ns()
    for _ in range(calls):
        side.call(False)
    return (side.cpu_ns() - before) / calls / 1000


def _first(took: Took) -> int:
    return took.first_ns


def _last(took: Took) -> int:
    return took.last_ns


def _whole(took: Took) -> int:
    return took.whole_ns


def _at(took: list[Took], what: Callable[[Took], int], percent: int) -> float:
    ordered = sorted(map(what, took))
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] / 1000
