"""What hooks add to a call: the same calls with a hook and without it, in turn, in one process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.hooks.outage import outage
from benchmarks.hooks.places import PLACES, TOPIC, Call, Took, spooling_emitter
from benchmarks.hooks.provider import CHUNKS

from gatemeter.producers import Emitter
from support.kafka import KafkaBroker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Rounds; whole and streamed calls of a round, each with and without the hook; seconds without Kafka."""

    rounds: int = 15
    calls: int = 400
    streams: int = 20
    outage_s: float = 60.0


QUICK = Size(2, 20, 2, 2.0)


def run(size: Size, say: Say) -> dict[str, Any]:
    """All figures. Raises `RuntimeError` where an event was lost."""
    figures: dict[str, Any] = {}
    with KafkaBroker() as broker:
        broker.create_topic(TOPIC, partitions=12)
        for name, place in PLACES.items():
            say(f"{name}: with and without the hook, {size.rounds} rounds")
            with emitting(broker.bootstrap) as emitter:
                figures[name] = added(place(None), place(emitter), size)
    say(f"Kafka away for {size.outage_s:.0f} s at 500 calls/s")
    figures["outage"] = outage(size.outage_s)
    return figures


@contextmanager
def emitting(bootstrap: str) -> Iterator[Emitter]:
    """An emitter with a spool; all that it took must be delivered at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gatemeter-hooks-"))
    emitter = spooling_emitter(bootstrap, folder)
    try:
        yield emitter
        report = emitter.close(60)
    finally:
        emitter.close(0)
        shutil.rmtree(folder, ignore_errors=True)
    if report.undelivered or report.counters.dropped or report.counters.invalid:
        raise RuntimeError(f"the emitter did not deliver everything: {report}")


def added(without: Call, metered: Call, size: Size) -> dict[str, float]:
    """Medians over the rounds of what the hook adds, in microseconds."""
    rounds = []
    for _ in range(size.rounds):
        bare, hooked = _in_turn(without, metered, False, size.calls)
        plain, read = _in_turn(without, metered, True, size.streams)
        whole, first = (lambda took: took.whole_ns), (lambda took: took.first_ns)
        rounds.append(
            {
                "request_p50_us": _at(hooked, whole, 50) - _at(bare, whole, 50),
                "request_p99_us": _at(hooked, whole, 99) - _at(bare, whole, 99),
                "chunk_us": (_at(read, whole, 50) - _at(plain, whole, 50)) / CHUNKS,
                "first_byte_us": _at(read, first, 50) - _at(plain, first, 50),
                "bare_request_p50_us": _at(bare, whole, 50),
            }
        )
    return {name: round(median(each[name] for each in rounds), 1) for name in rounds[0]}


def _in_turn(without: Call, metered: Call, stream: bool, calls: int) -> tuple[list[Took], list[Took]]:
    bare, hooked = [], []
    for _ in range(calls):
        bare.append(without(stream))
        hooked.append(metered(stream))
    return bare, hooked


def _at(took: list[Took], what: Callable[[Took], int], percent: int) -> float:
    ordered = sorted(map(what, took))
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] / 1000
