"""OTLP/HTTP at the collector: what the protocol wants to be answered, and that 200 is a promise."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from gatemeter.producers.telemetry.otlp import JSON, PROTOBUF
from support.collector import running_collector
from support.traces import PLANTED, SECRET, as_protobuf, export, span

PATH = "/v1/traces"


@pytest.mark.parametrize("form", [PROTOBUF, JSON])
@pytest.mark.parametrize("packed", [True, False])
async def test_spans_are_durable_when_answered_in_their_own_form(tmp_path: Path, form: str, packed: bool) -> None:
    values = export(span(1), span(2, {"gen_ai.operation.name": "execute_tool"}))
    body = as_protobuf(values) if form == PROTOBUF else json.dumps(values).encode()
    headers = {"content_type": form} | ({"content_encoding": "gzip"} if packed else {})
    async with running_collector(tmp_path) as collector:
        for _ in range(2):
            answer = await collector.post(PATH, gzip.compress(body) if packed else body, "otlp", **headers)
            assert (answer.status_code, answer.headers["content-type"]) == (200, form)
            assert answer.content == (b"" if form == PROTOBUF else b"{}")
        first, again = collector.events()
        assert first == again
        assert (first["kind"], first["trace_id"]) == ("RESPONSE", f"{1:032x}")


async def test_bad_spans_are_a_partial_success_and_the_good_ones_are_kept(tmp_path: Path) -> None:
    good_and_bad = export(span(1), span(2, endTimeUnixNano="1"), span(3))
    async with running_collector(tmp_path) as collector:
        plain = await collector.post(PATH, good_and_bad, "otlp")
        assert plain.status_code == 200
        partial = plain.json()["partialSuccess"]
        assert partial["rejectedSpans"] == "1" and "span 1: end_time_unix_nano: must be" in partial["errorMessage"]
        packed = await collector.post(PATH, as_protobuf(good_and_bad), "otlp", content_type=PROTOBUF)
        response = ExportTraceServiceResponse.FromString(packed.content)
        assert response.partial_success.rejected_spans == 1
        assert {event["trace_id"] for event in collector.events()} == {f"{1:032x}", f"{3:032x}"}


async def test_a_full_spool_asks_to_come_back_and_takes_nothing(tmp_path: Path) -> None:
    many = as_protobuf(export(*(span(number) for number in range(1, 1001))))
    async with running_collector(tmp_path, max_spool_bytes=1024 * 1024) as collector:
        statuses = []
        while not statuses or statuses[-1] == 200:
            answer = await collector.post(PATH, many, "otlp", content_type=PROTOBUF)
            statuses.append(answer.status_code)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == PROTOBUF and b"the spool is full" in answer.content
        assert len(collector.events()) == 1000 * (len(statuses) - 1) > 0


@pytest.mark.parametrize(
    ("body", "form", "status", "said"),
    [
        (b"\xff\xff", PROTOBUF, 400, b"body: must be an ExportTraceServiceRequest"),
        (b"{", JSON, 400, b"body: must be JSON"),
        (b"planted prompt", "text/plain", 415, b"Content-Type: must be one of"),
    ],
)
async def test_what_is_no_export_is_refused_for_good(
    tmp_path: Path, body: bytes, form: str, status: int, said: bytes
) -> None:
    async with running_collector(tmp_path) as collector:
        answer = await collector.post(PATH, body, "otlp", content_type=form)
        assert answer.status_code == status and said in answer.content and b"planted" not in answer.content
        assert collector.events() == []


async def test_a_token_is_needed_and_that_of_another_source_does_not_do(tmp_path: Path) -> None:
    async with running_collector(tmp_path) as collector:
        assert (await collector.post(PATH, export(span(1)))).status_code == 401
        answer = await collector.post(PATH, export(span(1)), "kong")
        assert (answer.status_code, answer.json()["message"][:10]) == (403, "path: must")
        assert collector.events() == []


async def test_too_many_spans_are_too_many_items(tmp_path: Path) -> None:
    async with running_collector(tmp_path, max_items=2) as collector:
        answer = await collector.post(PATH, export(span(1), span(2), span(3)), "otlp")
        assert (answer.status_code, answer.json()["message"]) == (413, "body: must hold at most 2 spans, got 3")


async def test_prompts_and_secrets_are_in_no_event_log_or_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planted = {
        "gen_ai.input.messages": "planted prompt",
        "gen_ai.usage.input_tokens": "planted prompt",
        "http.request.header.authorization": SECRET,
    }
    with caplog.at_level(logging.DEBUG):
        async with running_collector(tmp_path) as collector:
            answer = await collector.post(PATH, export(span(1, planted), span(2, planted, spanId=SECRET)), "otlp")
            assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
            metrics = (await collector.http.get("/metrics")).text
            said = json.dumps(collector.events()) + metrics + answer.text
    spooled = b"".join(file.read_bytes() for file in (tmp_path / "spool").rglob("*") if file.is_file())
    assert "a field was left out: gen_ai.usage.input_tokens" in caplog.text
    assert not any(text in said + caplog.text or text.encode() in spooled for text in PLANTED)
