"""What a span says of a call, by the conventions of today and by older names; what is no call says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.schemas.limits import MAX_LATENCY_US
from support.traces import START_NS, Told, as_protobuf, export, figures, recorded, span


def told(attributes: dict[str, Any] | None = None, **fields: Any) -> Told:
    return Told(export(span(1, attributes, **fields)))


def test_a_call_is_one_response_with_who_what_and_how_much() -> None:
    event = told({"gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop", "length"]}).only
    start = (START_NS + 1_000_000) // 1000
    assert (event.request_started_at, event.occurred_at, event.latency_us) == (start, start + 31_000, 31_000)
    assert (event.trace_id, event.app_id, event.identity_source) == (f"{1:032x}", "assistant", "header_claim")
    assert (event.provider, event.model, event.served_model) == ("openai", "gpt-4o", "gpt-4o-2024-08-06")
    assert (event.operation, event.stream, event.finish_reason) == ("chat", True, "stop")
    assert (event.status, event.delivered, event.provider_request_id) == ("ok", True, "chatcmpl-1")
    assert (event.usage_source, event.input_text_uncached, event.output_text_visible) == ("reported", 12, 3)
    assert (event.usage_raw, event.tenant_id, event.usage_consistency) == (None, None, "unverified")


def test_cached_written_and_reasoning_tokens_are_part_of_the_totals() -> None:
    event = told(
        {
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.cache_read.input_tokens": 700,
            "gen_ai.usage.cache_creation.input_tokens": 200,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.reasoning.output_tokens": 30,
        }
    ).only
    assert (event.input_text_uncached, event.input_text_cache_read, event.input_text_cache_write_5m) == (100, 700, 200)
    assert (event.output_text_visible, event.output_text_reasoning) == (20, 30)


@pytest.mark.parametrize("counts", [{}, {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}])
def test_counts_that_are_absent_or_all_zero_are_missing_and_no_zero(counts: dict[str, int]) -> None:
    event = told({"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None, **counts}).only
    assert (event.usage_source, event.input_text_uncached, event.output_text_visible) == ("missing", None, None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"error.type": "openai.APITimeoutError"}, ("timeout", False, None)),
        ({"error.type": "timeout"}, ("timeout", False, None)),
        ({"error.type": "504", "http.response.status_code": 504}, ("timeout", False, 504)),
        ({"error.type": "asyncio.CancelledError"}, ("cancelled", None, None)),
        ({"error.type": "openai.RateLimitError", "http.response.status_code": 429}, ("error", False, 429)),
        ({"http.response.status_code": 500}, ("error", False, 500)),
        ({"http.response.status_code": 200}, ("ok", True, 200)),
    ],
)
def test_how_a_call_ended_is_what_kind_of_error_it_names(said: dict[str, Any], expected: tuple[Any, ...]) -> None:
    event = told(said).only
    assert (event.status, event.delivered, event.http_status) == expected
    assert event.usage_source == ("reported" if event.status == "ok" else "missing")


def test_a_span_that_failed_without_saying_why_is_an_error() -> None:
    assert told(status={"code": 2, "message": "planted answer"}).only.status == "error"


@pytest.mark.parametrize(
    "operation", ["invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "retrieval", "something_new"]
)
def test_agents_tools_and_workflows_are_no_calls(operation: str) -> None:
    found = told({"gen_ai.operation.name": operation, "llm.request.type": "chat"})
    assert (found.calls, found.ignored, found.refused) == ([], 1, [])


@pytest.mark.parametrize(("kind", "calls"), [(0, 1), (1, 1), (2, 0), (3, 1), (4, 0), (5, 0)])
def test_only_who_makes_a_call_tells_it(kind: int, calls: int) -> None:
    assert len(told(kind=kind).calls) == calls


def test_a_span_of_another_instrumentation_is_ignored() -> None:
    plain = {"key": "http.request.method", "value": {"stringValue": "POST"}}
    attributes = (1, [plain]), (2, []), (3, None)
    found = Told(export(*({**span(number), "attributes": said} for number, said in attributes)))
    assert (found.calls, found.ignored) == ([], 3)


@pytest.mark.parametrize(
    ("operation", "said", "expected"),
    [
        ("text_completion", {}, "completion"),
        ("generate_content", {}, "chat"),
        ("embeddings", {"gen_ai.usage.output_tokens": None}, "embeddings"),
        ("chat", {"openai.api.type": "responses"}, "responses"),
    ],
)
def test_operations_have_our_names(operation: str, said: dict[str, Any], expected: str) -> None:
    event = told({"gen_ai.operation.name": operation, **said}).only
    assert (event.operation, event.usage_source, event.input_text_uncached) == (expected, "reported", 12)


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("gen_ai.provider.name", "gcp.vertex_ai", "vertex"),
        ("gen_ai.provider.name", "aws.bedrock", "aws"),
        ("gen_ai.provider.name", "acme", "acme"),
        ("gen_ai.system", "az.ai.openai", "azure"),
        ("gen_ai.system", "OpenAI", "openai"),
        ("llm.provider", "mistralai", "mistral"),
    ],
)
def test_providers_have_the_names_that_prices_know(name: str, said: str, expected: str) -> None:
    assert told({"gen_ai.provider.name": None, name: said}).only.provider == expected


def test_the_first_chunk_and_the_service_tier_are_told() -> None:
    event = told({"gen_ai.response.time_to_first_chunk": 0.0493, "openai.response.service_tier": "flex"}).only
    assert (event.ttft_us, event.service_tier) == (49_300, "flex")
    assert told({"openai.response.service_tier": "default"}).only.service_tier is None


def test_an_export_that_is_sent_again_is_a_copy() -> None:
    first, again = Told(export(span(1), span(2))), Told(export(span(2), span(1)))
    assert first.calls == again.calls[::-1]
    assert len({event.request_id for event in first.calls}) == 2
    other = Told(export(span(1)), gateway_id="other").only
    assert other.request_id != first.calls[0].request_id


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"traceId": "0" * 32}, "traceId: must be 16 bytes that are not all zero"),
        ({"spanId": "planted prompt"}, "spanId: must be 8 bytes that are not all zero, got text"),
        ({"spanId": None}, "spanId: must be 8 bytes that are not all zero, got nothing"),
        ({"startTimeUnixNano": "0"}, "start_time_unix_nano: must be more than 0"),
        ({"endTimeUnixNano": "planted prompt"}, "endTimeUnixNano: must be an integer of 0 to"),
        ({"endTimeUnixNano": str(START_NS)}, "end_time_unix_nano: must be at the start or up to"),
        (
            {"endTimeUnixNano": str(START_NS + (MAX_LATENCY_US + 10_000) * 1000)},
            "end_time_unix_nano: must be at the start or up to",
        ),
        ({"kind": "SPAN_KIND_CLIENT"}, "kind: must be an integer of 0 to 5, got text"),
        ({"status": {"code": 7}}, "status.code: must be an integer of 0 to 2, got 7"),
    ],
)
def test_a_bad_span_is_named_and_the_good_ones_beside_it_are_kept(fields: dict[str, Any], error: str) -> None:
    found = Told(export(span(1), span(2, **fields), span(3)))
    assert [event.trace_id for event in found.calls] == [f"{1:032x}", f"{3:032x}"]
    [refused] = found.refused
    assert refused.startswith(error) and "planted" not in refused


def test_a_bad_attribute_costs_itself_only_and_is_named_without_its_value() -> None:
    found = told(
        {
            "gen_ai.usage.input_tokens": "planted prompt",
            "gen_ai.usage.output_tokens": -4,
            "gen_ai.request.model": 4,
            "gen_ai.request.stream": "yes",
            "gen_ai.response.finish_reasons": [4],
            "gen_ai.response.time_to_first_chunk": float("inf"),
        }
    )
    event = found.only
    assert (event.served_model, event.provider_request_id, event.model) == ("gpt-4o-2024-08-06", "chatcmpl-1", None)
    assert (event.usage_source, event.stream, event.finish_reason, event.ttft_us) == ("missing", None, None, None)
    assert sorted(each.partition(":")[0] for each in found.left_out) == [
        "gen_ai.request.model",
        "gen_ai.request.stream",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    ]
    assert "planted" not in str(found.left_out)


def test_nothing_else_of_a_span_leaves() -> None:
    planted = {
        "gen_ai.input.messages": "planted prompt",
        "gen_ai.output.messages": "planted answer",
        "http.request.header.authorization": "Bearer sk-planted-secret-0123456789",
        "gen_ai.system_instructions": "planted prompt",
        "gen_ai.tool.call.arguments": "planted prompt",
    }
    events = [{"name": "planted prompt", "attributes": []}]
    assert len(told(planted, events=events, links=events, traceState="planted=prompt").calls) == 1


@pytest.mark.parametrize(
    ("name", "ignored", "expected"),
    [
        (
            "otel_langchain",
            0,
            [
                ("ok-1", "served-ok-1", "chatcmpl-served-ok-1", 115, 1015),
                ("ok-2", "served-ok-2", None, 116, 1016),
            ],
        ),
        ("otel_openai_agents", 2, [("ok-3", "served-ok-3", "resp-served-ok-3", 117, 1017)]),
        ("otel_openai_failed", 2, [("down-3", None, None, None, None)]),
        (
            "openllmetry_langchain",
            0,
            [("ok-1", "served-ok-1", "chatcmpl-served-ok-1", 118, 1018), ("ok-2", None, None, 119, 1019)],
        ),
        ("openllmetry_openai_agents", 2, [(None, "served-ok-3", "resp-served-ok-3", 120, 1020)]),
        ("openllmetry_failed", 0, [("down-1", None, None, None, None)]),
        (
            "openinference_langchain",
            0,
            [(None, "served-ok-1", None, 121, 1021), (None, "ok-2", None, 122, 1022)],
        ),
    ],
)
def test_what_real_instrumentations_sent(name: str, ignored: int, expected: list[tuple[Any, ...]]) -> None:
    """Recorded of LangChain and the Agents SDK: OpenTelemetry 1.3b0, OpenLLMetry 0.62.4, OpenInference 0.1.80."""
    found = Told(recorded(name))
    assert (figures(found.calls), found.ignored) == (expected, ignored)
    assert {(event.app_id, event.provider) for event in found.calls} == {("research-agent", "openai")}
    failed = name.endswith("failed")
    assert {event.status for event in found.calls} == {"error" if failed else "ok"}
    assert (found.refused, found.left_out) == ([], [])
    values = recorded(name)
    assert figures(Told(as_protobuf(values)).calls) == expected
