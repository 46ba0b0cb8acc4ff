"""LiteLLM's words in gatemeter's, without LiteLLM: callers, providers, ends, refusals, guardrails."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.hooks import litellm_reading as reading
from gatemeter.producers.hooks.identity import Identity

HASH = "a" * 64


def auth(**fields: Any) -> dict[str, Any]:
    names = ("api_key", "org_id", "team_id", "key_alias", "user_id", "end_user_id", "metadata")
    return {"user_api_key_auth": SimpleNamespace(**{**dict.fromkeys(names), **fields})}


def test_an_organisation_is_the_tenant_and_its_team_the_app() -> None:
    who = reading.identity_of(auth(api_key=HASH, org_id="acme", team_id="bot", key_alias="ci", end_user_id="u"))
    assert who == Identity(
        tenant_id="acme",
        app_id="bot",
        workload_id="ci",
        credential_fingerprint=HASH,
        end_user="u",
        identity_source="verified_credential",
    )


def test_without_an_organisation_the_team_is_the_tenant_and_the_keys_alias_the_app() -> None:
    who = reading.identity_of(auth(api_key=HASH, team_id="bot", key_alias="ci"))
    assert (who.tenant_id, who.app_id, who.workload_id) == ("bot", "ci", None)


def test_what_the_keys_own_metadata_says_goes_first() -> None:
    chosen = {"gatemeter": {"tenant": "t", "app": "a", "workload": "w"}}
    who = reading.identity_of(auth(api_key=HASH, org_id="acme", team_id="bot", metadata=chosen))
    assert (who.tenant_id, who.app_id, who.workload_id) == ("t", "a", "w")


def test_nothing_is_verified_where_the_proxy_checks_no_keys() -> None:
    assert reading.identity_of(auth()) == Identity()
    assert reading.identity_of({}) == Identity()


@pytest.mark.parametrize(
    ("said", "address"),
    [("203.0.113.7", "203.0.113.7"), ("198.51.100.1, 203.0.113.7", "203.0.113.7"), ("", None), (None, None), (7, None)],
)
def test_the_callers_address_is_the_one_that_the_gateways_own_proxy_saw(said: Any, address: str | None) -> None:
    assert reading.identity_of({**auth(), "requester_ip_address": said}).client_address == address


@given(st.text(min_size=1))
def test_a_key_is_never_its_own_fingerprint(key: str) -> None:
    said = reading.hashed(key)
    assert len(said) == 64
    assert said == key or said == hashlib.sha256(key.encode(errors="replace")).hexdigest()
    assert key not in said or len(key) < 17 or key == said


def test_metadata_that_only_a_client_sent_is_not_looked_at() -> None:
    assert reading.metadata_of({"metadata": {"team": "forged"}}) == {}
    assert reading.metadata_of({"metadata": {}, "litellm_metadata": {"user_api_key_hash": HASH}})


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("openai", "openai"),
        ("gemini", "google"),
        ("vertex_ai", "vertex"),
        ("bedrock", "aws"),
        ("new", "new"),
        (None, None),
    ],
)
def test_providers_have_our_names(name: str | None, provider: str | None) -> None:
    assert reading.provider_of(name) == provider


@pytest.mark.parametrize(
    ("call_type", "provider", "shape"),
    [
        ("acompletion", "openai", "openai_chat"),
        ("acompletion", "anthropic", "anthropic_messages"),
        ("anthropic_messages", "vertex", "anthropic_messages"),
        ("anthropic_messages", "openai", None),
        ("aembedding", "openai", "openai_embeddings"),
        ("acompletion", "nobody", None),
    ],
)
def test_answers_are_read_by_declared_shapes_only(call_type: str, provider: str, shape: str | None) -> None:
    assert reading.shape_of_answer(call_type, provider) == shape


def error(name: str, status: object = None, module: str = "litellm.exceptions") -> Exception:
    made: Exception = type(name, (Exception,), {"__module__": module})()
    made.status_code = status  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("raised", "status", "http_status"),
    [
        (error("InternalServerError", 500), "error", 500),
        (error("Timeout", 408), "timeout", None),
        (error("GatewayTimeout", 504), "timeout", 504),
        (error("APIConnectionError", 500), "error", None),
        (error("ClientGone", 499), "cancelled", 499),
        (error("Odd", "429"), "error", None),
    ],
)
def test_an_exception_says_how_an_attempt_ended(raised: Exception, status: str, http_status: int | None) -> None:
    assert (reading.status_of_error(raised), reading.http_status_of(raised)) == (status, http_status)


@pytest.mark.parametrize(
    ("raised", "policy"),
    [
        (error("BudgetExceededError", 400), "litellm.budget"),
        (error("RouterRateLimitError"), "litellm.rate_limit"),
        (error("HTTPException", 401, "fastapi.exceptions"), "litellm.authentication"),
        (Exception("bad key"), "litellm.authentication"),
        (error("ProxyModelNotFoundError", 400, "litellm.proxy.route_llm_request"), "litellm.request"),
    ],
)
def test_a_refusal_names_its_policy(raised: Exception, policy: str) -> None:
    assert reading.rejected_by(raised) == policy


def test_the_provider_does_not_refuse() -> None:
    assert not reading.is_rejection(error("InternalServerError", 500))
    assert reading.is_rejection(error("HTTPException", 400, "fastapi.exceptions"))
    assert reading.is_rejection(error("GuardrailRaisedException", 400))


def test_guardrails_decide_in_order_and_those_that_did_not_run_say_nothing() -> None:
    said = [
        {"guardrail_name": "pii", "guardrail_status": "success", "masked_entity_count": {"EMAIL": 2}, "duration": 0.25},
        {"guardrail_name": "idle", "guardrail_status": "not_run"},
        {"guardrail_name": "words", "guardrail_status": "guardrail_intervened"},
        {"guardrail_status": "guardrail_failed_to_respond", "duration": -1},
    ]
    assert list(reading.decisions_of({"guardrail_information": said}, {})) == [
        reading.Decision("pii", "redact", 250_000),
        reading.Decision("words", "deny", None),
        reading.Decision("litellm.guardrail", "error", None),
    ]


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_whatever_metadata_holds_is_no_reason_to_raise(value: Any) -> None:
    list(reading.decisions_of({"guardrail_information": [value]}, {}))
    reading.identity_of({"user_api_key_auth": value, "user_api_key_metadata": value, "user_api_key_org_id": value})
    reading.sent_of({"proxy_server_request": {"headers": value}, "litellm_call_id": value})
