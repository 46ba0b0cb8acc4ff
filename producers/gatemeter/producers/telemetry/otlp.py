"""OTLP/HTTP: the spans of an ExportTraceServiceRequest in protobuf or JSON, and the answers that the protocol wants.

Source: OpenTelemetry Protocol 1.9, OTLP/HTTP. In JSON ids are hex, 64-bit integers are text, enums are integers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gatemeter.producers.foreign import BadItem, kind_of
from gatemeter.producers.telemetry.semantics import READ
from gatemeter.producers.telemetry.spans import Span
from gatemeter.schemas.extras import need

need("gatemeter.producers.collector", "collector", "opentelemetry.proto")

from google.protobuf.message import DecodeError  # noqa: E402  what it needs is checked first
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: E402
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue  # noqa: E402
from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: E402

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
TYPES: Final = (PROTOBUF, JSON)
SERVICE: Final = "service.name"
_TOLD: Final = 5
"""So many refused spans are named in an answer."""
_HEX: Final = re.compile(r"[0-9a-f]+")
_MAX_NS: Final = (1 << 64) - 1
_VALUES: Final = {"stringValue": str, "boolValue": bool, "doubleValue": (int, float)}


class BadExport(ValueError):
    """Bytes that are no export of traces. The text says what is accepted."""


class WrongType(BadExport):
    """A content type that is none of the protocol's."""


def spans_of(body: bytes, content_type: str) -> list[Span | BadItem]:
    """The spans in their order; a `BadItem` stands in the place of one that is none. Raises `BadExport`."""
    if content_type == PROTOBUF:
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            raise BadExport(
                f"body: must be an ExportTraceServiceRequest, got {len(body)} bytes that are none"
            ) from None
        return list(_protobuf_spans(request))
    if content_type == JSON:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            raise BadExport(f"body: must be JSON, got {len(body)} bytes that are none") from None
        return list(_json_spans(values))
    raise WrongType(f"Content-Type: must be one of {', '.join(TYPES)}")


def answer(content_type: str, refused: Sequence[tuple[int, str]]) -> bytes:
    """What was taken of an export: all, or all but the refused spans, by their numbers from 0, each with its reason."""
    told = "; ".join(f"span {number}: {reason}" for number, reason in refused[:_TOLD])
    more = f"; and {len(refused) - _TOLD} more" if len(refused) > _TOLD else ""
    if content_type == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(len(refused)), "errorMessage": told + more}}
        return json.dumps(partial if refused else {}).encode()
    response = ExportTraceServiceResponse()
    if refused:
        response.partial_success.rejected_spans = len(refused)
        response.partial_success.error_message = told + more
    written: bytes = response.SerializeToString()
    return written


def failure(content_type: str, error: str) -> bytes:
    """A `google.rpc.Status` with a message. On the wire its message is the same field as that of a partial success."""
    if content_type == PROTOBUF:
        written: bytes = ExportTracePartialSuccess(error_message=error).SerializeToString()
        return written
    return json.dumps({"message": error}).encode()


def _protobuf_spans(request: ExportTraceServiceRequest) -> Iterator[Span | BadItem]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes, {SERVICE}).get(SERVICE)
        for scope in resource.scope_spans:
            for span in scope.spans:
                try:
                    yield _protobuf_span(span, service)
                except BadItem as error:
                    yield error


def _protobuf_span(span: trace_pb2.Span, service: Any) -> Span:
    return Span(
        trace_id=_id("trace_id", span.trace_id.hex(), 32),
        span_id=_id("span_id", span.span_id.hex(), 16),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        kind=span.kind,
        status=span.status.code,
        service=service if isinstance(service, str) and service else None,
        attributes=_attributes(span.attributes, READ),
    )


def _attributes(entries: Iterable[KeyValue], wanted: frozenset[str] | set[str]) -> dict[str, Any]:
    return {entry.key: _value(entry.value) for entry in entries if entry.key in wanted}


def _value(value: AnyValue) -> Any:
    """A plain value, or a list of them; of a map or bytes only that it is one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind in ("kvlist_value", "bytes_value"):
        return {}
    return None if kind is None else getattr(value, kind)


def _json_spans(values: Any) -> Iterator[Span | BadItem]:
    if not isinstance(values, Mapping):
        raise BadExport(f"body: must be an ExportTraceServiceRequest, got {kind_of(values)}")
    for resource in _entries(values, "resourceSpans"):
        about = resource.get("resource")
        about = about if isinstance(about, Mapping) else {}
        service = _json_attributes(about, {SERVICE}).get(SERVICE)
        for scope in _entries(resource, "scopeSpans"):
            for span in _entries(scope, "spans"):
                try:
                    yield _json_span(span, service)
                except BadItem as error:
                    yield error


def _entries(values: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list. Where the outer form is wrong no span can be told from another."""
    found = values.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise BadExport(f"{name}: must be an array of objects, got {kind_of(found)}")
    return found


def _json_span(span: Mapping[str, Any], service: Any) -> Span:
    status = span.get("status")
    return Span(
        trace_id=_id("traceId", span.get("traceId"), 32),
        span_id=_id("spanId", span.get("spanId"), 16),
        start_ns=_integer("startTimeUnixNano", span.get("startTimeUnixNano"), _MAX_NS),
        end_ns=_integer("endTimeUnixNano", span.get("endTimeUnixNano"), _MAX_NS),
        kind=_integer("kind", span.get("kind", 0), 5),
        status=_integer("status.code", status.get("code", 0) if isinstance(status, Mapping) else 0, 2),
        service=service if isinstance(service, str) and service else None,
        attributes=_json_attributes(span, READ),
    )


def _id(name: str, value: Any, digits: int) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if len(text) != digits or not _HEX.fullmatch(text) or not text.strip("0"):
        raise BadItem(f"{name}: must be {digits // 2} bytes that are not all zero, got {kind_of(value)}")
    return text


def _integer(name: str, value: Any, high: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise BadItem(f"{name}: must be an integer of 0 to {high}, got {kind_of(value)}")
    return value


def _json_attributes(values: Mapping[str, Any], wanted: frozenset[str] | set[str]) -> dict[str, Any]:
    entries = values.get("attributes")
    return {
        entry["key"]: _json_value(entry.get("value"))
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, Mapping) and isinstance(entry.get("key"), str) and entry["key"] in wanted
    }


def _json_value(value: Any) -> Any:
    """As `_value`; {} stands for what is none, so that a complaint can say so."""
    if not isinstance(value, Mapping):
        return {}
    for name, kind in _VALUES.items():
        if isinstance(value.get(name), kind):  # type: ignore[arg-type]
            return value[name]
    number = value.get("intValue")
    if isinstance(number, str) and re.fullmatch(r"-?\d{1,19}", number, re.ASCII):
        return int(number)
    if isinstance(number, int):
        return number
    array = value.get("arrayValue")
    if isinstance(array, Mapping) and isinstance(array.get("values"), list):
        return [_json_value(each) for each in array["values"]]
    return {} if value else None
