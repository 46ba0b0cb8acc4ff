"""What Kong's log entries say, and what its zeros and its own counts do not say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.producers.collector.sources import Naming, minted_request_id
from gatemeter.producers.foreign import BadItem
from support.collected import SECRET, Said, changed, payload

ENTRY = payload("kong_documented")
ANSWER = {
    "id": "chatcmpl-7",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"message": {"content": "planted answer"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 13,
        "completion_tokens": 0,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
}


def kong(naming: Naming | None = None, **changes: Any) -> Said:
    return Said("kong", changed(ENTRY, **changes), naming)


def test_the_documented_entry_is_one_attempt_with_its_tokens_and_times() -> None:
    said = kong().only
    assert (said.status, said.delivered, said.http_status, said.usage_source) == ("ok", True, 200, "reported")
    assert (said.input_text_uncached, said.output_text_visible, said.usage_raw) == (13, 12, None)
    assert (said.provider, said.model, said.served_model) == ("openai", "gpt-4o", "gpt-4o-2024-08-06")
    assert (said.operation, said.stream, said.route) == ("chat", False, "openai-chat")
    assert (said.request_started_at, said.occurred_at) == (1787113201719000, 1787113202695000)
    assert (said.latency_us, said.ttft_us, said.identity_source) == (972_000, 971_000, "header_claim")
    assert said.request_id == minted_request_id("gw", "9ec9264afbbbad5fe5c64877d92eeb04")


def test_of_the_callers_address_the_network_is_kept() -> None:
    assert {event.client_network for event in kong().events} == {"192.168.65.0/24"}
    assert kong(client_ip=None).only.client_network is None


def test_the_same_entry_says_the_same_events_and_another_gateways_are_others() -> None:
    assert kong().events == kong().events
    assert kong(Naming("other")).only.request_id != kong().only.request_id
    unnumbered = kong(request__id=None)
    assert unnumbered.events == kong(request__id=None).events
    assert unnumbered.only.request_id != kong(request__id=None, latencies__request=977).only.request_id


def test_who_kong_verified_is_who_is_said_and_what_a_header_says_is_a_claim() -> None:
    consumer = {
        "consumer": {"id": "c-1", "username": "bots", "custom_id": "acme"},
        "authenticated_entity": {"id": "k-1"},
    }
    said = kong(**consumer).only
    assert (said.app_id, said.credential_fingerprint, said.identity_source) == ("bots", "k-1", "verified_credential")
    named = kong(Naming("gw", {"tenant_id": "consumer.custom_id"}), **consumer).only
    assert (named.tenant_id, named.identity_source) == ("acme", "verified_credential")
    claimed = kong(
        Naming("gw", {"tenant_id": "request.headers.x-tenant"}), request__headers={"x-tenant": "acme"}, **consumer
    )
    assert (claimed.only.tenant_id, claimed.only.identity_source) == ("acme", "header_claim")
    assert kong(Naming("gw", constants={"tenant_id": "acme"}), **consumer).only.tenant_id == "acme"
    assert kong(request__tls={"client_verify": "SUCCESS"}).only.identity_source == "mtls"


@pytest.mark.parametrize("usage", [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {}, None])
def test_zeros_and_nothing_are_missing(usage: dict[str, int] | None) -> None:
    said = kong(ai__proxy__usage=usage).only
    assert (said.usage_source, said.input_text_uncached, said.output_text_visible) == ("missing", None, None)


def test_a_zero_beside_a_prompt_is_missing_and_the_prompt_is_kept_where_kong_cannot_have_counted_it() -> None:
    figures = {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40}
    own_count = kong(ai__proxy__usage=figures).only
    assert (own_count.usage_source, own_count.input_text_uncached) == ("missing", None)
    told = kong(ai__proxy__usage=figures, ai__proxy__meta__provider_name="anthropic").only
    assert (told.usage_source, told.input_text_uncached, told.output_text_visible) == ("missing", 40, None)


def test_what_kong_may_have_counted_in_a_stream_is_estimated() -> None:
    assert kong(ai__proxy__meta__request_mode="stream").only.usage_source == "estimated"
    assert kong(ai__proxy__meta__request_mode="stream").only.stream is True
    provider = kong(ai__proxy__meta__request_mode="stream", ai__proxy__meta__provider_name="anthropic").only
    assert provider.usage_source == "reported"
    details = kong(ai__proxy__meta__request_mode="stream", ai__proxy__usage__prompt_tokens_details={"cached_tokens": 5})
    only = details.only
    assert (only.usage_source, only.input_text_uncached, only.input_text_cache_read) == ("reported", 8, 5)


def test_a_logged_answer_has_the_providers_own_word_zeros_included_and_its_text_stays_behind() -> None:
    said = kong(ai__proxy__payload={"request": "planted prompt", "response": json.dumps(ANSWER)}).only
    assert (said.usage_source, said.input_text_uncached, said.input_text_cache_read) == ("reported", 10, 3)
    assert (said.output_text_visible, said.provider_request_id, said.finish_reason) == (0, "chatcmpl-7", "stop")


def test_earlier_targets_are_attempts_that_failed() -> None:
    tried = [{"provider": "openai", "model": "gpt-4o"}, {"provider": "gemini", "model": "gemini-2.5-pro"}]
    said = kong(ai__proxy__tried_targets=tried, ai__proxy__meta__provider_name="gemini")
    first, second = said.responses
    assert [(r.attempt, r.status, r.provider, r.usage_source) for r in (first, second)] == [
        (1, "error", "openai", "missing"),
        (2, "ok", "google", "reported"),
    ]
    assert first.request_id == second.request_id and [r.attempt for r in said.requests] == [1, 2]


@pytest.mark.parametrize(
    ("upstream", "answered", "status", "delivered"),
    [
        (500, 500, "error", False),
        (429, 429, "error", False),
        (504, 504, "timeout", False),
        (200, 499, "cancelled", None),
        (200, 500, "ok", False),
        ("502, 200", 200, "ok", True),
    ],
)
def test_how_it_ended(upstream: Any, answered: int, status: str, delivered: bool | None) -> None:
    said = kong(upstream_status=upstream, response__status=answered).only
    assert (said.status, said.delivered) == (status, delivered)
    assert (said.usage_source == "reported") == (status in ("ok", "cancelled"))


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_of_kongs_own_is_a_denial_without_an_attempt(status: int) -> None:
    said = kong(source="kong", upstream_status=None, tries=None, response__status=status, ai=None)
    [decision] = said.policies
    assert (decision.policy_id, decision.outcome, decision.attempt) == (f"kong/{status}", "deny", 0)
    assert said.responses == [] and len(said.requests) == 1


def test_a_fault_of_kongs_own_is_an_error() -> None:
    said = kong(source="kong", upstream_status=None, tries=None, response__status=503, ai=None)
    assert (said.only.status, said.only.usage_source, said.policies) == ("error", "missing", [])


def test_guards_say_what_they_decided() -> None:
    guard = {"input_processing_latency": 12, "input_request_uuid": "u-1", "output_processing_latency": 7.5}
    allowed = kong(**{"ai__proxy__lakera-guard": guard})
    assert [(p.policy_id, p.outcome, p.latency_us) for p in allowed.policies] == [
        ("kong/lakera-guard", "allow", 12_000),
        ("kong/lakera-guard", "allow", 7_500),
    ]
    assert len({p.decision_id for p in allowed.policies}) == 2 and allowed.only.status == "ok"
    blocked = {**guard, "input_block_reason": "prompt_attack", "output_processing_latency": None}
    refused = kong(source="kong", upstream_status=None, response__status=400, **{"ai__proxy__lakera-guard": blocked})
    assert [(p.outcome, p.attempt) for p in refused.policies] == [("deny", 0)] and refused.responses == []


def test_an_answer_that_a_guard_kept_back_was_used_all_the_same() -> None:
    guard = {"output_processing_latency": 7, "output_block_reason": "moderated_content/hate"}
    said = kong(source="kong", response__status=400, **{"ai__proxy__lakera-guard": guard})
    assert (said.only.status, said.only.delivered, said.only.input_text_uncached) == ("ok", False, 13)
    assert [(p.outcome, p.attempt) for p in said.policies] == [("deny", 1)]


def test_the_sanitizer_redacts() -> None:
    items = [{"original_text": "planted prompt"}]
    said = kong(ai__sanitizer={"pii_identified": 3, "pii_sanitized": 2, "duration": 35, "sanitized_items": items})
    assert [(p.policy_id, p.outcome, p.latency_us) for p in said.policies] == [("kong/ai-sanitizer", "redact", 35_000)]


@pytest.mark.parametrize(("extra", "cache"), [({}, "exact"), ({"embeddings_provider": "openai"}, "semantic")])
def test_a_hit_of_the_cache_is_one(extra: dict[str, str], cache: str) -> None:
    said = kong(ai__proxy__cache={"cache_status": "Hit", **extra}, upstream_status=None, tries=None, source="kong").only
    assert (said.gateway_cache, said.status, said.input_text_uncached) == (cache, "ok", 13)
    assert kong(ai__proxy__cache={"cache_status": "Miss"}).only.gateway_cache == "miss"


def test_another_plugins_call_is_a_request_of_its_own_with_this_one_as_its_parent() -> None:
    meta = {
        "provider_name": "openai",
        "request_model": "gpt-4.1-mini",
        "response_model": "gpt-4.1-mini",
        "llm_latency": 460,
    }
    judge = {"meta": meta, "usage": {"prompt_tokens": 90, "completion_tokens": 2}}
    said = kong(**{"ai__ai-llm-as-judge": judge})
    main, own = said.responses
    assert (own.parent_request_id, own.model, own.latency_us) == (main.request_id, "gpt-4.1-mini", 460_000)
    assert (own.input_text_uncached, own.output_text_visible, own.usage_source) == (90, 2, "reported")
    assert own.request_id != main.request_id


@pytest.mark.parametrize(
    "entry",
    [
        {"request__uri": "/salary/bob", "ai": None},
        {"request__method": "GET", "ai": None},
        {"request": None, "ai": None},
    ],
)
def test_what_is_no_call_to_a_model_is_nothing(entry: dict[str, Any]) -> None:
    assert kong(**entry).events == []


def test_a_call_without_statistics_is_metered_with_usage_unknown() -> None:
    said = kong(ai=None).only
    assert (said.provider, said.operation, said.usage_source) == ("openai", "chat", "missing")


def test_an_entry_without_a_time_is_refused_by_name() -> None:
    with pytest.raises(BadItem, match=r"^started_at: must be milliseconds of 0 to \d+, got nothing$"):
        kong(started_at=None)
    with pytest.raises(BadItem, match=r"^response.status: must be an integer of 0 to 999, got text$"):
        kong(response__status=SECRET)


def test_a_wrong_field_costs_itself_only() -> None:
    said = kong(ai__proxy__meta__llm_latency="soon", ai__proxy__usage__prompt_tokens=-4)
    assert said.complaints == ["ai.proxy.usage.prompt_tokens", "ai.proxy.meta.llm_latency"]
    assert (said.only.latency_us, said.only.output_text_visible) == (976_000, 12)


def test_figures_of_older_kongs_are_read() -> None:
    usage = {"prompt_token": 28, "total_tokens": 48, "completion_token": 20, "cost": 0.0038}
    meta = {"request_model": "command", "provider_name": "cohere", "response_model": "command", "plugin_id": "p"}
    said = kong(ai={"ai-proxy": {"usage": usage, "meta": meta}}).only
    assert (said.input_text_uncached, said.output_text_visible, said.usage_source) == (28, 20, "reported")
