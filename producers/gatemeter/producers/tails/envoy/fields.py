"""What the fields of an access log are called: those of `examples/envoy/envoy.yaml`, unless a file says otherwise.

[fields]                              # ours = the log's; dots go into objects where no field has the dotted name
model = "gen_ai.request.model"
[clusters]                            # upstream cluster (or what `cluster` names) = provider
"bedrock-eu" = "aws"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gatemeter.producers.foreign import at

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            name: name
            for name in (
                *("log", "request_id", "attempt", "client_request_id", "traceparent", "idempotency_key"),
                *("verified_tenant", "verified_app", "peer_uri", "claimed_tenant", "claimed_app"),
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


class FieldsError(ValueError):
    """A file of fields that cannot be used. One line: the file, the entry, what is accepted."""


@dataclass(frozen=True)
class LogFields:
    """Where each field is (`names`, by our name), and whose provider a cluster is (`clusters`)."""

    names: Mapping[str, str] = field(default_factory=lambda: DEFAULTS)
    clusters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> LogFields:
        """Reads the TOML file; what it does not name stays as it is. Raises `FieldsError`."""
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise FieldsError(f"{path}: must be a TOML file: {error}") from None
        for section in values:
            if section not in ("fields", "clusters"):
                raise FieldsError(f"{path}: must have the tables fields and clusters only, got {section!r}")
        names = _texts(path, "fields", values.get("fields", {}))
        for name in names:
            if name not in DEFAULTS:
                raise FieldsError(f"{path}: fields: must be of {', '.join(DEFAULTS)}, got {name!r}")
        return cls({**DEFAULTS, **names}, _texts(path, "clusters", values.get("clusters", {})))

    def get(self, line: Mapping[str, Any], name: str) -> Any:
        """The value of a field; None where the log says nothing: null, '-' and '' are Envoy's words for it."""
        return at(line, self.names[name])


def _texts(path: Path, section: str, values: Any) -> dict[str, str]:
    if not isinstance(values, dict):
        raise FieldsError(f"{path}: {section}: must be a table")
    for name, value in values.items():
        if not isinstance(value, str) or not 1 <= len(value) <= 256:
            raise FieldsError(f"{path}: {section}: {name}: must be text of 1 to 256 characters")
    return values
