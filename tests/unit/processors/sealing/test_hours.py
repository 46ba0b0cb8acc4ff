"""Which hour is sealed next, and what it waits for: to the microsecond, and for every partition."""

from __future__ import annotations

import pytest

from gatemeter.processors.sealing.hours import next_hour, over_before, why_not_sealable
from gatemeter.schemas.seals import HOUR_US

NOON_US = 1_772_366_400_000_000
END_US = NOON_US + HOUR_US
HERE, THERE = ("gatemeter.events", 0), ("gatemeter.events", 1)


def test_an_hour_is_over_when_the_last_partition_has_reached_its_end() -> None:
    assert why_not_sealable(NOON_US, {HERE: END_US, THERE: END_US + 5 * HOUR_US}) == ""


@pytest.mark.parametrize("floor_us", [END_US - 1, NOON_US, 0])
def test_it_waits_for_the_partition_that_is_a_microsecond_behind(floor_us: int) -> None:
    waits = why_not_sealable(NOON_US, {HERE: END_US, THERE: floor_us})
    assert waits.startswith("gatemeter.events[1] has reached ")
    assert waits.endswith("the hour ends at 2026-03-01T13:00:00Z")


def test_it_waits_for_a_partition_that_no_worker_has_folded() -> None:
    assert why_not_sealable(NOON_US, {HERE: END_US, THERE: None}) == "gatemeter.events[1] has no checkpoint"
    assert over_before({HERE: END_US, THERE: None}) == 0


def test_it_waits_where_no_partition_is_known() -> None:
    assert why_not_sealable(NOON_US, {}) == "no partition is known"


def test_hours_follow_each_other_without_a_gap() -> None:
    assert next_hour(None, None) is None
    assert next_hour(None, NOON_US) == NOON_US
    assert next_hour(NOON_US, None) == END_US
    assert over_before({HERE: END_US + 1, THERE: END_US + HOUR_US}) == END_US
    assert over_before({HERE: END_US - 1, THERE: END_US}) == NOON_US
