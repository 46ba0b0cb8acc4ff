"""Answers of providers made from drawn leaves by each provider's documented formula, whole and in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Leaves = dict[str, int]


def _sum(leaves: Leaves, *names: str) -> int:
    return sum(leaves.get(name, 0) for name in names)


def _total(leaves: Leaves) -> int:
    return sum(leaves.values())


def _input(leaves: Leaves) -> int:
    return sum(count for name, count in leaves.items() if name.startswith("input_"))


def _output(leaves: Leaves) -> int:
    return sum(count for name, count in leaves.items() if name.startswith("output_"))


def _chat_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "prompt_tokens": _input(leaves),
        "completion_tokens": _output(leaves),
        "total_tokens": _total(leaves),
        "prompt_tokens_details": {
            "cached_tokens": leaves["input_text_cache_read"],
            "cache_write_tokens": leaves["input_text_cache_write_5m"],
            "audio_tokens": leaves["input_audio_uncached"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": leaves["output_text_reasoning"],
            "audio_tokens": leaves["output_audio_visible"],
        },
    }


def _xai_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "prompt_tokens": _input(leaves),
        "completion_tokens": leaves["output_text_visible"],
        "total_tokens": _total(leaves),
        "prompt_tokens_details": {"cached_tokens": leaves["input_text_cache_read"]},
        "completion_tokens_details": {"reasoning_tokens": leaves["output_text_reasoning"]},
    }


def _deepseek_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "prompt_tokens": _input(leaves),
        "completion_tokens": leaves["output_text_visible"],
        "total_tokens": _total(leaves),
        "prompt_cache_hit_tokens": leaves["input_text_cache_read"],
        "prompt_cache_miss_tokens": leaves["input_text_uncached"],
    }


def _responses_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "input_tokens": _input(leaves),
        "input_tokens_details": {"cached_tokens": leaves["input_text_cache_read"]},
        "output_tokens": _output(leaves),
        "output_tokens_details": {"reasoning_tokens": leaves["output_text_reasoning"]},
        "total_tokens": _total(leaves),
    }


def _realtime_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "input_tokens": _input(leaves),
        "output_tokens": _output(leaves),
        "total_tokens": _total(leaves),
        "input_token_details": {
            "text_tokens": _sum(leaves, "input_text_uncached", "input_text_cache_read"),
            "audio_tokens": _sum(leaves, "input_audio_uncached", "input_audio_cache_read"),
            "image_tokens": _sum(leaves, "input_image_uncached", "input_image_cache_read"),
            "cached_tokens": _sum(leaves, *(name for name in leaves if name.endswith("cache_read"))),
            "cached_tokens_details": {
                kind + "_tokens": leaves[f"input_{kind}_cache_read"] for kind in ("text", "audio", "image")
            },
        },
        "output_token_details": {
            "text_tokens": leaves["output_text_visible"],
            "audio_tokens": leaves["output_audio_visible"],
        },
    }


def _images_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "input_tokens": _input(leaves),
        "input_tokens_details": {
            "text_tokens": leaves["input_text_uncached"],
            "image_tokens": leaves["input_image_uncached"],
        },
        "output_tokens": _output(leaves),
        "output_tokens_details": {
            "text_tokens": leaves["output_text_visible"],
            "image_tokens": leaves["output_image_visible"],
        },
        "total_tokens": _total(leaves),
    }


def _messages_usage(leaves: Leaves) -> dict[str, Any]:
    short, long = leaves["input_text_cache_write_5m"], leaves["input_text_cache_write_1h"]
    return {
        "input_tokens": leaves["input_text_uncached"],
        "cache_read_input_tokens": leaves["input_text_cache_read"],
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": _output(leaves),
        "output_tokens_details": {"thinking_tokens": leaves["output_text_reasoning"]},
    }


def _gemini_usage(leaves: Leaves) -> dict[str, Any]:
    def details(**counts: int) -> list[dict[str, Any]]:
        return [{"modality": modality, "tokenCount": count} for modality, count in counts.items()]

    text_cached, audio_cached = leaves["input_text_cache_read"], leaves["input_audio_cache_read"]
    text, audio = leaves["input_text_uncached"] + text_cached, leaves["input_audio_uncached"] + audio_cached
    tools = leaves["input_text_uncached"] // 3
    return {
        "promptTokenCount": text + audio - tools,
        "cachedContentTokenCount": text_cached + audio_cached,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": leaves["output_text_visible"] + leaves["output_image_visible"],
        "thoughtsTokenCount": leaves["output_text_reasoning"],
        "totalTokenCount": _total(leaves),
        "promptTokensDetails": details(TEXT=text - tools, AUDIO=audio),
        "cacheTokensDetails": details(TEXT=text_cached, AUDIO=audio_cached),
        "candidatesTokensDetails": details(TEXT=leaves["output_text_visible"], IMAGE=leaves["output_image_visible"]),
    }


def _converse_usage(leaves: Leaves) -> dict[str, Any]:
    short, long = leaves["input_text_cache_write_5m"], leaves["input_text_cache_write_1h"]
    return {
        "inputTokens": leaves["input_text_uncached"],
        "outputTokens": leaves["output_text_visible"],
        "totalTokens": _total(leaves),
        "cacheReadInputTokens": leaves["input_text_cache_read"],
        "cacheWriteInputTokens": short + long,
        "cacheDetails": [{"ttl": "1h", "inputTokens": long}, {"ttl": "5m", "inputTokens": short}],
    }


def _plain_usage(leaves: Leaves) -> dict[str, Any]:
    return {"input_tokens": _input(leaves), "output_tokens": _output(leaves), "total_tokens": _total(leaves)}


def _transcription_usage(leaves: Leaves) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": _input(leaves),
        "input_token_details": {
            "text_tokens": leaves["input_text_uncached"],
            "audio_tokens": leaves["input_audio_uncached"],
        },
        "output_tokens": leaves["output_text_visible"],
        "total_tokens": _total(leaves),
    }


@dataclass(frozen=True)
class Formula:
    """How a provider tells these leaves. `total` is the path of its grand total, () where it gives none."""

    leaves: tuple[str, ...]
    usage: Callable[[Leaves], dict[str, Any]]
    root: tuple[str, ...] = ("usage",)
    total: tuple[str, ...] = ("total_tokens",)

    def answer(self, leaves: Leaves) -> dict[str, Any]:
        """A whole answer with that usage."""
        answer: dict[str, Any] = self.usage(leaves)
        for key in reversed(self.root):
            answer = {key: answer}
        return answer


_TEXT = ("input_text_uncached", "input_text_cache_read", "output_text_visible")
_REASONING = (*_TEXT, "output_text_reasoning")
_WRITES = ("input_text_cache_write_5m", "input_text_cache_write_1h")
_CHAT = Formula((*_REASONING, "input_text_cache_write_5m", "input_audio_uncached", "output_audio_visible"), _chat_usage)
FORMULAS: dict[str, Formula] = {
    "openai_chat": _CHAT,
    "openai_compatible": _CHAT,
    "mistral_chat": _CHAT,
    "xai_chat": Formula(_REASONING, _xai_usage),
    "deepseek_chat": Formula(_TEXT, _deepseek_usage),
    "openai_responses": Formula(_REASONING, _responses_usage),
    "openai_embeddings": Formula(
        ("input_text_uncached",),
        lambda leaves: {"prompt_tokens": _total(leaves), "total_tokens": _total(leaves)},
    ),
    "openai_realtime": Formula(
        (
            *_TEXT,
            *("input_audio_uncached", "input_audio_cache_read", "input_image_uncached", "input_image_cache_read"),
            "output_audio_visible",
        ),
        _realtime_usage,
        ("response", "usage"),
    ),
    "openai_images": Formula(
        ("input_text_uncached", "input_image_uncached", "output_text_visible", "output_image_visible"), _images_usage
    ),
    "openai_transcription": Formula(
        ("input_text_uncached", "input_audio_uncached", "output_text_visible"), _transcription_usage
    ),
    "openai_speech": Formula(("input_text_uncached", "output_audio_visible"), _plain_usage),
    "anthropic_messages": Formula((*_REASONING, *_WRITES), _messages_usage, total=()),
    "gemini": Formula(
        (*_REASONING, "input_audio_uncached", "input_audio_cache_read", "output_image_visible"),
        _gemini_usage,
        ("usageMetadata",),
        ("totalTokenCount",),
    ),
    "bedrock_converse": Formula((*_TEXT, *_WRITES), _converse_usage, total=("totalTokens",)),
    "bedrock_invoke_headers": Formula(
        ("input_text_uncached", "output_text_visible"),
        lambda leaves: {
            "X-Amzn-Bedrock-Input-Token-Count": str(leaves["input_text_uncached"]),
            "X-Amzn-Bedrock-Output-Token-Count": str(leaves["output_text_visible"]),
        },
        (),
        (),
    ),
    "cohere_chat": Formula(
        ("input_text_uncached", "output_text_visible"),
        lambda leaves: {"billed_units": {"input_tokens": _input(leaves), "output_tokens": _output(leaves)}},
        total=(),
    ),
    "cohere_tokens": Formula(
        _TEXT,
        lambda leaves: {
            "tokens": {"input_tokens": _input(leaves), "output_tokens": _output(leaves)},
            "cached_tokens": leaves["input_text_cache_read"],
        },
        total=(),
    ),
    "cohere_units": Formula(
        ("input_text_uncached", "input_image_uncached"),
        lambda leaves: {
            "input_tokens": leaves["input_text_uncached"],
            "image_tokens": leaves["input_image_uncached"],
        },
        ("meta", "billed_units"),
        (),
    ),
    "llamacpp": Formula(
        _TEXT,
        lambda leaves: {
            "tokens_evaluated": _input(leaves),
            "tokens_predicted": _output(leaves),
            "timings": {
                "cache_n": leaves["input_text_cache_read"],
                "prompt_n": leaves["input_text_uncached"],
                "predicted_n": _output(leaves),
            },
        },
        (),
        ("tokens_predicted",),
    ),
    "ollama": Formula(
        ("input_text_uncached", "output_text_visible"),
        lambda leaves: {"prompt_eval_count": _input(leaves), "eval_count": _output(leaves), "done": True},
        (),
        (),
    ),
}
"""By shape, the formula of docs/usage.md, written the other way round."""


def chat_chunks(texts: list[str], usage: dict[str, Any], repeated: int) -> list[dict[str, Any]]:
    """A chat stream whose first chunks repeat a smaller cumulative usage `repeated` times."""
    chunks: list[dict[str, Any]] = [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts
    ]
    for chunk in chunks[:repeated]:
        chunk["usage"] = {**usage, "completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
    chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*chunks, {"id": "c", "choices": [], "usage": usage}]


def gemini_chunks(texts: list[str], usage: dict[str, Any], repeated: int) -> list[dict[str, Any]]:
    """A Gemini stream: usage in every chunk, cumulative; the last one again `repeated` times."""
    early = {"promptTokenCount": usage["promptTokenCount"], "totalTokenCount": usage["promptTokenCount"]}
    chunks: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": early} for text in texts
    ]
    return [*chunks, *[{"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}] * (1 + repeated)]


def message_chunks(texts: list[str], usage: dict[str, Any], repeated: int) -> list[dict[str, Any]]:
    """An Anthropic stream: input at the start with a first output count, cumulative deltas, the last one again."""
    deltas: list[dict[str, Any]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    early = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}}
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    start = {**usage, "output_tokens": 3, "output_tokens_details": {"thinking_tokens": 3}}
    begin = {"type": "message_start", "message": {"id": "m", "usage": start}}
    return [begin, *deltas, *[early] * repeated, *[last] * (1 + repeated), {"type": "message_stop"}]


CHUNKS: dict[str, Callable[[list[str], dict[str, Any], int], list[dict[str, Any]]]] = {
    "openai_chat": chat_chunks,
    "openai_compatible": chat_chunks,
    "mistral_chat": chat_chunks,
    "xai_chat": chat_chunks,
    "deepseek_chat": chat_chunks,
    "gemini": gemini_chunks,
    "anthropic_messages": message_chunks,
    "openai_responses": lambda texts, usage, repeated: [
        {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
        *[{"type": "response.output_text.delta", "delta": text} for text in texts],
        *[{"type": "response.completed", "response": {"status": "completed", "usage": usage}}] * (1 + repeated),
    ],
    "bedrock_converse": lambda texts, usage, repeated: [
        *[{"contentBlockDelta": {"delta": {"text": text}}} for text in texts],
        {"messageStop": {"stopReason": "end_turn"}},
        *[{"metadata": {"usage": usage}}] * (1 + repeated),
    ],
    "cohere_chat": lambda texts, usage, repeated: [
        *[{"type": "content-delta", "delta": {"message": {"content": {"text": text}}}} for text in texts],
        *[{"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}] * (1 + repeated),
    ],
    "ollama": lambda texts, usage, repeated: [
        *[{"message": {"content": text}, "done": False} for text in texts],
        *[usage] * (1 + repeated),
    ],
    "llamacpp": lambda texts, usage, repeated: [
        *[{"content": text, "stop": False} for text in texts],
        *[{**usage, "stop": True}] * (1 + repeated),
    ],
}
"""By shape, an answer as its provider streams it: text chunks, usage, and the closing usage again some times."""
