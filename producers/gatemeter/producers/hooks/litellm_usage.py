"""What an attempt through LiteLLM used: `reported` only where the provider's own usage object was seen.

LiteLLM fills in what a provider did not say: zeros for an answer without usage, its own count of tokens for a stream
without, or one that broke; nothing marks them. So the provider's raw answer is read, or the chunks of a stream as they
came, and LiteLLM's own figures are at best `estimated`. Nothing here imports litellm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatemeter.producers.hooks.litellm_reading import mapping
from gatemeter.producers.hooks.sse import ServerSentEvents
from gatemeter.producers.usage import SHAPES, Usage, UsageStream, normalise

MAX_RAW_LENGTH: Final = 8 * 1024 * 1024
_CHUNKS_AS_SENT: Final = ("openai_chat", "openai_compatible", "mistral_chat", "deepseek_chat")
"""Shapes whose usage LiteLLM's chunks repeat as the provider sent it."""


_LAST_CHUNKS: Final = 4
"""Among them are the one with the finish reason and the one with the usage."""


class StreamWatch:
    """What passes of one stream: how it ended, when its first chunk came, and the provider's usage in it.

    LiteLLM keeps a stream's chunks in a list (`chunks`), usage included that the client is not given; the list is
    looked at once, at the end. Streams of Anthropic's messages are bytes, those of the Responses API events: both are
    read as they pass.
    """

    def __init__(self, response: object, shape: str | None) -> None:
        self.has_ended = False
        self.shape = shape
        chunks = getattr(response, "chunks", None)
        self._chunks: list[Any] | None = chunks if isinstance(chunks, list) else None
        self._events = ServerSentEvents()
        follows = shape is not None and SHAPES[shape].follow is not None and self._chunks is None
        self._stream = UsageStream(shape) if follows and shape is not None else None

    def sees(self, item: object) -> None:
        """A chunk, after it was forwarded."""
        if self._stream is None:
            return
        if isinstance(item, (bytes, str)):
            for payload in self._events.feed(item.encode() if isinstance(item, str) else item):
                self._stream.feed(payload)
        elif self.shape == "openai_responses":
            kind = getattr(item, "type", None)
            if getattr(kind, "value", kind) in _CLOSING:
                self._stream.feed(dumped(item))

    def usage(self) -> Usage | None:
        """The provider's last word, or None where it did not come or cannot be seen here."""
        if self._stream is None:
            return None
        for payload in self._events.end():
            self._stream.feed(payload)
        usage = self._stream.usage()
        return usage if usage.usage_source == "reported" else None

    def usage_as_sent(self) -> Usage | None:
        """The provider's usage where LiteLLM's chunks repeat it as it was sent."""
        said = self.chunk_usage() if self.shape in _CHUNKS_AS_SENT else None
        if said is None or self.shape is None:
            return None
        served: dict[str, Any] = {}
        for chunk in (self._chunks or ())[-_LAST_CHUNKS:]:
            served |= _served(chunk)
        return normalise(self.shape, {**served, "usage": said})

    def chunk_usage(self) -> dict[str, Any] | None:
        """The newest usage object among the chunks as they came; None where the provider sent none."""
        for chunk in reversed(self._chunks or ()):
            said = dumped(getattr(chunk, "usage", None))
            if said:
                return said
        return None


_CLOSING: Final = ("response.completed", "response.incomplete", "response.failed")


def dumped(value: object) -> dict[str, Any]:
    """A pydantic object as a dictionary, without what is None; a mapping as it is; else empty."""
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    return dict(dump(mode="json", exclude_none=True)) if callable(dump) else {}


def usage_of_raw_answer(shape: str | None, raw: object) -> Usage | None:
    """The usage of the provider's own answer; None where there is no such answer here, or no shape to read it by.

    A `Usage` without any quantity says that the provider's answer was seen, and says nothing of usage.
    """
    if shape is None or not isinstance(raw, (str, bytes, Mapping)) or len(raw) > MAX_RAW_LENGTH:
        return None
    if not isinstance(raw, Mapping):
        try:
            msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError):
            return None
    return normalise(shape, raw)


def usage_of_litellm(response: object, usage: object) -> Usage | None:
    """LiteLLM's own figures, whoever counted them; None where there are none, or only the zeros that it fills in."""
    said = dumped(usage)
    if not said or not any(said.get(name) for name in ("prompt_tokens", "completion_tokens", "input_tokens")):
        return None
    if "prompt_tokens" not in said:
        return normalise("openai_responses", {**_served(response), "usage": said})
    return _with_lifetimes(normalise("openai_chat", {**_served(response), "usage": openai_form(said)}), said)


def usage_of_chunks(response: object, said: dict[str, Any], merged: object, shape: str | None) -> Usage | None:
    """The provider's usage in a stream that came to its end: as its chunk says, or put together by LiteLLM."""
    if shape in _CHUNKS_AS_SENT and shape is not None:
        return normalise(shape, {**_served(response), "usage": said})
    return usage_of_litellm(response, merged)


def estimated(usage: Usage | None) -> dict[str, Any]:
    """Event fields for figures that no provider vouches for."""
    if usage is None:
        return {"usage_source": "missing"}
    fields = usage.event_fields()
    for name in ("usage_raw", "usage_consistency", "usage_mismatches"):
        fields.pop(name, None)
    return {**fields, "usage_source": "estimated"}


def openai_form(said: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's usage with cache reads and writes, which it names after Anthropic's too, where OpenAI has them."""
    details = dict(mapping(said.get("prompt_tokens_details")))
    read = details.get("cached_tokens") or said.get("cache_read_input_tokens")
    written = (
        details.get("cache_write_tokens")
        or details.get("cache_creation_tokens")
        or said.get("cache_creation_input_tokens")
    )
    details = {name: details[name] for name in ("audio_tokens", "image_tokens") if details.get(name)}
    if read:
        details["cached_tokens"] = read
    if written:
        details["cache_write_tokens"] = written
    output = mapping(said.get("completion_tokens_details"))
    output = {name: output[name] for name in ("reasoning_tokens", "audio_tokens", "image_tokens") if output.get(name)}
    totals = {name: said[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens") if name in said}
    return {**totals, "prompt_tokens_details": details, "completion_tokens_details": output}


def _with_lifetimes(usage: Usage, said: Mapping[str, Any]) -> Usage:
    """Cache writes by lifetime, where LiteLLM kept them apart and they are all that was written."""
    split = mapping(mapping(said.get("prompt_tokens_details")).get("cache_creation_token_details"))
    short, long = split.get("ephemeral_5m_input_tokens"), split.get("ephemeral_1h_input_tokens")
    written = usage.input_text_cache_write_5m
    if not long or not isinstance(long, int) or written != (short or 0) + long:
        return usage
    return msgspec.structs.replace(usage, input_text_cache_write_5m=short or 0, input_text_cache_write_1h=long)


def _served(response: object) -> dict[str, Any]:
    """Who served it, of LiteLLM's answer: the provider's model where it says it."""
    hidden = mapping(getattr(response, "_hidden_params", None))
    served: dict[str, Any] = {"id": getattr(response, "id", None), "model": hidden.get("provider_response_model")}
    served["service_tier"] = getattr(response, "service_tier", None)
    choices = getattr(response, "choices", None)
    reason = getattr(choices[0], "finish_reason", None) if isinstance(choices, list) and choices else None
    if reason is not None:
        served["choices"] = [{"finish_reason": reason}]
    return {name: value for name, value in served.items() if isinstance(value, (str, list))}
