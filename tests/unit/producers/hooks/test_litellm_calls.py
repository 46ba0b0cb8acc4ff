"""A call through LiteLLM as its callbacks tell it, in the orders that they come in: each attempt is published once."""

from __future__ import annotations

import asyncio
import copy
import json
from types import SimpleNamespace
from typing import Any

from gatemeter.producers import PolicyEvent
from gatemeter.producers.hooks.litellm_calls import Call
from gatemeter.producers.validation import spool_form
from support.hooks import CHAT, SECRET, RecordingEmitter


class Emitter(RecordingEmitter):
    """Keeps policies too."""

    def __init__(self) -> None:
        super().__init__()
        self.policies: list[PolicyEvent] = []

    def policy(self, **fields: Any) -> bool:
        event = PolicyEvent(**fields)
        self._check(spool_form(event))
        self.policies.append(event)
        return True

    @property
    def said(self) -> list[tuple[Any, ...]]:
        return [(e.attempt, e.status, e.usage_source, e.usage_revision, e.delivered) for e in self.responses]


KWARGS: dict[str, Any] = {
    "call_type": "acompletion",
    "api_key": SECRET,
    "messages": [{"role": "user", "content": "planted prompt"}],
    "litellm_params": {"metadata": {"user_api_key_hash": "a" * 64, "user_api_key_team_id": "acme"}},
}
DONE = {**KWARGS, "original_response": json.dumps(CHAT)}
ESTIMATE = SimpleNamespace(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11})


def failure(status: int = 500) -> Exception:
    made = type("InternalServerError", (Exception,), {})()
    made.status_code = status
    return made


def begun(stream: bool = False) -> tuple[Emitter, Call]:
    emitter = Emitter()
    call = Call(emitter, KWARGS)
    call.begin("acompletion", "openai", "gpt-4o", stream)
    return emitter, call


def test_a_retry_that_works_is_two_attempts_though_the_failure_is_told_twice() -> None:
    emitter, call = begun()
    call.failed(failure())
    call.gave_up({**KWARGS, "exception": failure()})
    call.begin("acompletion", "openai", "gpt-4o", False)
    call.succeeded(DONE, None)
    call.succeeded(DONE, None)
    assert emitter.said == [(1, "error", "missing", 0, False), (2, "ok", "reported", 0, True)]
    assert [event.attempt for event in emitter.requests] == [1, 2]
    assert emitter.responses[0].http_status == 500


def test_a_call_that_is_translated_begins_and_fails_twice_and_is_one_attempt() -> None:
    emitter, call = begun()
    call.begin("aresponses", "openai", "gpt-4o", False)
    call.failed(failure())
    call.failed(failure())
    assert emitter.said == [(1, "error", "missing", 0, False)]
    assert len(emitter.requests) == 1


def test_a_stream_that_is_left_is_published_at_once_and_its_estimate_is_a_revision() -> None:
    emitter, call = begun(stream=True)
    watch = call.watching(SimpleNamespace(chunks=[]))
    assert watch is not None
    call.touched()
    call.streamed(watch, asyncio.CancelledError())
    assert emitter.said == [(1, "cancelled", "missing", 0, None)]
    call.succeeded({**KWARGS, "standard_logging_object": {"error_information": {"error_code": "499"}}}, ESTIMATE)
    assert emitter.said[1:] == [(1, "cancelled", "estimated", 1, None)]
    first, second = emitter.responses
    assert (first.latency_us, first.ttft_us) == (second.latency_us, second.ttft_us)
    call.succeeded(KWARGS, ESTIMATE)
    assert len(emitter.responses) == 2


def test_a_stream_that_breaks_is_an_error_whose_estimate_is_a_revision() -> None:
    emitter, call = begun(stream=True)
    watch = call.watching(SimpleNamespace(chunks=[]))
    assert watch is not None
    call.streamed(watch, failure())
    call.gave_up({**KWARGS, "exception": failure(), "combined_usage_object": ESTIMATE.usage})
    assert emitter.said == [(1, "error", "missing", 0, False), (1, "error", "estimated", 1, False)]


def test_a_whole_answer_is_published_before_the_client_has_it_and_kept_back_by_a_revision() -> None:
    emitter, call = begun()
    call.answered(DONE)
    call.succeeded(DONE, None)
    assert emitter.said == [(1, "ok", "reported", 0, True)]
    call.gave_up({**DONE, "exception": type("HTTPException", (Exception,), {})()})
    assert emitter.said[1:] == [(1, "ok", "reported", 1, False)]


def test_an_answer_without_usage_stays_missing_whatever_comes_later() -> None:
    emitter, call = begun()
    silent = {**KWARGS, "original_response": json.dumps({**CHAT, "usage": None})}
    call.answered(silent)
    call.succeeded(silent, ESTIMATE)
    assert emitter.said == [(1, "ok", "missing", 0, True)]


def test_a_stream_that_ends_waits_for_its_figures_and_says_whose_they_are() -> None:
    for chunks, source in (([SimpleNamespace(usage=CHAT["usage"])], "reported"), ([], "estimated")):
        emitter, call = begun(stream=True)
        watch = call.watching(SimpleNamespace(chunks=chunks))
        assert watch is not None
        call.streamed(watch, None)
        assert len(emitter.said) == (source == "reported")
        call.succeeded(KWARGS, ESTIMATE)
        assert emitter.said == [(1, "ok", source, 0, True)]


def test_a_fallback_in_the_middle_of_a_stream_leaves_no_attempt_without_a_response() -> None:
    emitter, call = begun(stream=True)
    call.watching(SimpleNamespace(chunks=[]))
    call.begin("acompletion", "openai", "gpt-4o-mini", True)
    call.succeeded(KWARGS, ESTIMATE)
    assert [line[:3] for line in emitter.said] == [(1, "error", "missing"), (2, "ok", "estimated")]


def test_what_is_refused_in_the_middle_is_cancelled_or_kept_back() -> None:
    refused = type("HTTPException", (Exception,), {})()
    emitter, call = begun()
    call.gave_up({**KWARGS, "exception": refused})
    assert emitter.said == [(1, "cancelled", "missing", 0, None)]
    assert [event.outcome for event in emitter.policies] == ["deny"]
    emitter, call = begun()
    call.gave_up({**DONE, "exception": refused})
    assert emitter.said == [(1, "ok", "reported", 0, False)]


def test_decisions_are_published_once_though_every_callback_tells_them() -> None:
    emitter, call = begun()
    told = {"guardrail_information": [{"guardrail_name": "pii", "guardrail_status": "success"}]}
    call.succeeded({**DONE, "standard_logging_object": told}, None)
    call.gave_up({**KWARGS, "standard_logging_object": told, "exception": failure()})
    assert [(event.policy_id, event.outcome) for event in emitter.policies] == [("pii", "allow")]


def test_the_call_stays_one_when_litellm_copies_its_records_and_says_nothing_as_text() -> None:
    _, call = begun()
    assert copy.deepcopy({"gatemeter": call})["gatemeter"] is call
    assert SECRET not in repr(call) and "planted" not in repr(call)
