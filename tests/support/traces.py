"""Exports of traces in tests: in protobuf and in JSON, by hand and as real instrumentations sent them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from gatemeter.producers.events import ResponseEvent
from gatemeter.producers.foreign import BadItem
from gatemeter.producers.telemetry import otlp
from gatemeter.producers.telemetry.spans import event_of
from gatemeter.producers.validation import spool_form

START_NS = 1_795_783_057_244_218_999
PAYLOADS = Path(__file__).resolve().parents[1] / "unit" / "producers" / "telemetry" / "payloads"
SECRET = "sk-planted-secret-0123456789"
PLANTED = (SECRET, "planted prompt", "planted answer", "planted stack trace")
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
}
"""What the conventions say of an answered call."""


def span(number: int = 1, attributes: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A span of a client, in OTLP/JSON; `attributes` are added to those of `CALL`, None takes one away."""
    said = {**CALL, **(attributes or {})}
    start = START_NS + number * 1_000_000
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "planted prompt",
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 31_000_000),
        "attributes": [{"key": key, "value": _json(value)} for key, value in said.items() if value is not None],
        "status": {},
        **fields,
    }


def _json(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_json(each) for each in value]}}
    return {"stringValue": value}


def export(*spans: Any, service: str = "assistant") -> dict[str, Any]:
    """An export in OTLP/JSON."""
    about = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    scope = {"scope": {"name": "by.hand"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [scope]}]}


def as_protobuf(values: Mapping[str, Any]) -> bytes:
    """The same export in protobuf; it must be well formed."""
    request = ExportTraceServiceRequest()
    for resource in values["resourceSpans"]:
        about = request.resource_spans.add()
        about.resource.attributes.extend(_attribute(each) for each in resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            spans = about.scope_spans.add().spans
            for each in scope["spans"]:
                one = spans.add()
                one.trace_id, one.span_id = bytes.fromhex(each["traceId"]), bytes.fromhex(each["spanId"])
                one.name, one.kind = each["name"], each["kind"]
                one.start_time_unix_nano = int(each["startTimeUnixNano"])
                one.end_time_unix_nano = int(each["endTimeUnixNano"])
                one.status.code = each.get("status", {}).get("code", 0)
                one.attributes.extend(_attribute(attribute) for attribute in each["attributes"])
    return bytes(request.SerializeToString())


def _attribute(entry: Mapping[str, Any]) -> KeyValue:
    return KeyValue(key=entry["key"], value=_any(entry["value"]))


def _any(value: Mapping[str, Any]) -> AnyValue:
    [(kind, content)] = value.items()
    if kind == "arrayValue":
        found = AnyValue()
        found.array_value.values.extend(_any(each) for each in content["values"])
        return found
    name = {"stringValue": "string_value", "intValue": "int_value", "boolValue": "bool_value"}.get(kind, "double_value")
    return AnyValue(**{name: int(content) if kind == "intValue" else content})


def recorded(name: str) -> dict[str, Any]:
    """What a real instrumentation exported."""
    values: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text("utf-8"))
    return values


class Told:
    """What an export says: its calls, in order; the spans that were refused; the attributes that were left out."""

    def __init__(self, values: Mapping[str, Any] | bytes, gateway_id: str = "traces") -> None:
        self.calls: list[ResponseEvent] = []
        self.refused: list[str] = []
        self.left_out: list[str] = []
        self.ignored = 0
        is_bytes = isinstance(values, bytes)
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        for each in otlp.spans_of(body, otlp.PROTOBUF if is_bytes else otlp.JSON):
            try:
                if isinstance(each, BadItem):
                    raise each
                event = event_of(each, gateway_id, lambda name, what: self.left_out.append(f"{name}: {what}"))
            except BadItem as error:
                self.refused.append(str(error))
                continue
            if event is None:
                self.ignored += 1
                continue
            form = spool_form(event)
            assert not any(text.encode() in form for text in PLANTED)
            self.calls.append(event)

    @property
    def only(self) -> ResponseEvent:
        [event] = self.calls
        return event


def figures(events: Sequence[ResponseEvent]) -> list[tuple[Any, ...]]:
    """Model, served model, provider's id and tokens of each."""
    return [
        (each.model, each.served_model, each.provider_request_id, each.input_text_uncached, each.output_text_visible)
        for each in events
    ]
