"""The protocol: both forms of an export, what is no export, and the answers."""

from __future__ import annotations

import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from gatemeter.producers.telemetry import otlp
from support.traces import Told, as_protobuf, export, span


def test_protobuf_and_json_say_the_same() -> None:
    values = export(
        span(1, {"gen_ai.response.finish_reasons": ["stop"], "gen_ai.request.stream": False}),
        span(2, {"gen_ai.operation.name": "invoke_agent"}),
        span(3, {"gen_ai.response.time_to_first_chunk": 0.25, "error.type": "timeout"}),
    )
    plain, packed = Told(values), Told(as_protobuf(values))
    assert plain.calls == packed.calls and len(plain.calls) == 2
    assert plain.ignored == packed.ignored == 1


def test_an_export_of_nothing_is_one() -> None:
    assert otlp.spans_of(b"", otlp.PROTOBUF) == otlp.spans_of(b"{}", otlp.JSON) == []
    assert otlp.spans_of(b'{"resourceSpans": [{"scopeSpans": [{"spans": []}]}], "newer": 1}', otlp.JSON) == []


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"planted prompt", otlp.PROTOBUF, "body: must be an ExportTraceServiceRequest, got 14 bytes"),
        (b"planted prompt", otlp.JSON, "body: must be JSON, got 14 bytes"),
        (b"[]", otlp.JSON, "body: must be an ExportTraceServiceRequest, got list"),
        (b'{"resourceSpans": "planted prompt"}', otlp.JSON, "resourceSpans: must be an array of objects, got text"),
        (b'{"resourceSpans": [{"scopeSpans": [7]}]}', otlp.JSON, "scopeSpans: must be an array of objects, got list"),
    ],
)
def test_what_is_no_export_is_refused_without_its_content(body: bytes, content_type: str, error: str) -> None:
    with pytest.raises(otlp.BadExport, match="must be") as raised:
        otlp.spans_of(body, content_type)
    assert str(raised.value).startswith(error) and "planted" not in str(raised.value)


def test_another_content_type_is_refused() -> None:
    with pytest.raises(otlp.WrongType, match="application/x-protobuf, application/json"):
        otlp.spans_of(b"", "text/plain")


def test_a_partial_success_counts_and_names_what_was_refused() -> None:
    refused = [(number, "spanId: must be 8 bytes") for number in range(7)]
    packed = ExportTraceServiceResponse.FromString(otlp.answer(otlp.PROTOBUF, refused))
    plain = json.loads(otlp.answer(otlp.JSON, refused))["partialSuccess"]
    assert packed.partial_success.rejected_spans == int(plain["rejectedSpans"]) == 7
    assert packed.partial_success.error_message == plain["errorMessage"]
    assert plain["errorMessage"].startswith("span 0: spanId: must be 8 bytes; span 1:")
    assert plain["errorMessage"].endswith("; and 2 more")


def test_a_full_success_is_empty() -> None:
    assert (otlp.answer(otlp.PROTOBUF, []), otlp.answer(otlp.JSON, [])) == (b"", b"{}")


def test_a_failure_is_a_status_with_its_message() -> None:
    assert json.loads(otlp.failure(otlp.JSON, "the spool is full")) == {"message": "the spool is full"}
    assert otlp.failure(otlp.PROTOBUF, "full") == b"\x12\x04full"  # google.rpc.Status: field 2, text
