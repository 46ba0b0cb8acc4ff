"""The demo's traffic holds exactly the trace, says what it adds, and is drawn from its seed alone."""

from __future__ import annotations

from collections import Counter

import pytest

from gatemeter.cli.demo.people import CALLERS
from gatemeter.cli.demo.result import Expected, Result, expected
from gatemeter.cli.demo.trace import Call, data_folder, moved, read_calls
from gatemeter.cli.demo.traffic import Seen, traffic
from gatemeter.producers.events import PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.producers.validation import spool_form

NOW_US = 1_790_000_000_000_000


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    return moved(read_calls(data_folder() / "azure-llm-2023"), NOW_US)


@pytest.fixture(scope="module")
def seen(calls: list[Call]) -> list[Seen]:
    return traffic(calls, 2023)


def test_the_trace_is_whole_and_its_last_request_is_now(calls: list[Call]) -> None:
    assert Counter(call.service for call in calls) == {"conversation": 19_366, "code": 8_819}
    assert sum(call.input_tokens for call in calls) == 40_421_844
    assert sum(call.output_tokens for call in calls) == 4_334_561
    assert calls[-1].started_us == NOW_US


def test_answers_carry_exactly_the_tokens_of_the_trace(calls: list[Call], seen: list[Seen]) -> None:
    answers = [s.event for s in seen if isinstance(s.event, ResponseEvent) and s.event.delivered]
    assert len(answers) == len({answer.request_id for answer in answers}) == len(calls)
    sums = [(a.input_text_uncached or 0) + (a.input_text_cache_read or 0) for a in answers]
    assert sum(sums) == 40_421_844
    assert sum((a.output_text_visible or 0) + (a.output_text_reasoning or 0) for a in answers) == 4_334_561
    assert all(answer.status == "ok" for answer in answers)


def test_failed_attempts_come_before_the_answer_and_some_are_charged(seen: list[Seen]) -> None:
    failed = [s.event for s in seen if isinstance(s.event, ResponseEvent) and not s.event.delivered]
    assert {event.status for event in failed} == {"error", "timeout"}
    assert {event.usage_source for event in failed} == {"missing", "reported"}
    attempts = Counter(s.event.request_id for s in seen if isinstance(s.event, RequestEvent))
    assert set(attempts.values()) == {1, 2, 3}


def test_decisions_belong_to_requests_of_the_trace(seen: list[Seen]) -> None:
    requests = {s.event.request_id for s in seen if isinstance(s.event, RequestEvent)}
    decisions = [s.event for s in seen if isinstance(s.event, PolicyEvent)]
    assert {decision.request_id for decision in decisions} <= requests
    assert {decision.outcome for decision in decisions} == {"allow", "flag", "redact"}
    assert len({decision.decision_id for decision in decisions}) == len(decisions)


def test_the_same_seed_gives_the_same_events_and_another_seed_others(calls: list[Call]) -> None:
    few = calls[:500]
    once, again, other = ([spool_form(s.event) for s in traffic(few, seed)] for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_events_are_in_the_order_in_which_they_happened(seen: list[Seen]) -> None:
    times = [s.event.occurred_at for s in seen]
    assert times == sorted(times)


def test_every_caller_is_a_tenant_and_app_of_the_examples() -> None:
    tenants = (data_folder() / "tenants.yaml").read_text("utf-8")
    for caller in (caller for service in CALLERS.values() for caller in service):
        assert f"tenant: {caller.tenant_id}\n" in tenants
        assert caller.app_id in tenants or caller.tenant_id == "engineering"  # takes any application


def test_each_wrong_number_is_one_line(calls: list[Call], seen: list[Seen]) -> None:
    wanted = expected(calls, seen, 98_756, 480)
    assert wanted == Expected(28_185, 40_421_844, 4_334_561, 29_163, 733, 99_236)
    good = Result(28_185, 40_421_844, 4_334_561, 29_163, 733, 0, "ok", "USD", "1.0", 99_236, 1.0)
    assert good.problems(wanted, late=0) == []
    bad = Result(28_184, 40_421_844, 4_334_561, 29_163, 733, 2, "a hole", "USD", "1.0", 99_236, 1.0)
    assert bad.problems(wanted, late=3) == [
        "requests: expected 28,185, got 28,184",
        "responses that came too late for the live windows: expected 0, got 3",
        "quarantined: expected 0, got 2",
        "conservation: a hole",
    ]
