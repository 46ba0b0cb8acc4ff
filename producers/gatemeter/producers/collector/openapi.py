"""The OpenAPI 3.1 description of the collector: its schemas are those that check the events themselves."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec

from gatemeter.producers.collector.intake import Taken
from gatemeter.producers.collector.sources import SOURCES
from gatemeter.producers.collector.sources.plain import FORMS

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_WHAT: Final = {
    "kong": "Entries of Kong's http-log plugin, with the statistics of its AI plugins.",
    "apisix": "Entries of APISIX's http-logger plugin, with the summaries of its ai-proxy plugin.",
    "opa": "Decision logs of Open Policy Agent.",
    "otlp": "Traces by OTLP/HTTP; the spans of GenAI calls are taken as evidence.",
    "events": "Events of gatemeter by their field names: one object, an array, or a line each (NDJSON).",
}
_ERRORS: Final = {
    "400": "No JSON, or not compressed as Content-Encoding says.",
    "401": "No sender's token.",
    "403": "A token for another source.",
    "408": "The body came too slowly.",
    "413": "More bytes or items than accepted.",
    "415": "A compression or a form that is not accepted.",
    "429": "The spool is full, or too many requests wait: come back after Retry-After seconds. Nothing was taken.",
}


class Error(msgspec.Struct):
    """Why a request was not taken."""

    error: str


@cache
def document() -> dict[str, Any]:
    """The description as JSON values."""
    kinds = tuple(FORMS.values())
    _, schemas = msgspec.json.schema_components([*kinds, Taken, Error], ref_template=_REF)
    event: dict[str, Any] = {
        "oneOf": [{"$ref": _REF.format(name=form.__name__)} for form in kinds],
        "discriminator": {
            "propertyName": "kind",
            "mapping": {kind: _REF.format(name=form.__name__) for kind, form in FORMS.items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gatemeter collector",
            "version": version("gatemeter"),
            "description": "Takes usage from gateways and policy points. 2xx says that it is durable; what is sent"
            " twice is counted once.",
        },
        "paths": {source.path: {"post": _post(source.name)} for source in SOURCES.values()},
        "components": {
            "schemas": {**schemas, "Event": event},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A sender's token."}},
        },
        "security": [{"token": []}],
    }


def _post(source: str) -> dict[str, Any]:
    described = _post_otlp() if source == "otlp" else _post_json(source)
    gzip = {"name": "Content-Encoding", "in": "header", "schema": {"type": "string", "enum": ["identity", "gzip"]}}
    return {"operationId": f"post_{source}", "summary": _WHAT[source], "parameters": [gzip], **described}


def _post_otlp() -> dict[str, Any]:
    """The protocol describes its own messages."""
    forms: dict[str, Any] = {
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
        _JSON: {"schema": {"type": "object"}},
    }
    done = "ExportTraceServiceResponse: all spans are durable, or partial_success names refused ones."
    failed = {status: f"google.rpc.Status: {text}" for status, text in _ERRORS.items()}
    answers = {status: {"description": text, "content": forms} for status, text in ({"200": done} | failed).items()}
    return {"requestBody": {"required": True, "content": forms}, "responses": answers}


def _post_json(source: str) -> dict[str, Any]:
    one: dict[str, Any] = {"$ref": _REF.format(name="Event")} if source == "events" else {"type": "object"}
    body: dict[str, Any] = {_JSON: {"schema": {"oneOf": [one, {"type": "array", "items": one}]}}}
    if source == "events":
        body["application/x-ndjson"] = {"schema": {"type": "string"}}
    answers = {"200": _answer("All items are durable, or refused ones are named.", "Taken")}
    if source == "events":
        answers |= {"207": _answer("Some items were refused, the others are durable.", "Taken")}
        answers |= {"422": _answer("All items were refused.", "Taken")}
    answers |= {status: _answer(text, "Error") for status, text in _ERRORS.items()}
    return {"requestBody": {"required": True, "content": body}, "responses": answers}


def _answer(text: str, schema: str) -> dict[str, Any]:
    return {"description": text, "content": {_JSON: {"schema": {"$ref": _REF.format(name=schema)}}}}
