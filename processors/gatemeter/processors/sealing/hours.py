"""Which hour is sealed next, and whether it can be: pure rules.

Hours are sealed in order without a gap, empty ones too, from the first posted hour on. An hour is over when every
partition that Kafka lists has a checkpoint whose posting floor has reached its end: from then on nothing posts to it.
The wall clock has no say: an hour waits for a partition that lags, however late it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gatemeter.schemas.seals import HOUR_US

Place = tuple[str, int]
"""Topic and partition."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing can be sealed now, and why."""

    reason: str


def next_hour(tip_hour_us: int | None, first_posted_us: int | None) -> int | None:
    """The hour after the tip's; without a tip the first posted hour; None where nothing was ever posted."""
    return first_posted_us if tip_hour_us is None else tip_hour_us + HOUR_US


def why_not_sealable(hour_us: int, floors: Mapping[Place, int | None]) -> str:
    """What the hour waits for, '' where it is over. `floors`: of every partition, None where it has no checkpoint."""
    if not floors:
        return "no partition is known"
    end_us = hour_us + HOUR_US
    for (topic, partition), floor_us in sorted(floors.items()):
        if floor_us is None:
            return f"{topic}[{partition}] has no checkpoint"
        if floor_us < end_us:
            return f"{topic}[{partition}] has reached {utc(floor_us)}, the hour ends at {utc(end_us)}"
    return ""


def over_before(floors: Mapping[Place, int | None]) -> int:
    """The greatest hour such that all hours below it are over; 0 where a partition has no checkpoint."""
    reached = [floor_us or 0 for floor_us in floors.values()]
    return min(reached, default=0) // HOUR_US * HOUR_US


def utc(at_us: int) -> str:
    """A moment for people, 2026-03-01T12:00:00Z; microseconds only where there are any."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
