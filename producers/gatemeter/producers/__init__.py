"""The gateway's side: an emitter that a hook can call in microseconds, and everything behind it up to Kafka."""

from __future__ import annotations

from gatemeter.producers.emitter import CloseReport, Emitter, EmitterCounters
from gatemeter.producers.events import PolicyEvent, RequestEvent, ResponseEvent, new_request_id, now_us
from gatemeter.producers.settings import EmitterSettings, SettingsError

__all__ = [
    "CloseReport",
    "Emitter",
    "EmitterCounters",
    "EmitterSettings",
    "PolicyEvent",
    "RequestEvent",
    "ResponseEvent",
    "SettingsError",
    "new_request_id",
    "now_us",
]
