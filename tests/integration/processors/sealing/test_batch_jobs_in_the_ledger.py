"""A batch job from its REQUEST to the ledger: carried over while it runs, one charge in the month in which it ends."""

from __future__ import annotations

import pytest

from gatemeter.processors.corrections.open_points import open_points
from support.facts import exact
from support.logs import build, policy, request, response, standard_view
from support.sealing import Hours
from support.stories import Story

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
VIEW = build(standard_view(grace_us=4 * MINUTE_US))
JOB = {"workload_class": "batch"}
IN_JUNE_US = 5 * DAY_US
"""After log time 0 of the tests, which is in May 2026."""


@pytest.mark.parametrize("columnar", [False, True])
def test_a_job_that_ends_in_the_next_month_is_carried_over_and_charged_there(hours: Hours, columnar: bool) -> None:
    story = Story(hours, columnar, {1: VIEW})
    gateway = story.gateway
    story.tell(gateway.send([request("job", 0, **JOB), request("other", 0, **JOB)], 0))
    running = {**JOB, "tokens": None, "status": "in_progress", "started_us": 0}
    story.tell(gateway.send([response("job", 30 * MINUTE_US, **running)], 30 * MINUTE_US))
    story.quiet_until(HOUR_US + 4 * MINUTE_US)
    hours.seal()
    found = {point.kind: point for point in open_points(hours.client, "2026-05", looks=1)}
    assert set(found["carried_over"].examples) == {"gw-a/other/1", "gw-a/job/1"}
    assert (found["orphans"].count, found["without_usage"].count) == (0, 0)
    final = response("job", IN_JUNE_US, started_us=0, usage_revision=1, **JOB)
    story.tell(gateway.send([final], IN_JUNE_US))
    assert open_points(hours.client, "2026-05", looks=1)[3].examples == ("gw-a/other/1",)
    story.quiet_until(IN_JUNE_US + HOUR_US + 4 * MINUTE_US)
    hours.seal()
    booked = hours.ledger("cause, reverses != '', usage_period, status, charge", "request_id = 'job'")
    charge = exact((100 * 2_500_000 + 20 * 10_000_000) * 115 // 100)
    assert booked == [
        ("usage", False, "2026-05", "in_progress", None),
        ("revision", True, "2026-05", "in_progress", None),
        ("revision", False, "2026-06", "ok", charge),
    ]
    by_month = "SELECT toString(month), attempts, attempts_not_answering, charge FROM chargeback_monthly"
    assert hours.rows(f"{by_month} WHERE app_id = 'chat' ORDER BY month")[-1]["charge"] == charge


def test_a_job_that_a_policy_denied_is_not_carried_over(hours: Hours) -> None:
    story = Story(hours, True, {1: VIEW})
    story.tell(story.gateway.send([request("job", 0, **JOB), policy("job", 0, "d1", outcome="deny")], 0))
    carried = {point.kind: point.count for point in open_points(hours.client, "2026-05", looks=1)}
    assert carried["carried_over"] == 0
