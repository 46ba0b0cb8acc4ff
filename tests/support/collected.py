"""Readers of the collector in tests: what an item says, every event of it one that workers accept."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatemeter.producers.collector.sources import SOURCES, Naming
from gatemeter.producers.events import Event, PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.producers.validation import spool_form

PAYLOADS = Path(__file__).resolve().parents[1] / "unit" / "producers" / "collector" / "payloads"
SECRET = "sk-planted-secret-0123456789"
PLANTED = (SECRET, "planted prompt", "planted answer")


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text("utf-8"))


def changed(item: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with other values: `ai__proxy__usage=...` is the value at ai.proxy.usage; None takes it away."""
    found = copy.deepcopy(dict(item))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return found


class Said:
    """The events of one item by kind, and the fields that were complained of."""

    def __init__(self, source: str, item: Mapping[str, Any], naming: Naming | None = None) -> None:
        self.complaints: list[str] = []
        reader = SOURCES[source].reader(naming or Naming("gw"), lambda field, what: self.complaints.append(field))
        self.events: list[Event] = list(reader.events(item))
        for event in self.events:
            body = spool_form(event)
            assert not any(text.encode() in body for text in PLANTED)

    @property
    def requests(self) -> list[RequestEvent]:
        return [event for event in self.events if isinstance(event, RequestEvent)]

    @property
    def responses(self) -> list[ResponseEvent]:
        return [event for event in self.events if isinstance(event, ResponseEvent)]

    @property
    def policies(self) -> list[PolicyEvent]:
        return [event for event in self.events if isinstance(event, PolicyEvent)]

    @property
    def only(self) -> ResponseEvent:
        """The one RESPONSE, whose REQUEST says who and what as it does."""
        [request], [response] = self.requests, self.responses
        for name in ("request_id", "request_started_at", "attempt", "tenant_id", "app_id", "model", "provider"):
            assert getattr(request, name) == getattr(response, name)
        return response
