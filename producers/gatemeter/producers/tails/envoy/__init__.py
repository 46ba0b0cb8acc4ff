"""Envoy and Envoy AI Gateway: events from the access log and the router's line an attempt (docs/hooks/envoy.md)."""

from __future__ import annotations

from gatemeter.producers.tails.envoy.fields import LogFields
from gatemeter.producers.tails.envoy.reading import EnvoyLog
from gatemeter.producers.tails.fields import FieldsError

__all__ = ["EnvoyLog", "FieldsError", "LogFields"]
