"""Traces from the log to the ledger: the fold makes the rows, its own checkpoints say which hours are over."""

from __future__ import annotations

import pytest

from support.facts import exact
from support.logs import START_US, build, request, response, standard_view
from support.sealing import Hours
from support.stories import Story

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
VIEW = build(standard_view(grace_us=4 * MINUTE_US), 1)
RAISED = build(standard_view(grace_us=6 * MINUTE_US), 2)


@pytest.mark.parametrize("columnar", [False, True])
def test_trace_26_a_grace_raised_after_the_seal_does_not_reopen_the_hour(hours: Hours, columnar: bool) -> None:
    story = Story(hours, columnar, {1: VIEW, 2: RAISED})
    story.tell(story.gateway.send([response("r", MINUTE_US)], 2 * MINUTE_US))
    story.quiet_until(HOUR_US + 4 * MINUTE_US)
    assert [seal.posted_hour_us for seal in hours.seal().hours] == [START_US]
    late = HOUR_US + 5 * MINUTE_US
    story.tell(story.log.control(RAISED, HOUR_US + 4 * MINUTE_US))
    story.tell(story.gateway.send([response("late", late, started_us=HOUR_US - MINUTE_US)], late))
    story.quiet_until(2 * HOUR_US + 6 * MINUTE_US)
    assert [seal.posted_hour_us for seal in hours.seal().hours] == [START_US + HOUR_US]
    booked = hours.ledger("request_id, cause, toUnixTimestamp64Micro(usage_hour)")
    assert booked == [("r", "usage", START_US), ("late", "late", START_US)]


@pytest.mark.parametrize("columnar", [False, True])
def test_trace_05_a_sealed_orphan_is_replaced_by_its_late_response(hours: Hours, columnar: bool) -> None:
    story = Story(hours, columnar, {1: VIEW})
    story.tell(story.gateway.send([request("r", MINUTE_US)], MINUTE_US))
    story.quiet_until(20 * MINUTE_US)  # the orphan timer
    story.quiet_until(HOUR_US + 4 * MINUTE_US)
    hours.seal()
    late = HOUR_US + 10 * MINUTE_US
    story.tell(story.gateway.send([response("r", late, started_us=MINUTE_US)], late))
    story.quiet_until(2 * HOUR_US + 4 * MINUTE_US)
    hours.seal()
    assert hours.ledger("cause, status, reverses != ''") == [
        ("usage", "orphan", False),
        ("revision", "orphan", True),
        ("revision", "ok", False),
    ]
    (first, _) = hours.topic.chain().seals
    hour = (START_US - 1_772_366_400_000_000) // HOUR_US
    assert hours.roots(hour) == (first.leaves_root, first.entries_root)


@pytest.mark.parametrize("columnar", [False, True])
def test_trace_22_final_only_absorbs_a_sealed_attempt_once_another_answers(hours: Hours, columnar: bool) -> None:
    story = Story(hours, columnar, {1: VIEW})
    claims = {"tenant_id": "globex", "identity_source": "verified_credential"}
    failed = response("r", MINUTE_US, status="error", delivered=None, **claims)
    story.tell(story.gateway.send([failed], 2 * MINUTE_US))
    story.quiet_until(HOUR_US + 4 * MINUTE_US)
    hours.seal()
    later = HOUR_US + 30 * MINUTE_US
    answered = response("r", later, started_us=MINUTE_US, attempt=2, **claims)
    story.tell(story.gateway.send([answered], later))
    before = hours.rows("SELECT sum(charge) AS charge, sum(absorbed) AS absorbed FROM charge_lines")
    story.quiet_until(2 * HOUR_US + 4 * MINUTE_US)
    assert len(hours.seal().hours) == 1
    after = hours.rows("SELECT sum(charge) AS charge, sum(absorbed) AS absorbed FROM charge_lines")
    assert before == after
    assert after[0]["charge"] == after[0]["absorbed"] > exact(0)
    assert hours.ledger("attempt, cause, attempt_role, reverses != ''") == [
        (1, "usage", "failed", False),
        (1, "retry_rule", "failed", True),
        (1, "retry_rule", "retried", False),
        (2, "late", "answered", False),
    ]


@pytest.mark.parametrize("columnar", [False, True])
def test_a_sealed_estimate_is_replaced_by_what_the_provider_reports_later(hours: Hours, columnar: bool) -> None:
    story = Story(hours, columnar, {1: VIEW})
    texts = {"uncounted_prompt": "one two three", "uncounted_completion": "four five"}
    cut = response("r", MINUTE_US, tokens=None, status="cancelled", delivered=None, usage_source="missing", **texts)
    story.tell(story.gateway.send([cut], 2 * MINUTE_US))
    story.quiet_until(HOUR_US + 4 * MINUTE_US)
    hours.seal()
    query = "SELECT estimated_tokens, estimated_charge, charge FROM chargeback_monthly"
    (estimate,) = hours.rows(query)
    assert estimate["estimated_tokens"] == 5
    assert estimate["estimated_charge"] == estimate["charge"] > exact(0)
    late = HOUR_US + 10 * MINUTE_US
    fields = {"status": "cancelled", "delivered": None, "started_us": MINUTE_US}
    story.tell(story.gateway.send([response("r", late, tokens=(7, 3), usage_revision=1, **fields)], late))
    story.quiet_until(2 * HOUR_US + 4 * MINUTE_US)
    hours.seal()
    assert hours.ledger("cause, usage_source, reverses != '', input_tokens, output_tokens") == [
        ("usage", "estimated", False, 3, 2),
        ("revision", "estimated", True, -3, -2),
        ("revision", "reported", False, 7, 3),
    ]
    (replaced,) = hours.rows(query)
    assert (replaced["estimated_tokens"], replaced["estimated_charge"]) == (0, exact(0))
    (posted,) = hours.rows("SELECT sum(charge) AS charge, sum(estimated_charge) AS estimated FROM postings")
    assert posted == {"charge": replaced["charge"], "estimated": exact(0)}
