"""What the fields of an application's log are called: common names, unless a file says otherwise.

[fields]                          # ours = the log's, or several that are tried in order; dots go into objects
model = "llm.model"
input_tokens = ["tokens.in", "tokens.prompt"]
[where]                           # only lines in which all of these hold are calls
event = "llm_call"
[constants]                       # what is always so
tenant_id = "acme"
[providers]                       # the log's name of a provider = what prices know it as
"azure-sweden" = "azure"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gatemeter.producers.tails.fields import FieldsError, tables_of, texts_of
from gatemeter.producers.telemetry import semantics

_USAGE: Final = ("usage", "response.usage")


def _counts(ours: str, *theirs: str) -> tuple[str, ...]:
    inside = (f"{usage}.{name}" for usage in _USAGE for name in theirs)
    return (ours, *theirs, *inside, *semantics.COUNTS[ours.removesuffix("_tokens")])


DEFAULTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "timestamp": ("timestamp", "@timestamp", "time", "ts", "ended_at"),
        "started_at": ("started_at", "start_time"),
        "duration_ms": ("duration_ms", "latency_ms", "elapsed_ms"),
        "duration_s": ("duration_s", "latency_s", "elapsed_s"),
        "ttft_ms": ("ttft_ms", "time_to_first_token_ms"),
        "id": ("call_id", "event_id"),
        "trace_id": ("trace_id", "traceId", "trace.id"),
        "traceparent": ("traceparent",),
        "provider_request_id": ("provider_request_id", "response_id", "response.id", "gen_ai.response.id"),
        "client_request_id": ("client_request_id", "request_id", "correlation_id"),
        "client_address": ("client_address", "client.address", "client_ip", "remote_addr", "client.ip"),
        "tenant_id": ("tenant_id", "tenant"),
        "app_id": ("app_id", "app", "service.name", "service"),
        "workload_id": ("workload_id",),
        "provider": ("provider", "llm_provider", *semantics.TEXTS["provider"]),
        "model": ("model", "request.model", "model_name", *semantics.TEXTS["model"]),
        "served_model": ("served_model", "response_model", "response.model", *semantics.TEXTS["served_model"]),
        "operation": ("operation", "gen_ai.operation.name"),
        "stream": ("stream", "request.stream", "streaming"),
        "status": ("status", "outcome"),
        "http_status": ("http_status", "status_code", "response.status_code"),
        "error": ("error.type", "error_type", "error.kind", "error"),
        "finish_reason": ("finish_reason", "stop_reason"),
        "usage": _USAGE,
        "input_tokens": _counts("input_tokens", "prompt_tokens"),
        "output_tokens": _counts("output_tokens", "completion_tokens"),
        "cached_tokens": _counts("cached_tokens", "cache_read_tokens"),
        "written_tokens": _counts("written_tokens", "cache_write_tokens"),
        "reasoning_tokens": _counts("reasoning_tokens"),
    }
)
"""Every field that is read, by our name, and where it is looked for, in this order."""
CONSTANTS: Final = ("tenant_id", "app_id", "workload_id", "provider", "model", "operation")


@dataclass(frozen=True)
class JsonlFields:
    """`names`: where each field is; `where`: what all lines of calls say; `constants`, `providers`: see above."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULTS)
    where: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> JsonlFields:
        """Reads the TOML file; a field that it does not name is looked for by its defaults. Raises `FieldsError`."""
        tables = tables_of(path, ("fields", "where", "constants", "providers"))
        names = {name: _paths(path, name, value) for name, value in tables["fields"].items()}
        for section, given, accepted in (
            ("fields", names, tuple(DEFAULTS)),
            ("constants", tables["constants"], CONSTANTS),
        ):
            for name in given:
                if name not in accepted:
                    raise FieldsError(f"{path}: {section}: must be of {', '.join(accepted)}, got {name!r}")
        others = {section: texts_of(path, section, tables[section]) for section in ("where", "constants", "providers")}
        return cls({**DEFAULTS, **names}, **others)


def _paths(path: Path, name: str, value: Any) -> tuple[str, ...]:
    paths = value if isinstance(value, list) and value else [value]
    return tuple(texts_of(path, "fields", {name: each})[name] for each in paths)
