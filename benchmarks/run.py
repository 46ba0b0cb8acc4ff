"""The whole bench in one run: what is measured, in which order, and the figures as one dictionary."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import emitter_call
from benchmarks.delay import measure_delay
from benchmarks.facts import FactsDiffer, compare, rows_of
from benchmarks.load import Said, seconds_of, stream
from benchmarks.measuring import WORKER, Measured, measure
from benchmarks.world import PARTITIONS, Say, Topic, World, now_us, world

_PYTHON: Final = (sys.executable, "-m")
PLAIN_FAUST: Final = (*_PYTHON, "benchmarks.contenders.plain_faust")
FAUST_TABLES: Final = (*PLAIN_FAUST, "--tables")
CONFLUENT_LOOP: Final = (*_PYTHON, "benchmarks.contenders.confluent_loop")
LIMIT: Final = (*_PYTHON, "benchmarks.contenders.limit")
LIBRARIES: Final = ("faust-streaming", "aiokafka", "confluent-kafka", "polars", "polars-avro", "fastavro", "pyarrow")


@dataclass(frozen=True)
class Size:
    """How much is measured: events by batch size for ours and the limit, for rivals, repeats, seconds of the rest."""

    events: dict[int, int] = field(default_factory=lambda: {1: 300_000, 10: 500_000, 50: 600_000})
    rival_events: int = 40_000
    repeats: int = 3
    seconds: float = 10.0


QUICK: Final = Size({1: 3_000, 10: 3_000, 50: 3_000}, 1_000, 1, 1.0)


def run(size: Size, say: Say) -> dict[str, Any]:
    """All figures. Raises `FactsDiffer` where a contender's facts are not ours."""
    now = now_us()
    most = max(*size.events.values(), size.rival_events)
    with world(say, now) as place:
        say(f"Making {most} events")
        said = stream(most, PARTITIONS, now - int(seconds_of(most) * 1e6))
        figures: dict[str, Any] = {"pipeline_us_per_event": {}, "pipeline_events_per_s": {}}
        figures |= {"limit_us_per_event": {}, "limit_events_per_s": {}}
        for per_batch, events in size.events.items():
            _pipeline(place, said[:events], per_batch, size.repeats, figures, say)
        _rivals(place, said[: size.rival_events], figures, say)
        say("Emitter: cost of a call")
        place.broker.create_topic("emitter_call", partitions=12)
        figures |= emitter_call.measure(2000, size.seconds, place.broker.bootstrap)
        say("Delay from event to row")
        figures |= measure_delay(place, size.seconds)
    return figures | _ratios(figures) | _surroundings()


def _pipeline(
    place: World, said: Sequence[Said], per_batch: int, repeats: int, figures: dict[str, Any], say: Say
) -> None:
    """Ours and the limit in turn, on one topic; medians."""
    topic = place.load(f"events-{per_batch}", said, per_batch)
    ours: list[Measured] = []
    limits: list[Measured] = []
    for number in range(1, repeats + 1):
        say(f"{per_batch} a batch: pipeline and limit, {number} of {repeats}")
        ours.append(measure(place, topic, WORKER))
        limits.append(measure(place, topic, LIMIT))
    for again in ours[1:]:
        compare("pipeline, repeated", ours[0].database, again.database)
    for limit in limits:
        if rows_of(limit.database) < rows_of(ours[0].database):
            raise FactsDiffer("limit: it wrote fewer facts than the pipeline")
    for name, runs in (("pipeline", ours), ("limit", limits)):
        figures[f"{name}_us_per_event"][str(per_batch)] = round(median(run.us_per_event for run in runs), 2)
        figures[f"{name}_events_per_s"][str(per_batch)] = round(median(run.events_per_s for run in runs))
    for each in (*ours, *limits):
        place.drop(each.database)


def _rivals(place: World, said: Sequence[Said], figures: dict[str, Any], say: Say) -> None:
    """Rivals on topics of their own, each held against our facts there."""
    for per_batch, rivals in (
        (1, {"plain_faust": PLAIN_FAUST, "faust_tables": FAUST_TABLES, "confluent_loop_1": CONFLUENT_LOOP}),
        (50, {"plain_faust_50": PLAIN_FAUST, "confluent_loop": CONFLUENT_LOOP}),
    ):
        topic: Topic = place.load(f"rivals-{per_batch}", said, per_batch)
        reference = measure(place, topic, WORKER)
        for name, command in rivals.items():
            say(f"{per_batch} a batch: {name}")
            measured = measure(place, topic, command)
            compare(name, reference.database, measured.database)
            figures[f"{name}_us_per_event"] = round(measured.us_per_event, 2)
            figures[f"{name}_events_per_s"] = round(measured.events_per_s)
            place.drop(measured.database)
        place.drop(reference.database)


def _ratios(figures: dict[str, Any]) -> dict[str, Any]:
    """At 50 a batch: how many times less CPU than a rival, and the share of the limit's throughput."""
    ours = figures["pipeline_us_per_event"]["50"]
    return {
        "times_plain_faust": round(figures["plain_faust_us_per_event"] / ours, 1),
        "times_faust_tables": round(figures["faust_tables_us_per_event"] / ours, 1),
        "times_confluent_loop": round(figures["confluent_loop_us_per_event"] / ours, 1),
        "share_of_limit": round(figures["pipeline_events_per_s"]["50"] / figures["limit_events_per_s"]["50"], 2),
        "facts": "identical",
    }


def _surroundings() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    versions = {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    return {"machine": f"{os.cpu_count()} x {model}", "versions": versions}
