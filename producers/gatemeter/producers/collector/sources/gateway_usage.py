"""Token counts of a gateway's own log. A gateway that knows nothing writes 0, so a zero is unknown unless corroborated.

What corroborates is the provider's own usage object: in a logged answer, or details that only a provider can have said.
Kong counts by itself where a provider says nothing, and does not mark it: what it may have counted is `estimated`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatemeter.producers.foreign import Item, whole
from gatemeter.producers.usage import Usage, normalise
from gatemeter.schemas.limits import MAX_TOKENS_PER_EVENT

MISSING: Final[Mapping[str, Any]] = {"usage_source": "missing"}
INPUT_ONLY: Final = ("embeddings", "rerank", "moderation")
"""Operations that have no output tokens."""
MAX_ANSWER_LENGTH: Final = 8 * 1024 * 1024
_count: Final = whole(0, MAX_TOKENS_PER_EVENT)
_Sides = tuple[tuple[str, str, tuple[str, ...]], ...]
_CHAT: Final[_Sides] = (
    ("prompt_tokens", "prompt_token", ("cached_tokens", "audio_tokens", "image_tokens", "cache_write_tokens")),
    ("completion_tokens", "completion_token", ("reasoning_tokens", "audio_tokens", "image_tokens")),
)
_IMAGES: Final[_Sides] = (
    ("input_tokens", "prompt_tokens", ("text_tokens", "image_tokens")),
    ("output_tokens", "completion_tokens", ("text_tokens", "image_tokens")),
)


def usage_of_answer(answer: Any) -> Usage | None:
    """The provider's usage in an answer that the gateway logged; None where there is none. No text is kept."""
    values = answer
    if isinstance(answer, str):
        if len(answer) > MAX_ANSWER_LENGTH:
            return None
        try:
            values = json.loads(answer)
        except (ValueError, RecursionError):
            return None
    shape = _shape(values) if isinstance(values, Mapping) else None
    if shape is None:
        return None
    usage = normalise(shape, answer if isinstance(answer, str) else values)
    return usage if usage.usage_source == "reported" else None


def _shape(answer: Mapping[str, Any]) -> str | None:
    """By what only that form has; a usage object alone does not tell whether cached tokens are part of the input."""
    usage = answer.get("usage")
    if isinstance(answer.get("usageMetadata"), Mapping):
        return "gemini"
    if not isinstance(usage, Mapping):
        return None
    if answer.get("object") == "response":
        return "openai_responses"
    if answer.get("type") == "message" and "input_tokens" in usage:
        return "anthropic_messages"
    if answer.get("object") == "list" and "prompt_tokens" in usage:
        return "openai_embeddings"
    return "openai_chat" if "prompt_tokens" in usage else None


def counted(figures: Item, operation: str, *, is_reported: bool) -> dict[str, Any]:
    """Event fields of counts in OpenAI's form, whatever the provider: cached tokens are part of the prompt.

    `is_reported`: they cannot be the gateway's own count.
    """
    shape, names = "openai_chat", _CHAT
    if operation == "image":
        shape, names = "openai_images", _IMAGES
    elif operation in INPUT_ONLY:
        shape = "openai_embeddings"
    sides = [_side(figures, *side) for side in names]
    has_output = bool(sides[1]) or operation in INPUT_ONLY
    if not any(sides) or not (is_reported or has_output):
        return dict(MISSING)
    usage = normalise(shape, {"usage": {name: value for side in sides for name, value in side.items()}})
    fields = msgspec.structs.replace(usage, usage_raw=None).event_fields()
    source = "reported" if is_reported else "estimated"
    return {**fields, "usage_source": source if has_output else "missing"}


def _side(figures: Item, name: str, older_name: str, details: tuple[str, ...]) -> dict[str, Any]:
    """The count of one side and its details. Zeros are left out: a gateway writes them where it was told nothing."""
    count = figures.optional(name, _count) or figures.optional(older_name, _count)
    if not count:
        return {}
    inside = figures.part(f"{name}_details")
    found = {detail: inside.optional(detail, _count) for detail in details}
    return {name: count, f"{name}_details": {detail: value for detail, value in found.items() if value}}
