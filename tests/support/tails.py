"""Tails in tests: an emitter that keeps valid events, and logs of Envoy made by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gatemeter.producers import PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.producers.emitter import EmitterCounters
from gatemeter.producers.events import Event
from gatemeter.producers.tails import LogFile, Position, Positions, Tail, TailReport
from gatemeter.producers.tails.envoy import EnvoyLog, LogFields
from gatemeter.producers.validation import spool_form

START_US = 1_795_783_057_244_218


class KeptEvents:
    """Keeps what it gets; one that the processors would quarantine fails the test."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def emit(self, event: Event) -> bool:
        spool_form(event)
        self.all.append(event)
        return True

    def counters(self) -> EmitterCounters:
        return EmitterCounters(len(self.all), 0, len(self.all), 0, 0)

    @property
    def requests(self) -> list[RequestEvent]:
        return [event for event in self.all if isinstance(event, RequestEvent)]

    @property
    def responses(self) -> list[ResponseEvent]:
        return [event for event in self.all if isinstance(event, ResponseEvent)]

    @property
    def policies(self) -> list[PolicyEvent]:
        return [event for event in self.all if isinstance(event, PolicyEvent)]


def request_line(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A line of the access log: a chat completion that was answered."""
    answer = {
        "model": "gpt-4o",
        "id": f"chatcmpl-{number}",
        "served_model": "gpt-4o-2024-08-06",
        "finish_reason": "stop",
        "usage": '{"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}',
    }
    started = START_US + number
    return {
        "log": "request",
        "request_id": f"envoy-{number}",
        "client_request_id": None,
        "verified_tenant": "acme",
        "started_at": f"{started // 1_000_000}.{started % 1_000_000:06d}",
        "duration_us": 31_000,
        "duration_ms": 31,
        "ttft_us": 30_000,
        "method": "POST",
        "path": "/v1/chat/completions",
        "route": "openai",
        "cluster": "openai",
        "code": 200,
        "flags": "-",
        "details": "via_upstream",
        "attempts": 1,
        "answer": answer,
        **fields,
    }


def attempt_line(number: int = 1, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    """A line of the router's log."""
    started = START_US + number
    return {
        "log": "attempt",
        "request_id": f"envoy-{number}",
        "attempt": str(attempt),
        "started_at": f"{started // 1_000_000}.{started % 1_000_000:06d}",
        "duration_ms": 5,
        "code": 200,
        "flags": "-",
        **fields,
    }


def written(*lines: dict[str, Any]) -> bytes:
    """The lines as Envoy writes them."""
    return b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines)


def events_of(*lines: dict[str, Any], fields: LogFields | None = None) -> KeptEvents:
    """What a reader makes of the lines."""
    kept, reader = KeptEvents(), EnvoyLog("envoy-eu", fields)
    for line in written(*lines).splitlines():
        for event in reader.events(line):
            kept.emit(event)
    return kept


def run_once(log: Path, state: Path, kept: KeptEvents) -> TailReport:
    """One run of a tail to the log's present end, as a process would do it."""
    positions = Positions(state)
    source: LogFile | None = None
    try:
        position: Position = positions.load()
        source = LogFile(log, position.head, position.offset, position.since_ns)
        reader = EnvoyLog("envoy-eu", state=position.state)
        tail = Tail(source, reader, kept, positions, since_ns=position.since_ns)
        return tail.run(threading.Event(), once=True)
    finally:
        positions.close()
        if source is not None:
            source.close()


def request_ids(kept: KeptEvents | Iterable[ResponseEvent]) -> list[str]:
    """Of the answers, in order."""
    return [event.request_id for event in (kept.responses if isinstance(kept, KeptEvents) else kept)]
