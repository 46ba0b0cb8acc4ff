"""Of a whole answer only what its reader looks at: names, reasons and the usage object. Text and vectors are skipped.

An outline gives what `json.loads` would give, as far as the shape's reader looks, several times faster. What has other
types than here, or is not quite JSON, raises `ValueError` (of which msgspec's errors are kinds) and is read whole,
which is always right. What is skipped is not checked: what is wrong in an answer's text alone is not complained about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from gatemeter.producers.usage import anthropic, gemini, openai_text
from gatemeter.producers.usage.verbatim import MAX_RAW_LENGTH

_NOTHING: Final = msgspec.Raw(b"null")


class Outlined(NamedTuple):
    """What the reader looks at, and the usage object to the letter; None where there is none."""

    answer: dict[str, Any]
    usage_raw: str | None


Outline = Callable[[bytes], Outlined]


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Chat(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NOTHING


class _Action(msgspec.Struct, gc=False):
    type: str | msgspec.UnsetType = msgspec.UNSET


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    status: str | None = None
    action: _Action | None = None


class _Responses(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    incomplete_details: dict[str, Any] | None = None
    output: list[_Item] | None = None
    usage: msgspec.Raw = _NOTHING


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = _NOTHING


class _Candidate(msgspec.Struct, gc=False):
    finishReason: str | None = None


class _Feedback(msgspec.Struct, gc=False):
    blockReason: str | None = None


class _Gemini(msgspec.Struct, gc=False):
    responseId: str | None = None
    modelVersion: str | None = None
    candidates: list[_Candidate] | None = None
    promptFeedback: _Feedback | None = None
    usageMetadata: msgspec.Raw = _NOTHING


_chat: Final = msgspec.json.Decoder(_Chat).decode
_responses: Final = msgspec.json.Decoder(_Responses).decode
_message: Final = msgspec.json.Decoder(_Message).decode
_gemini: Final = msgspec.json.Decoder(_Gemini).decode
_json: Final = msgspec.json.Decoder().decode
_builtins: Final = msgspec.to_builtins


def outline_chat(body: bytes) -> Outlined:
    """Chat completions and embeddings of OpenAI, and of those who answer in the same form."""
    seen = _chat(body)
    usage, raw = _usage(seen.usage)
    first = [{"finish_reason": seen.choices[0].finish_reason}] if seen.choices else None
    tier = seen.service_tier
    return Outlined({"id": seen.id, "model": seen.model, "service_tier": tier, "choices": first, "usage": usage}, raw)


def outline_responses(body: bytes) -> Outlined:
    """The Responses API: of its output the kinds of items, of which calls are counted."""
    seen = _responses(body)
    usage, raw = _usage(seen.usage)
    read = {name: getattr(seen, name) for name in ("id", "model", "service_tier", "status", "incomplete_details")}
    return Outlined({**read, "output": _builtins(seen.output), "usage": usage}, raw)


def outline_messages(body: bytes) -> Outlined:
    """Messages of Anthropic."""
    seen = _message(body)
    usage, raw = _usage(seen.usage)
    return Outlined({"id": seen.id, "model": seen.model, "stop_reason": seen.stop_reason, "usage": usage}, raw)


def outline_gemini(body: bytes) -> Outlined:
    """Gemini's generateContent."""
    seen = _gemini(body)
    usage, raw = _usage(seen.usageMetadata)
    first = [{"finishReason": seen.candidates[0].finishReason}] if seen.candidates else None
    read = {"responseId": seen.responseId, "modelVersion": seen.modelVersion, "candidates": first}
    return Outlined({**read, "promptFeedback": _builtins(seen.promptFeedback), "usageMetadata": usage}, raw)


def _usage(raw: msgspec.Raw) -> tuple[Any, str | None]:
    """The usage, with integers of any size, and its text."""
    text = bytes(raw).decode()
    if len(text) > MAX_RAW_LENGTH:
        raise ValueError("usage: too long to be kept")
    return (None, None) if text == "null" else (_json(text), text)


OUTLINES: Final[Mapping[object, Outline]] = MappingProxyType(
    {
        openai_text.read_chat: outline_chat,
        openai_text.read_deepseek: outline_chat,
        openai_text.read_mistral: outline_chat,
        openai_text.read_xai: outline_chat,
        openai_text.read_embeddings: outline_chat,
        openai_text.read_responses: outline_responses,
        anthropic.read_messages: outline_messages,
        gemini.read_gemini: outline_gemini,
    }
)
"""By the reader whose work it saves."""
