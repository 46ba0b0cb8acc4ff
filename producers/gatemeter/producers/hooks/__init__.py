"""Hooks: one file for each place that a meter can sit in, over one shared core (docs/hooks)."""

from __future__ import annotations

from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Endpoint
from gatemeter.producers.hooks.identity import Identity, fingerprint

__all__ = ["DEFAULT_ENDPOINTS", "Endpoint", "Identity", "fingerprint"]
