"""The shapes of answers by name, and which one a provider's operation has. A shape is declared, never guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatemeter.producers.usage import anthropic, bedrock, cohere, following, gemini, local_servers
from gatemeter.producers.usage import openai_media as media
from gatemeter.producers.usage import openai_text as text
from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import Part
from gatemeter.producers.usage.verbatim import Document

Reader = Callable[[Part, Draft], None]
Follower = Callable[[following.Stream, Document], None]
_USAGE: Final = (("usage",),)


class UnknownShape(LookupError):
    """No shape of that name, no streams of it, or none declared for the operation. The text lists what there is."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How answers of one form are read. `raw` are the paths of what is kept verbatim: one, or an object of several."""

    name: str
    read: Reader
    follow: Follower | None
    raw: tuple[tuple[str, ...], ...] = _USAGE


_LLAMACPP_RAW: Final = (("usage",), ("timings",), ("tokens_evaluated",), ("tokens_predicted",))
_HEADERS: Final = (bedrock.INPUT_HEADER, bedrock.OUTPUT_HEADER, bedrock.READ_HEADER, bedrock.WRITE_HEADER)

SHAPES: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        shape.name: shape
        for shape in (
            Shape("openai_chat", text.read_chat, following.follow_choices),
            Shape("openai_compatible", text.read_chat, following.follow_choices),
            Shape("openai_responses", text.read_responses, following.follow_responses),
            Shape("openai_embeddings", text.read_embeddings, None),
            Shape("openai_images", media.read_images, following.follow_done_event),
            Shape("openai_transcription", media.read_transcription, following.follow_done_event),
            Shape("openai_speech", media.read_speech, following.follow_done_event),
            Shape("openai_realtime", text.read_realtime, following.follow_realtime, (("response", "usage"),)),
            Shape("deepseek_chat", text.read_deepseek, following.follow_choices),
            Shape("mistral_chat", text.read_mistral, following.follow_choices),
            Shape("xai_chat", text.read_xai, following.follow_choices),
            Shape("anthropic_messages", anthropic.read_messages, following.follow_messages),
            Shape("gemini", gemini.read_gemini, following.follow_gemini, (("usageMetadata",),)),
            Shape("bedrock_converse", bedrock.read_converse, following.follow_converse),
            Shape("bedrock_invoke_headers", bedrock.read_invoke_headers, None, tuple((name,) for name in _HEADERS)),
            Shape("cohere_chat", cohere.read_chat_billed, following.follow_cohere),
            Shape("cohere_tokens", cohere.read_chat_tokens, following.follow_cohere),
            Shape("cohere_units", cohere.read_units, None, (("meta", "billed_units"),)),
            Shape("llamacpp", local_servers.read_llamacpp, following.follow_llamacpp, _LLAMACPP_RAW),
            Shape(
                "ollama",
                local_servers.read_ollama,
                following.follow_ollama,
                (("prompt_eval_count",), ("eval_count",)),
            ),
        )
    }
)

_OPENAI: Final = {
    "chat": "openai_chat",
    "completion": "openai_chat",
    "responses": "openai_responses",
    "embeddings": "openai_embeddings",
    "image": "openai_images",
    "transcription": "openai_transcription",
    "speech": "openai_speech",
    "realtime": "openai_realtime",
}
_COMPATIBLE: Final = {
    "chat": "openai_compatible",
    "completion": "openai_compatible",
    "responses": "openai_responses",
    "embeddings": "openai_embeddings",
}
_MESSAGES: Final = {"messages": "anthropic_messages"}
_ANTHROPIC: Final = {"chat": "anthropic_messages", **_MESSAGES}
_GEMINI: Final = {"chat": "gemini", "generate_content": "gemini", "embeddings": "gemini", **_MESSAGES}
_BEDROCK: Final = {"chat": "bedrock_converse", "converse": "bedrock_converse", "invoke": "bedrock_invoke_headers"}

FAMILIES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "openai": _OPENAI,
        "azure": {**_OPENAI, **_MESSAGES},
        "anthropic": _ANTHROPIC,
        "google": _GEMINI,
        "vertex": _GEMINI,
        "aws": {**_BEDROCK, **_MESSAGES},
        "bedrock": {**_BEDROCK, **_MESSAGES},
        "mistral": {"chat": "mistral_chat", "embeddings": "openai_embeddings", "transcription": "mistral_chat"},
        "cohere": {"chat": "cohere_chat", "embeddings": "cohere_units", "rerank": "cohere_units"},
        "deepseek": {"chat": "deepseek_chat", **_MESSAGES},
        "x-ai": {"chat": "xai_chat", "responses": "openai_responses"},
        "groq": _COMPATIBLE,
        "vllm": _COMPATIBLE,
        "llamacpp": {"chat": "llamacpp", "completion": "llamacpp", "embeddings": "openai_embeddings"},
        "ollama": {"chat": "ollama", "completion": "ollama", "embeddings": "ollama"},
        "openai_compatible": _COMPATIBLE,
    }
)
"""By provider, the shape of each operation. A provider that is not here is declared to be like one that is."""

_PATHS: Final = tuple(
    (re.compile(pattern), operation)
    for pattern, operation in (
        (r"/publishers/anthropic/models/[^/]+:(streamRawPredict|rawPredict)$", "messages"),
        (r":(streamGenerateContent|generateContent|embedContent|batchEmbedContents)$", "generate_content"),
        (r"/model/[^/]+/converse(-stream)?$", "converse"),
        (r"/model/[^/]+/invoke$", "invoke"),
        (r"/messages$", "messages"),
        (r"/chat/completions$|/v2/chat$|/api/chat$", "chat"),
        (r"/completions?$|/api/generate$", "completion"),
        (r"/responses$", "responses"),
        (r"/embeddings$|/v2/embed$|/api/embed$", "embeddings"),
        (r"/images/(generations|edits|variations)$", "image"),
        (r"/audio/(transcriptions|translations)$", "transcription"),
        (r"/audio/speech$", "speech"),
        (r"/realtime$", "realtime"),
        (r"/v2/rerank$", "rerank"),
    )
)


def shape_named(name: str) -> Shape:
    """The shape of that name. Raises `UnknownShape`."""
    try:
        return SHAPES[name]
    except KeyError:
        raise UnknownShape(f"shape: must be one of {', '.join(SHAPES)}, got {name!r}") from None


def shape_of(provider: str, operation: str, declared: Mapping[str, str] | None = None) -> str:
    """The name of the shape of a provider's operation (or the path of its URL). Raises `UnknownShape`.

    `declared` says of providers that are not known here whose shapes they have, e.g. `{"acme": "openai_compatible"}`;
    a provider that nobody declared has none, however familiar its answers look.
    """
    family = (declared or {}).get(provider, provider)
    operations = FAMILIES.get(family)
    if operations is None:
        raise UnknownShape(f"provider: must be one of {', '.join(FAMILIES)}, or declared as one, got {provider!r}")
    asked = _operation_of(operation) if "/" in operation else operation
    if asked not in operations:
        raise UnknownShape(f"operation of {family}: must be one of {', '.join(operations)}, got {operation!r}")
    return operations[asked]


def _operation_of(path: str) -> str:
    plain = path.partition("?")[0].rstrip("/")
    return next((operation for pattern, operation in _PATHS if pattern.search(plain)), path)
