"""What lines of Envoy's log become: attempts in order, denials, identities, and what is wrong with a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatemeter.producers.tails.envoy import EnvoyLog, FieldsError, LogFields
from gatemeter.producers.tails.envoy.outcomes import denying_policy, status_of
from gatemeter.producers.tails.running import BadLine
from support.tails import START_US, attempt_line, events_of, request_line, written

AI_GATEWAY = Path(__file__).parents[4] / "examples" / "envoy" / "ai-gateway.toml"


@pytest.mark.parametrize(
    ("code", "flags", "status"),
    [
        (200, "-", "ok"),
        (500, "URX", "error"),
        (429, "-", "error"),
        (200, "DC", "cancelled"),
        (0, "DC", "cancelled"),
        (504, "UT", "timeout"),
        (200, "UT", "timeout"),
        (200, "SI", "timeout"),
        (200, "UPE", "error"),
        (503, "URX,UF", "error"),
        (504, "URX", "timeout"),
        (0, "-", "error"),
        (200, "NOT_KNOWN_YET", "ok"),
    ],
)
def test_code_and_flags_together_say_how_it_ended(code: int, flags: str, status: str) -> None:
    assert status_of(code, flags.split(",")) == status


@pytest.mark.parametrize(
    ("details", "flags", "policy"),
    [
        ("local_rate_limited", "RL", "envoy/local_ratelimit"),
        ("request_rate_limited", "RL", "envoy/ratelimit"),
        ("ext_authz_denied", "UAEX", "envoy/ext_authz"),
        ("ext_authz_error", "UAEX", None),
        ("unknown_api_key", "-", "envoy/api_key_auth"),
        ("rbac_access_denied_matched_policy[none]", "-", "envoy/rbac"),
        ("jwt_authn_access_denied{Jwt_is_missing}", "-", "envoy/jwt_authn"),
        ("route_not_found", "NR", None),
        ("via_upstream", "-", None),
    ],
)
def test_the_policy_that_denied_is_named(details: str, flags: str, policy: str | None) -> None:
    assert denying_policy(details, flags.split(",")) == policy


def test_attempts_are_joined_by_request_and_number_and_the_last_has_the_usage() -> None:
    kept = events_of(
        attempt_line(1, 1, code=500),
        attempt_line(2, 1),
        attempt_line(1, 2, code=0, flags="UF", duration_ms=0),
        attempt_line(1, 3, started_at="1795783057.250000"),
        request_line(1, attempts=3),
        request_line(2),
    )
    assert [
        (e.attempt, e.status, e.delivered, e.http_status, e.latency_us, e.usage_source) for e in kept.responses
    ] == [
        (1, "error", False, 500, 5000, "missing"),
        (2, "error", False, None, 0, "missing"),
        (3, "ok", True, 200, 25_219, "reported"),
        (1, "ok", True, 200, 31_000, "reported"),
    ]
    assert [(e.request_id, e.attempt) for e in kept.requests] == [(e.request_id, e.attempt) for e in kept.responses]
    assert len({event.request_id for event in kept.responses}) == 2
    assert kept.responses[2].usage_raw == request_line()["answer"]["usage"]
    assert kept.responses[2].request_started_at == START_US + 1
    assert kept.responses[2].occurred_at == START_US + 1 + 31_000


def test_attempts_that_no_line_tells_of_are_counted_all_the_same() -> None:
    kept = events_of(request_line(attempts=3, code=503, flags="URX,UF", answer=None))
    assert [(e.attempt, e.status, e.latency_us) for e in kept.responses] == [
        (1, "error", None),
        (2, "error", None),
        (3, "error", None),
    ]


def test_the_line_of_the_last_attempt_may_come_after_that_of_its_request() -> None:
    reader = EnvoyLog("envoy-eu")
    lines = written(
        attempt_line(1, 1, code=500),
        request_line(1, attempts=2, flags="DC", answer=None),
        attempt_line(1, 2, flags="DC"),
        attempt_line(2, 1),
    ).splitlines()
    events = [event for line in lines for event in reader.events(line)]
    assert [type(event).__name__ for event in events] == ["RequestEvent", "ResponseEvent"] * 2
    assert [row[0] for row in reader.state["attempts"]] == ["envoy-2"]
    assert reader.state["late"] == {}


def test_the_same_lines_give_the_same_events_also_across_a_restart() -> None:
    lines = written(attempt_line(1, 1, code=500), attempt_line(1, 2), request_line(1, attempts=2)).splitlines()
    whole = [event for reader in [EnvoyLog("envoy-eu")] for line in lines for event in reader.events(line)]
    for cut in range(len(lines) + 1):
        first = EnvoyLog("envoy-eu")
        events = [event for line in lines[:cut] for event in first.events(line)]
        second = EnvoyLog("envoy-eu", state=json.loads(json.dumps(first.state)))
        events += [event for line in lines[cut:] for event in second.events(line)]
        assert events == whole
    other = [event for line in lines for event in EnvoyLog("envoy-us").events(line)]
    assert {event.request_id for event in other}.isdisjoint(event.request_id for event in whole)


def test_two_requests_with_one_id_of_a_caller_are_two_requests() -> None:
    kept = events_of(request_line(1, request_id="reused"), request_line(2, request_id="reused"))
    assert len({event.request_id for event in kept.responses}) == 2


def test_attempts_whose_request_never_comes_are_given_up_by_the_clock_of_the_log() -> None:
    reader = EnvoyLog("envoy-eu")
    for line in written(attempt_line(1), request_line(2, started_at="1795786658")).splitlines():
        reader.events(line)
    assert (reader.given_up, reader.state["attempts"]) == (1, [])


def test_an_identity_that_envoy_verified_goes_before_one_that_is_claimed() -> None:
    claimed = {"claimed_tenant": "victim", "claimed_app": "bot", "verified_tenant": None}
    one, two, three = events_of(
        request_line(1, **{**claimed, "verified_tenant": "acme"}, peer_uri="spiffe://a/b"),
        request_line(2, **claimed, peer_uri="spiffe://a/b"),
        request_line(3, **claimed),
    ).responses
    assert (one.tenant_id, one.workload_id, one.identity_source) == ("acme", "spiffe://a/b", "verified_credential")
    assert (two.tenant_id, two.workload_id, two.identity_source) == (None, "spiffe://a/b", "mtls")
    assert (three.tenant_id, three.app_id, three.identity_source) == ("victim", "bot", "header_claim")


def test_a_cluster_says_whose_provider_it_is() -> None:
    fields = LogFields(clusters={"gpu-7": "vllm"})
    providers = [
        events_of(request_line(cluster=cluster), fields=fields).responses[0].provider
        for cluster in ("openai", "azure", "gpu-7", "some-cluster", None)
    ]
    assert providers == ["openai", "azure", "vllm", "openai", "openai"]


def test_other_paths_and_methods_are_not_metered() -> None:
    reader = EnvoyLog("envoy-eu")
    for line in (request_line(path="/healthz"), request_line(method="GET")):
        assert reader.events(json.dumps(line).encode()) == []
    assert reader.ignored == 2


def test_zero_stays_zero_and_missing_stays_missing() -> None:
    zero = {**request_line()["answer"], "usage": '{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}'}
    kept = events_of(request_line(1, answer=zero), request_line(2, answer=None), request_line(3, answer={"model": "m"}))
    assert [(e.usage_source, e.input_text_uncached, e.output_text_visible, e.status) for e in kept.responses] == [
        ("reported", 0, 0, "ok"),
        ("missing", None, None, "ok"),
        ("missing", None, None, "ok"),
    ]


@pytest.mark.parametrize(
    ("fields", "status", "source"),
    [
        ({}, "ok", "reported"),
        ({"flags": "DC"}, "ok", "reported"),
        ({"answer": {"stream": "true", "id": "c", "model": "m"}}, "error", "missing"),
        ({"answer": {"stream": "true", "id": "c", "finish_reason": "stop"}}, "ok", "missing"),
        ({"answer": {"stream": "true", "model": "m"}}, "ok", "missing"),
        ({"answer": {"stream": "true", "id": "c", "error": "true"}}, "error", "missing"),
    ],
)
def test_a_stream_tells_its_own_end(fields: dict[str, Any], status: str, source: str) -> None:
    line = request_line()
    line["answer"]["stream"] = "true"
    (event,) = events_of({**line, **fields}).responses
    assert (event.status, event.usage_source, event.stream) == (status, source, True)


def test_one_hour_cache_writes_of_a_streamed_message_are_kept_apart() -> None:
    start = {
        "input_tokens": 7,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "cache_read_input_tokens": 50,
        "output_tokens": 1,
    }
    answer = {"stream": "true", "id": "msg", "served_model": "claude", "finish_reason": "end_turn"}
    answer |= {"start_usage": json.dumps(start), "usage": '{"output_tokens": 9}'}
    (event,) = events_of(request_line(path="/v1/messages", cluster="anthropic", answer=answer)).responses
    assert (event.input_text_uncached, event.input_text_cache_read, event.output_text_visible) == (7, 50, 9)
    assert (event.input_text_cache_write_5m, event.input_text_cache_write_1h) == (100, 200)
    assert (event.usage_source, event.usage_consistency) == ("reported", "consistent")


def test_counts_of_envoy_ai_gateway_are_read_by_its_own_names() -> None:
    line = {
        "start_time": "2026-11-27T12:00:00.123Z",
        "method": "POST",
        "x-envoy-origin-path": "/v1/messages?beta=true",
        "response_code": 200,
        "duration": 1500,
        "x-request-id": "b6f1",
        "gen_ai.request.model": "claude-sonnet-5",
        "gen_ai.response.model": "claude-sonnet-5-20260901",
        "gen_ai.provider.name": "default/claude",
        "gen_ai.usage.input_tokens": 1010.0,
        "gen_ai.usage.output_tokens": 0,
        "gen_ai.usage.cached_input_tokens": 900,
        "session.id": None,
    }
    (event,) = events_of(line, fields=LogFields.from_file(AI_GATEWAY)).responses
    assert (event.input_text_uncached, event.input_text_cache_read, event.output_text_visible) == (110, 900, 0)
    assert (event.provider, event.model, event.served_model) == (
        "anthropic",
        "claude-sonnet-5",
        "claude-sonnet-5-20260901",
    )
    assert (event.status, event.usage_source, event.usage_raw) == ("ok", "reported", None)
    assert (event.request_started_at, event.latency_us) == (1_795_780_800_123_000, 1_500_000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"code": "sk-secret"}, "code: must be an integer of 0 to 999, got text"),
        ({"code": 1000}, "code: must be an integer of 0 to 999, got 1000"),
        ({"request_id": None}, "request_id: must be text, got nothing"),
        ({"path": 3.5}, "path: must be text, got float"),
        ({"started_at": "yesterday"}, r"started_at: must be text: seconds since 1970"),
    ],
)
def test_a_line_that_lacks_what_is_needed_is_refused_and_its_values_are_not_repeated(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadLine, match=said):
        EnvoyLog("envoy-eu").events(json.dumps({**request_line(), **change}).encode())


@pytest.mark.parametrize("line", [b"[2026-11-27] starting", b"[1]", b"\xff\xfe", b"{", b"null", b'{"a":' * 3000])
def test_what_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(BadLine, match="must be a JSON object"):
        EnvoyLog("envoy-eu").events(line)


def test_a_value_that_is_wrong_costs_its_own_field_only(caplog: pytest.LogCaptureFixture) -> None:
    reader = EnvoyLog("envoy-eu")
    bad = request_line(ttft_us=-1, duration_us="soon", route=["x"], attempts=5000)
    bad["answer"]["usage"] = '{"prompt_tokens": sk-secret'
    (_, event) = reader.events(json.dumps(bad).encode())
    assert (event.ttft_us, event.latency_us, event.route, event.usage_source) == (None, 31_000, None, "missing")
    assert reader.bad_values == 5
    assert "ttft_us: must be an integer of 0 to" in caplog.text and "sk-secret" not in caplog.text


def test_a_line_that_was_never_finished_costs_not_the_one_behind_it() -> None:
    whole = json.dumps(request_line()).encode()
    for cut in (1, 20, len(whole) // 2, len(whole) - 1):
        assert len(EnvoyLog("envoy-eu").events(whole[:cut] + whole)) == 2


def test_of_the_callers_address_the_network_is_kept() -> None:
    for address, network in (("203.0.113.7", "203.0.113.0/24"), ("-", None), ("@internal", None), ("x" * 5000, None)):
        events = events_of(request_line(client_address=address)).all
        assert {event.client_network for event in events} == {network}


def test_texts_of_callers_never_make_an_event_invalid() -> None:
    line = request_line(client_request_id="x" * 5000, idempotency_key="\ud800", traceparent="00-" + "a" * 32 + "-b-01")
    line["answer"] |= {"model": "m" * 3000, "finish_reason": "\udfff" * 2000}
    (event,) = events_of(line).responses
    assert (len(event.client_request_id or ""), len(event.model or "")) == (256, 256)
    assert (event.idempotency_key, event.trace_id) == ("?", "a" * 32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fields", "must be a TOML file"),
        ("[other]\nx = 1", "must have the tables fields and clusters only, got 'other'"),
        ("[fields]\nmodel = 1", "fields: model: must be text of 1 to 256 characters"),
        ("clusters = 1", "clusters: must be a table"),
    ],
)
def test_a_file_of_fields_that_cannot_be_used_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fields.toml").write_text(text)
    with pytest.raises(FieldsError, match=said):
        LogFields.from_file(tmp_path / "fields.toml")


def test_a_state_that_is_no_tails_own_is_an_error_at_the_start() -> None:
    with pytest.raises(ValueError, match="state: must be what a tail of Envoy wrote"):
        EnvoyLog("envoy-eu", state={"attempts": [[1]]})
