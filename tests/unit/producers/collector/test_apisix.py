"""What APISIX's log entries say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.producers.collector.sources import Naming
from gatemeter.producers.foreign import BadItem
from support.collected import Said, changed, payload

ENTRY = payload("apisix_default")


def apisix(naming: Naming | None = None, **changes: Any) -> Said:
    return Said("apisix", changed(ENTRY, **changes), naming)


def test_the_default_log_is_one_attempt_with_its_tokens_and_times() -> None:
    said = apisix().only
    assert (said.status, said.http_status, said.usage_source) == ("ok", 200, "reported")
    assert (said.input_text_uncached, said.output_text_visible) == (23, 8)
    assert (said.provider, said.model, said.route, said.app_id) == (
        "openai",
        "gpt-4-0613",
        "ai-route",
        "research_agents",
    )
    assert (said.request_started_at, said.occurred_at) == (1787113201719250, 1787113204580750)
    assert (said.latency_us, said.ttft_us, said.identity_source) == (2_858_000, 1_200_000, "verified_credential")


def test_of_the_callers_address_the_network_is_kept() -> None:
    assert apisix().only.client_network == "10.0.0.0/24"
    forwarded = Naming("gw", fields={"client_network": "request.headers.x-real-ip"})
    assert apisix(forwarded, **{"request__headers__x-real-ip": "203.0.113.7"}).only.client_network == "203.0.113.0/24"
    assert apisix(client_ip="unix:").only.client_network is None


def test_the_same_entry_says_the_same_events_and_two_requests_are_never_one() -> None:
    assert apisix().events == apisix().events
    assert apisix(start_time=1787113201720).only.request_id != apisix().only.request_id
    numbered = apisix(request_id="abc").only.request_id
    assert numbered == apisix(request_id="abc", latency=3000).only.request_id != apisix().only.request_id


def test_the_provider_is_that_of_the_route_or_of_the_senders_settings() -> None:
    assert apisix(Naming("gw", providers={"ai-route": "deepseek"})).only.provider == "deepseek"
    assert apisix(Naming("gw", constants={"provider": "azure"})).only.provider == "azure"
    assert apisix(request__uri="/v1/messages").only.provider == "anthropic"


@pytest.mark.parametrize("zero", [0, "0"])
def test_zeros_are_missing(zero: Any) -> None:
    said = apisix(llm_summary__prompt_tokens=zero, llm_summary__completion_tokens=zero).only
    assert (said.usage_source, said.input_text_uncached, said.output_text_visible) == ("missing", None, None)
    half = apisix(llm_summary__completion_tokens=zero).only
    assert (half.usage_source, half.input_text_uncached, half.output_text_visible) == ("missing", 23, None)


def test_a_logged_answer_corroborates() -> None:
    answer = {
        "id": "c-1",
        "usage": {"prompt_tokens": 23, "completion_tokens": 0},
        "choices": [{"text": "planted answer"}],
    }
    said = apisix(llm_summary__completion_tokens="0", response__body=json.dumps(answer)).only
    assert (said.usage_source, said.output_text_visible, said.provider_request_id) == ("reported", 0, "c-1")


def test_each_status_of_the_upstream_is_an_attempt() -> None:
    said = apisix(upstream_status="429, 502, 200")
    assert [(r.attempt, r.status, r.http_status) for r in said.responses] == [
        (1, "error", 429),
        (2, "error", 502),
        (3, "ok", 200),
    ]


def test_a_refusal_before_the_provider_is_a_denial() -> None:
    said = apisix(llm_summary=None, upstream=None, response__status=401, consumer=None)
    assert [(p.policy_id, p.outcome) for p in said.policies] == [("apisix/401", "deny")] and said.responses == []
    asked = apisix(response__status=401)
    assert (asked.only.status, asked.only.usage_source, asked.policies) == ("error", "missing", [])


def test_a_stream_is_told_by_the_type_of_the_request() -> None:
    assert apisix(request_type="ai_stream").only.stream is True
    assert apisix(llm_request={"stream": True, "messages": ["planted prompt"]}).only.stream is True
    assert apisix().only.stream is None


def test_what_is_no_call_to_a_model_is_nothing() -> None:
    assert apisix(llm_summary=None, request__uri="/salary/bob").events == []


def test_a_custom_format_without_times_is_refused_by_name() -> None:
    with pytest.raises(BadItem, match=r"^start_time: must be milliseconds"):
        apisix(start_time=None)
