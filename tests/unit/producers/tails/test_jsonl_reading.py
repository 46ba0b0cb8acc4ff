"""Application logs: which lines tell a call, what they say by common names or those of a file, what stays behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gatemeter.producers import ResponseEvent
from gatemeter.producers.tails import LogFile, Positions, Tail
from gatemeter.producers.tails.jsonl import FieldsError, JsonlFields, JsonLog
from gatemeter.producers.tails.running import BadLine
from support.tails import KeptEvents

SECRET = "sk-planted-secret-0123456789"
CALL: dict[str, Any] = {
    "timestamp": "2026-11-27T12:00:01.5Z",
    "duration_ms": 1500,
    "provider": "openai",
    "model": "gpt-4o",
    "response_id": "chatcmpl-1",
    "trace_id": "ab" * 16,
    "request_id": "r-1",
    "app": "assistant",
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "prompt": "planted prompt",
    "headers": {"authorization": SECRET},
}
START_US = 1_795_780_800_000_000


def line(**fields: Any) -> bytes:
    """A call, with fields added; None takes one away."""
    return json.dumps({name: value for name, value in {**CALL, **fields}.items() if value is not None}).encode()


def told(fields: JsonlFields | None = None, **changes: Any) -> ResponseEvent:
    kept = KeptEvents()
    for event in JsonLog("app-logs", fields).events(line(**changes)):
        kept.emit(event)
    [response] = kept.responses
    return response


def fields_of(tmp_path: Path, text: str) -> JsonlFields:
    (tmp_path / "fields.toml").write_text(text)
    return JsonlFields.from_file(tmp_path / "fields.toml")


def test_a_line_is_one_response_by_common_names() -> None:
    event = told()
    assert (event.request_started_at, event.occurred_at, event.latency_us) == (
        START_US,
        START_US + 1_500_000,
        1_500_000,
    )
    assert (event.provider, event.model, event.provider_request_id) == ("openai", "gpt-4o", "chatcmpl-1")
    assert (event.trace_id, event.client_request_id, event.app_id) == ("ab" * 16, "r-1", "assistant")
    assert (event.identity_source, event.operation, event.status, event.delivered) == (
        "header_claim",
        "chat",
        "ok",
        True,
    )
    assert (event.usage_source, event.input_text_uncached, event.output_text_visible) == ("reported", 12, 3)


@pytest.mark.parametrize("name", ["client_address", "client_ip", "remote_addr"])
def test_of_the_callers_address_the_network_is_kept(name: str) -> None:
    assert told(**{name: "203.0.113.7"}).client_network == "203.0.113.0/24"
    assert told(**{name: "somewhere"}).client_network is None


@pytest.mark.parametrize(
    "stamp",
    [1795780801.5, "1795780801.5", 1795780801500, 1795780801500000, 1795780801500000000, "2026-11-27T13:00:01.5+01:00"],
)
def test_times_are_iso_or_numbers_since_1970(stamp: Any) -> None:
    assert told(timestamp=stamp).occurred_at == START_US + 1_500_000


def test_the_start_and_the_end_give_the_duration() -> None:
    event = told(started_at="2026-11-27T12:00:00Z", duration_ms=None)
    assert (event.request_started_at, event.latency_us) == (START_US, 1_500_000)
    assert told(duration_ms=None, duration_s=1.5).latency_us == 1_500_000


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, (6, 4, 5)),
        ({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}, (6, 4, 5)),
    ],
)
def test_the_providers_own_usage_object_goes_before_counts(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    event = told(usage=usage)
    assert (event.input_text_uncached, event.input_text_cache_read, event.output_text_visible) == expected
    assert event.usage_raw is None


def test_anthropics_usage_excludes_what_is_cached() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5}
    event = told(provider="anthropic", model="claude", usage=usage)
    assert (event.input_text_uncached, event.input_text_cache_read, event.output_text_visible) == (10, 90, 5)


def test_counts_that_are_all_zero_are_missing() -> None:
    event = told(prompt_tokens=0, completion_tokens=0)
    assert (event.usage_source, event.input_text_uncached) == ("missing", None)


@pytest.mark.parametrize(
    ("said", "status", "http_status"),
    [
        ({"status": "success"}, "ok", None),
        ({"status": 200}, "ok", 200),
        ({"status": "503"}, "error", 503),
        ({"http_status": 504}, "timeout", 504),
        ({"status": "failed", "error": {"type": "APITimeoutError"}}, "timeout", None),
        ({"error": "planted answer"}, "error", None),
        ({"error": {"message": "planted answer"}}, "error", None),
        ({"error": None}, "ok", None),
        ({"error": False}, "ok", None),
        ({"status": "cancelled"}, "cancelled", None),
    ],
)
def test_how_a_call_ended(said: dict[str, Any], status: str, http_status: int | None) -> None:
    event = told(**said)
    assert (event.status, event.http_status) == (status, http_status)
    assert event.usage_source == ("reported" if status == "ok" else "missing")


@pytest.mark.parametrize(
    "other",
    [
        {"message": "started"},
        {"message": "loaded", "model": "gpt-4o"},
        {"message": "loading", "model": "gpt-4o", "status": "loading"},
        {"message": "counted", "prompt_tokens": 4},
    ],
)
def test_other_lines_are_ignored(other: dict[str, Any]) -> None:
    reader = JsonLog("app-logs")
    assert reader.events(json.dumps({"timestamp": "2026-11-27T12:00:00Z", **other}).encode()) == []
    assert (reader.ignored, reader.bad_values) == (1, 0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"planted prompt", "must be a JSON object, got 14 bytes"),
        (b'["planted prompt"]', "must be a JSON object"),
        (line(timestamp=None), "timestamp: must be one of timestamp, @timestamp"),
        (line(timestamp="planted prompt"), "timestamp: must be one of"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_without_its_content(text: bytes, error: str) -> None:
    with pytest.raises(BadLine, match="must be") as raised:
        JsonLog("app-logs").events(text)
    assert str(raised.value).startswith(error) and "planted" not in str(raised.value)


def test_a_field_that_is_wrong_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    reader = JsonLog("app-logs")
    [event] = reader.events(line(prompt_tokens="planted prompt", stream="planted prompt", app={"a": "planted prompt"}))
    assert isinstance(event, ResponseEvent)
    assert (event.output_text_visible, event.stream, event.app_id, event.model) == (3, None, None, "gpt-4o")
    assert reader.bad_values == 3
    assert "a field of a line was left out" in caplog.text and "planted" not in caplog.text


def test_long_names_are_cut_and_the_call_is_kept() -> None:
    assert told(model="m" * 5000).model == "m" * 256


def test_a_file_names_fields_lines_constants_and_providers(tmp_path: Path) -> None:
    fields = fields_of(
        tmp_path,
        """
        [fields]
        model = "llm.model"
        input_tokens = ["tokens.in", "tokens.prompt"]
        [where]
        event = "llm_call"
        [constants]
        tenant_id = "acme"
        [providers]
        sweden = "azure"
        """,
    )
    said: dict[str, Any] = {"llm": {"model": "own"}, "tokens": {"prompt": 9}, "event": "llm_call", "provider": "sweden"}
    event = told(fields, **said)
    assert (event.model, event.input_text_uncached, event.tenant_id, event.provider) == ("own", 9, "acme", "azure")
    assert JsonLog("app-logs", fields).events(line(**{**said, "event": "other"})) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = 1", "must have the tables fields and where and constants and providers only, got 'x'"),
        ("fields = 1", "fields: must be a table"),
        ("[fields]\nmodell = 'x'", "fields: must be of timestamp, started_at"),
        ("[fields]\nmodel = 7", "fields: model: must be text of 1 to 256 characters"),
        ("[fields]\nmodel = ['']", "fields: model: must be text of 1 to 256 characters"),
        ("[constants]\nstatus = 'ok'", "constants: must be of tenant_id, app_id"),
        ("[where]\nevent = 1", "where: event: must be text of 1 to 256 characters"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_entry(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(FieldsError) as raised:
        fields_of(tmp_path, text)
    assert error in str(raised.value)


def run_once(log: Path, state: Path) -> list[ResponseEvent]:
    """One run of a tail to the log's present end."""
    positions, kept = Positions(state), KeptEvents()
    position = positions.load()
    source = LogFile(log, position.head, position.offset, position.since_ns)
    try:
        tail = Tail(source, JsonLog("app-logs", place=source.place), kept, positions, since_ns=position.since_ns)
        tail.run(threading.Event(), once=True)
    finally:
        positions.close()
        source.close()
    return kept.responses


def test_the_same_place_of_the_same_file_is_the_same_call(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_bytes(line() + b"\n" + line() + b"\n")
    first = run_once(log, tmp_path / "first")
    assert len({event.request_id for event in first}) == 2, "equal lines at two places are two calls"
    log.rename(tmp_path / "calls.jsonl.1")
    log.write_bytes(line(model="later") + b"\n")
    again = run_once(tmp_path / "calls.jsonl.1", tmp_path / "second")
    assert again == first
    [later] = run_once(log, tmp_path / "first")
    assert later.model == "later"
    assert run_once(log, tmp_path / "third") == [later]


def test_a_lines_own_id_is_the_call_wherever_it_stands(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_bytes(line(call_id="c-1") + b"\n" + line(call_id="c-1") + b"\n" + line(call_id="c-2") + b"\n")
    first, copy, other = (event.request_id for event in run_once(log, tmp_path / "state"))
    assert first == copy != other


def test_nothing_else_of_a_line_leaves(tmp_path: Path) -> None:
    event = told(usage={"prompt_tokens": 1, "completion_tokens": 1, "note": SECRET}, messages=["planted prompt"])
    assert not any(text in repr(event) for text in (SECRET, "planted"))
