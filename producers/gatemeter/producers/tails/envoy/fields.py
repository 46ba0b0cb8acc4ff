"""What the fields of an access log are called: those of `examples/envoy/envoy.yaml`, unless a file says otherwise.

[fields]                              # ours = the log's; dots go into objects where no field has the dotted name
model = "gen_ai.request.model"
[clusters]                            # upstream cluster (or what `cluster` names) = provider
"bedrock-eu" = "aws"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gatemeter.producers.foreign import at
from gatemeter.producers.tails.fields import FieldsError, tables_of, texts_of

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            name: name
            for name in (
                *("log", "request_id", "attempt", "client_request_id", "traceparent", "idempotency_key"),
                *("client_address", "verified_tenant", "verified_app", "peer_uri", "claimed_tenant", "claimed_app"),
                *("started_at", "duration_us", "duration_ms", "ttft_us"),
                *("method", "path", "route", "cluster", "code", "flags", "details", "attempts"),
                *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
            )
        },
        "model": "answer.model",
        "stream": "answer.stream",
        "provider_request_id": "answer.id",
        "served_model": "answer.served_model",
        "finish_reason": "answer.finish_reason",
        "service_tier": "answer.service_tier",
        "usage": "answer.usage",
        "start_usage": "answer.start_usage",
        "stream_error": "answer.error",
    }
)
"""Every field that is read, by our name, and where it is in the log."""


@dataclass(frozen=True)
class LogFields:
    """Where each field is (`names`, by our name), and whose provider a cluster is (`clusters`)."""

    names: Mapping[str, str] = field(default_factory=lambda: DEFAULTS)
    clusters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> LogFields:
        """Reads the TOML file; what it does not name stays as it is. Raises `FieldsError`."""
        tables = tables_of(path, ("fields", "clusters"))
        names = texts_of(path, "fields", tables["fields"])
        for name in names:
            if name not in DEFAULTS:
                raise FieldsError(f"{path}: fields: must be of {', '.join(DEFAULTS)}, got {name!r}")
        return cls({**DEFAULTS, **names}, texts_of(path, "clusters", tables["clusters"]))

    def get(self, line: Mapping[str, Any], name: str) -> Any:
        """The value of a field; None where the log says nothing: null, '-' and '' are Envoy's words for it."""
        return at(line, self.names[name])
