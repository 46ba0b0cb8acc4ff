"""Most chunks of a stream are text. Whether one can change what is known of the answer is told by a glance.

A glance decodes nothing but the few fields that the shape's follower looks at (`following.py`). `IDLE`: following the
chunk would change nothing. `NEWEST`: nothing but the newest usage, so that of several in a row only the last counts.
`READ` may be said of any chunk: it is read whole, which is always right, only slower. What has other types than here
raises `msgspec.MsgspecError` and is read too. A chunk that is passed over is not checked: what is wrong in its text
alone is not complained about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

import msgspec

from gatemeter.producers.usage import following

Verdict = Literal[0, 1, 2]
READ: Final = 0
IDLE: Final = 1
NEWEST: Final = 2


class Known(Protocol):
    """What a glance may look at: what the stream has said so far."""

    answer: dict[str, Any]
    open_choices: set[object]


Glance = Callable[[Known, bytes], Verdict]


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    finish_reason: None = None


class _Choices(msgspec.Struct, gc=False):
    """A chunk of chat completions that tells text. Any usage, any reason and any error make it another one."""

    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    usage: None = None
    x_groq: None = None
    timings: None = None


class _Responses(msgspec.Struct, gc=False):
    response: None = None


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None


class _Converse(msgspec.Struct, gc=False):
    messageStop: None = None
    metadata: None = None


class _Candidate(msgspec.Struct, gc=False):
    finishReason: None = None


class _Gemini(msgspec.Struct, gc=False):
    candidates: list[_Candidate] | None = None
    responseId: str | None = None
    modelVersion: str | None = None
    promptFeedback: None = None
    usageMetadata: msgspec.Raw = msgspec.Raw(b"null")


class _LlamaCpp(msgspec.Struct, gc=False):
    choices: None = None
    stop: bool | None = None


class _Ollama(msgspec.Struct, gc=False):
    model: str | None = None
    done: bool | None = None


_choices: Final = msgspec.json.Decoder(_Choices).decode
_responses: Final = msgspec.json.Decoder(_Responses).decode
_typed: Final = msgspec.json.Decoder(_Typed).decode
_converse: Final = msgspec.json.Decoder(_Converse).decode
_gemini: Final = msgspec.json.Decoder(_Gemini).decode
_llamacpp: Final = msgspec.json.Decoder(_LlamaCpp).decode
_ollama: Final = msgspec.json.Decoder(_Ollama).decode


def glance_choices(known: Known, chunk: bytes) -> Verdict:
    """Chat completions: text of choices that are open already, with the same names, before any usage."""
    answer, seen = known.answer, _choices(chunk)
    choices, name, model, tier = seen.choices, seen.id, seen.model, seen.service_tier
    if not choices or "usage" in answer or "timings" in answer:
        return READ
    for choice in choices:
        if choice.index not in known.open_choices:
            return READ
    if (name is not None and name != answer.get("id")) or (model is not None and model != answer.get("model")):
        return READ
    return IDLE if tier is None or tier == answer.get("service_tier") else READ


def glance_responses(known: Known, chunk: bytes) -> Verdict:
    """The Responses API: events without a response."""
    _responses(chunk)
    return IDLE


def glance_realtime(known: Known, chunk: bytes) -> Verdict:
    """Realtime: anything but `response.done`."""
    return READ if _typed(chunk).type == "response.done" else IDLE


def glance_messages(known: Known, chunk: bytes) -> Verdict:
    """Anthropic: anything but the start and the delta of the message itself."""
    return READ if _typed(chunk).type in ("message_start", "message_delta") else IDLE


def glance_gemini(known: Known, chunk: bytes) -> Verdict:
    """Gemini: text without a reason, with the same names; its usage so far is cumulative."""
    answer, seen = known.answer, _gemini(chunk)
    if _is_news(seen.responseId, answer.get("responseId")) or _is_news(seen.modelVersion, answer.get("modelVersion")):
        return READ
    return IDLE if bytes(seen.usageMetadata) == b"null" else NEWEST


def glance_converse(known: Known, chunk: bytes) -> Verdict:
    """ConverseStream: anything but `messageStop` and `metadata`."""
    _converse(chunk)
    return IDLE


def glance_cohere(known: Known, chunk: bytes) -> Verdict:
    """Cohere: anything but the end, and but another id."""
    seen = _typed(chunk)
    return READ if seen.type == "message-end" or _is_news(seen.id, known.answer.get("id")) else IDLE


def glance_done_event(known: Known, chunk: bytes) -> Verdict:
    """Images, transcriptions and speech: anything but the closing event."""
    return READ if _typed(chunk).type in following.DONE_EVENTS else IDLE


def glance_llamacpp(known: Known, chunk: bytes) -> Verdict:
    """The form of chat completions, or `/completion` until it says `stop`."""
    if _choices(chunk).choices is not None:
        return glance_choices(known, chunk)
    return READ if _llamacpp(chunk).stop is True else IDLE


def glance_ollama(known: Known, chunk: bytes) -> Verdict:
    """Ollama: until it says `done`, with the same model."""
    seen = _ollama(chunk)
    return READ if seen.done is True or _is_news(seen.model, known.answer.get("model")) else IDLE


def _is_news(said: str | None, known: object) -> bool:
    return said is not None and said != known


GLANCES: Final[Mapping[object, Glance]] = MappingProxyType(
    {
        following.follow_choices: glance_choices,
        following.follow_responses: glance_responses,
        following.follow_realtime: glance_realtime,
        following.follow_messages: glance_messages,
        following.follow_gemini: glance_gemini,
        following.follow_converse: glance_converse,
        following.follow_cohere: glance_cohere,
        following.follow_done_event: glance_done_event,
        following.follow_llamacpp: glance_llamacpp,
        following.follow_ollama: glance_ollama,
    }
)
"""By the follower whose work it saves."""
