"""The W3C header `traceparent`, of which the trace id alone is kept."""

from __future__ import annotations


def trace_id_of(traceparent: str | None) -> str | None:
    """32 hex digits; None where the header is absent or of another form."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None
