"""Spans of OTLP: what an application's own instrumentation tells of its calls (docs/hooks/otlp.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gatemeter.producers.collector.sources.naming import Naming
from gatemeter.producers.events import Event
from gatemeter.producers.foreign import BadItem
from gatemeter.producers.telemetry.spans import event_of


class OtlpSpans:
    """The reader of one sender's spans. Its `constants` go before what a span says."""

    def __init__(self, naming: Naming, complain: Callable[[str, str], None]) -> None:
        self._naming, self._complain = naming, complain

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        """The call of the `span`, if it is one; a `BadItem` in its place is raised."""
        span = item["span"]
        if isinstance(span, BadItem):
            raise span
        event = event_of(span, self._naming.gateway_id, self._complain)
        if event is None:
            return []
        constants: dict[str, Any] = dict(self._naming.constants)
        return [msgspec.structs.replace(event, **constants)]
