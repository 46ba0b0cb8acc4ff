"""Hooks in tests: an emitter that keeps what it gets, if it is valid, and the answers of a provider by case."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from gatemeter.producers import RequestEvent, ResponseEvent
from gatemeter.producers.events import Event
from gatemeter.producers.hooks import Identity
from gatemeter.producers.validation import spool_form

ACME = Identity(tenant_id="acme", app_id="bot", credential_fingerprint="f" * 32, identity_source="verified_credential")
SECRET = "sk-planted-secret-0123456789"
ASKED = {"messages": [{"role": "user", "content": "planted prompt"}], "model": "gpt-4o"}
CHAT = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "planted answer"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}
ZERO = {**CHAT, "usage": {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}}
ABSENT = {name: value for name, value in CHAT.items() if name != "usage"}


class RecordingEmitter:
    """Keeps the events; one that the processors would quarantine fails the test."""

    def __init__(self) -> None:
        self.requests: list[RequestEvent] = []
        self.responses: list[ResponseEvent] = []

    def emit(self, event: Event) -> bool:
        self._check(spool_form(event))
        if isinstance(event, RequestEvent):
            self.requests.append(event)
        elif isinstance(event, ResponseEvent):
            self.responses.append(event)
        return True

    def request(self, **fields: Any) -> bool:
        return self.emit(RequestEvent(**fields))

    def response(self, **fields: Any) -> bool:
        return self.emit(ResponseEvent(**fields))

    def _check(self, body: bytes) -> None:
        for planted in (SECRET.encode(), b"planted prompt", b"planted answer"):
            assert planted not in body

    @property
    def only(self) -> ResponseEvent:
        """The one RESPONSE, which repeats what its REQUEST says."""
        assert (len(self.requests), len(self.responses)) == (1, 1)
        request, response = self.requests[0], self.responses[0]
        for name in (
            "request_id",
            "request_started_at",
            "attempt",
            "tenant_id",
            "model",
            "provider",
            "identity_source",
        ):
            assert getattr(request, name) == getattr(response, name), name
        return response


class BrokenEmitter:
    """As no emitter should be."""

    def emit(self, event: Event) -> bool:
        raise RuntimeError("the emitter is broken")


def event_of(payload: object) -> bytes:
    """A server-sent event."""
    return b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"


def chat_chunk(text: str | None, reason: str | None = None) -> dict[str, Any]:
    """A chunk of a streamed chat completion."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [choice], "usage": None}


STREAM = [
    event_of(chat_chunk("planted ")),
    event_of(chat_chunk("answer")),
    event_of(chat_chunk(None, "stop")),
    event_of({"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [], "usage": CHAT["usage"]}),
    event_of(b"[DONE]"),
]


@dataclass(frozen=True)
class Answer:
    """What a stub provider answers: the parts of its body one by one."""

    status: int = 200
    parts: tuple[bytes, ...] = (json.dumps(CHAT).encode(),)
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def whole(body: object, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(status, (json.dumps(body).encode(),))


def stream(parts: list[bytes]) -> Answer:
    """A streamed answer."""
    return Answer(200, tuple(parts), "text/event-stream; charset=utf-8")


@dataclass(frozen=True)
class Expected:
    """Of a RESPONSE: how the attempt ended and what it used."""

    status: str
    usage_source: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    http_status: int | None = 200

    @classmethod
    def of(cls, event: ResponseEvent) -> Expected:
        """What an event says."""
        assert event.usage_source is not None
        tokens = event.input_text_uncached, event.output_text_visible
        return cls(event.status, event.usage_source, *tokens, event.http_status)


WHOLE_ANSWERS: dict[str, tuple[Answer, Expected]] = {
    "ok": (whole(CHAT), Expected("ok", "reported", 12, 3)),
    "usage zero": (whole(ZERO), Expected("ok", "reported", 12, 0)),
    "usage absent": (whole(ABSENT), Expected("ok", "missing")),
    "error": (whole({"error": {"message": "overloaded"}}, 529), Expected("error", "missing", http_status=529)),
    "time-out of the provider": (whole({"error": {}}, 504), Expected("timeout", "missing", http_status=504)),
    "stream": (stream(STREAM), Expected("ok", "reported", 12, 3)),
    "stream in pieces": (
        stream([b"".join(STREAM)[at : at + 7] for at in range(0, len(b"".join(STREAM)), 7)]),
        Expected("ok", "reported", 12, 3),
    ),
    "stream without usage": (stream([*STREAM[:3], STREAM[4]]), Expected("ok", "missing")),
    "stream that stops without an end": (stream(STREAM[:2]), Expected("error", "missing")),
    "stream that tells an error": (
        stream([*STREAM[:2], event_of({"error": {"message": "overloaded"}})]),
        Expected("error", "missing"),
    ),
    "gzip": (
        Answer(parts=(gzip.compress(json.dumps(CHAT).encode()),), headers={"content-encoding": "gzip"}),
        Expected("ok", "reported", 12, 3),
    ),
    "brotli": (Answer(parts=(b"\x0b\x02\x80",), headers={"content-encoding": "br"}), Expected("ok", "missing")),
    "not JSON": (Answer(parts=(b"ID3",), content_type="audio/mpeg"), Expected("ok", "missing")),
    "an answer that is no object": (whole([1, 2]), Expected("ok", "missing")),
}
"""Answers that come to their end, and what each is metered as, by whichever hook."""
