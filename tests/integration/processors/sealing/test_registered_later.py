"""A tenant registered after its usage was sealed: attributed by an adjustment; closed months post to the open one."""

from __future__ import annotations

import pytest

from gatemeter.processors.corrections.reorganise import Reorganisation
from gatemeter.processors.corrections.staging import stage
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.sinks.reports.unattributed import unattributed
from support.facts import exact
from support.logs import START_US, build, response, standard_view
from support.sealing import Hours
from support.stories import Story

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
VIEW = build(standard_view(grace_us=4 * MINUTE_US))
LATER = build(standard_view().tenant("late", plan_id="claims", cost_centre="cc-9"))
IN_JUNE_US = 5 * DAY_US
"""After log time 0 of the tests, which is in May 2026."""

COST = 450_000_000
MARKUP = 14_999_850
"""33,333 millionths on tokens."""


@pytest.mark.parametrize("closed", [False, True])
def test_usage_waits_until_its_tenant_is_registered_and_posts_with_cause_and_reference(
    hours: Hours, closed: bool
) -> None:
    story = Story(hours, True, {1: VIEW})
    tried = {"tenant_id": "late", "started_us": 0}
    story.tell(
        story.gateway.send(
            [response("r", 0, status="error", delivered=False, **tried), response("r", 1, attempt=2, **tried)], 0
        )
    )
    story.quiet_until(IN_JUNE_US + 4 * MINUTE_US)
    hours.seal()
    (waiting,) = unattributed(hours.client)
    assert (waiting.tenant_id, waiting.note, waiting.attempts, waiting.provider_pico) == (
        "late",
        "unknown_tenant",
        2,
        2 * COST,
    )
    assert waiting.first_seen_us == START_US
    if closed:
        hours.topic.close_period("2026-05", len(hours.topic.chain().seals) - 1)
    span = UsageHours(START_US, START_US + HOUR_US)
    staged = stage(hours.sink, "run-1", Reorganisation(hours.client, None, span, LATER).rows("run-1", "registered"))
    assert staged.entries == 2
    story.tell(
        story.log.operate(
            "Commit",
            IN_JUNE_US + 5 * MINUTE_US,
            run_id="run-1",
            rows_digest=staged.digest,
            entries=2,
            cause="reorganisation",
        )
    )
    assert unattributed(hours.client), "it counts from the seal of its hour on"
    story.quiet_until(IN_JUNE_US + 2 * HOUR_US)
    hours.seal()
    assert unattributed(hours.client) == []
    columns = "attempt, cause, reverses != '', usage_period, posting_period, attribution, charge, absorbed, absorbed_to"
    booked = hours.ledger(f"{columns}, reference", "cause = 'reorganisation' AND reverses = ''")
    posting = "2026-06" if closed else "2026-05"
    head = ("reorganisation", False, "2026-05", posting, "attributed")
    assert booked == [
        (1, *head, exact(0), exact(COST + MARKUP), "retries", "run-1"),
        (2, *head, exact(COST + MARKUP), exact(0), "", "run-1"),
    ]
    (line,) = hours.rows(
        "SELECT sum(charge) AS charge, any(cost_centre) AS centre FROM charge_lines WHERE tenant_id = 'late'"
    )
    assert line == {"charge": exact(COST + MARKUP), "centre": "cc-9"}
