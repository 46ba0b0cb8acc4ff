"""Versions, posted hours, latency classes and evidence grades of facts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gatemeter.processors.fold.facts import evidence_grade, latency_class, paired, version
from gatemeter.processors.fold.state import Clock
from gatemeter.processors.fold.types import HOUR_US, MINUTE_US
from gatemeter.processors.metadata.views import Parameters
from support.logs import START_US, Gateway, Log, build, collapse, new_fold, response, run, standard_view

SECOND = 1_000_000


def test_versions_rise_with_information_and_then_prefer_the_first_copy() -> None:
    rising = [
        version(has_response=False, usage_revision=0, offset=9, paired=False),
        version(has_response=False, usage_revision=0, offset=3, paired=False),
        version(has_response=True, usage_revision=0, offset=(1 << 40) - 1, paired=True),
        version(has_response=True, usage_revision=0, offset=8, paired=False),
        version(has_response=True, usage_revision=0, offset=8, paired=True),
        version(has_response=True, usage_revision=0, offset=7, paired=False),
        version(has_response=True, usage_revision=1, offset=900, paired=False),
        version(has_response=True, usage_revision=127, offset=0, paired=True),
    ]
    assert all(low < high for low, high in pairwise(rising))
    assert rising[-1] < 1 << 64
    assert rising[0] & 0x7FFF == 1, "the lowest 15 bits are the fold's release"


def test_pairing_later_sets_one_bit_and_nothing_else() -> None:
    low = version(has_response=True, usage_revision=0, offset=8, paired=False)
    fact = {"charge": 5, "paired": False, "version": low}
    assert paired(fact) == {"charge": 5, "paired": True, "version": low | 1 << 15}


@pytest.mark.parametrize(
    ("latency_us", "expected"),
    [
        (None, "unknown"),
        (0, "fast"),
        (999_999, "fast"),
        (1_000_000, "normal"),
        (4_999_999, "normal"),
        (5_000_000, "slow"),
        (19_999_999, "slow"),
        (20_000_000, "very_slow"),
    ],
)
def test_a_latency_class_begins_at_its_threshold(latency_us: int | None, expected: str) -> None:
    assert latency_class(latency_us, Parameters()) == expected


@pytest.mark.parametrize(("source", "grade"), [("verified_credential", "A"), ("mtls", "A"), ("header_claim", "B")])
def test_grade_a_needs_a_verified_identity(source: str, grade: str) -> None:
    assert evidence_grade(source) == grade


def test_the_floors_never_fall_when_time_steps_back_or_parameters_widen() -> None:
    clock = Clock()
    clock.advance(START_US, build(standard_view(grace_us=0, horizon_us=2 * MINUTE_US, orphan_timer_us=MINUTE_US)))
    floors = (clock.posting_floor_us, clock.memory_floor_us)
    clock.advance(START_US - HOUR_US, build(standard_view()))
    assert (clock.log_time_us, clock.posting_floor_us, clock.memory_floor_us) == (START_US, *floors)


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_usage_on_time_posts_to_its_own_hour_and_late_usage_to_the_floors(columnar: bool) -> None:
    log = Log()
    log.control(build(standard_view()))
    gateway = Gateway(log)
    edge = HOUR_US + 30 * MINUTE_US
    gateway.send([response("on time", 0)], edge - 1)
    gateway.send([response("late", HOUR_US - 1)], edge)
    gateway.send([response("very late", 0)], edge + 3 * HOUR_US)
    gateway.send([response("clock steps back", 0)], edge - 1)
    tables = collapse(run(new_fold({1: build(standard_view())}, columnar=columnar), log.records))
    hours = {row["request_id"]: (row["posted_hour"] - START_US) // HOUR_US for row in tables["usage_facts"].values()}
    assert hours == {"on time": 0, "late": 1, "very late": 4, "clock steps back": 4}
    assert {row["usage_hour"] - START_US for row in tables["usage_facts"].values()} == {0}


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_a_claimed_identity_is_charged_only_where_the_plan_allows_it(columnar: bool) -> None:
    log = Log()
    log.control(build(standard_view()))
    gateway = Gateway(log)
    claimed = {"identity_source": "header_claim"}
    gateway.send(
        [
            response("no", 0, **claimed),
            response("yes", 0, tenant_id="globex", **claimed),
            response("who", 0, tenant_id="x"),
        ],
        0,
    )
    tables = collapse(run(new_fold({1: build(standard_view())}, columnar=columnar), log.records))
    facts = {row["request_id"]: row for row in tables["usage_facts"].values()}
    assert facts["yes"]["charge"] > facts["yes"]["provider_cost"] > 0
    for name in ("no", "who"):
        assert facts[name]["charge"] == 0
        assert facts[name]["absorbed"] == facts[name]["provider_cost"] > 0
        assert facts[name]["absorbed_to"] == "unallocated"
