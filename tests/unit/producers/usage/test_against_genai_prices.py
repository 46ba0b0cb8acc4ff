"""Our leaves, added up, are what genai-prices' own extractors find; where they differ, it is on purpose and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from genai_prices.data import providers

from gatemeter.producers.usage import Usage
from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS
from support.payloads import bodies, recorded, usage_of

THEIRS = {
    "openai_chat": ("openai", "chat"),
    "openai_compatible": ("groq", "default"),
    "openai_responses": ("openai", "responses"),
    "openai_embeddings": ("openai", "embeddings"),
    "openai_images": ("openai", "images"),
    "openai_realtime": ("openai", "realtime"),
    "deepseek_chat": ("deepseek", "chat"),
    "mistral_chat": ("mistral", "default"),
    "xai_chat": ("x-ai", "chat"),
    "anthropic_messages": ("anthropic", "default"),
    "gemini": ("google", "default"),
    "bedrock_converse": ("aws", "default"),
    "cohere_chat": ("cohere", "default"),
    "cohere_tokens": ("cohere", "tokens"),
    "cohere_units": ("cohere", "embeddings"),
}
"""Their provider and flavour for each shape of ours that they have."""

WITHOUT_THEIRS = {
    "bedrock_invoke_headers",
    "llamacpp",
    "ollama",
    "openai_speech",
    "openai_transcription",
}
"""Shapes for which genai-prices has no extractor."""

ON_PURPOSE: dict[str, tuple[set[str], str]] = {
    "anthropic_compaction_iterations_are_billed": (
        {"input_tokens", "output_tokens"},
        "they read the top level, which leaves compactions out; the provider bills all iterations",
    ),
    "anthropic_advisor_is_billed_at_its_own_model": (
        {"input_tokens", "cache_read_tokens"},
        "they read the top level, whose input is the first sampling's; the provider bills both",
    ),
    "anthropic_cache_split_that_does_not_add_up": (
        {"input_tokens", "cache_write_tokens"},
        "they take the flat count beside the split that contradicts it; ours keeps the split and marks the answer",
    ),
    "cohere_embed_images_and_text": ({"input_tokens"}, "they leave out image tokens, which are invoiced"),
    "gemini_details_that_do_not_add_up_are_marked": (
        {"input_tokens"},
        "they keep a total that its own parts contradict; ours keeps the parts and marks the answer",
    ),
    "gemini_audio_and_images_by_modality": (
        {"input_image_tokens", "input_video_tokens"},
        "video is a unit of its own there; our buckets have one visual modality",
    ),
    "gemini_tool_use_prompt_is_input_on_top_of_the_prompt": (
        {"input_tool_tokens", "input_text_tokens", "input_text_tool_tokens"},
        "tool-use tokens are a unit of their own there, and their text lacks the prompt where it has no details",
    ),
    "openai_chat_absurd_count_is_refused_alone": ({"input_tokens"}, "they accept any count"),
    "openai_chat_more_cached_than_prompt_is_kept_and_marked": (
        {"input_tokens"},
        "they keep a prompt that is smaller than its cached part; ours leaves the uncached part unknown and marks it",
    ),
}
"""Where we differ: in which of their numbers, and why."""

THEY_RAISE = {
    "cohere_rerank_search_units": "they require tokens; rerank is billed by the search",
    "openai_chat_negative_count_is_refused_alone": "one bad count makes them refuse the whole answer",
    "openai_chat_wrong_types_are_refused_alone": "one bad count makes them refuse the whole answer",
    "openai_chat_null_usage_is_unknown_not_zero": "unknown usage is an error there",
    "openai_chat_without_usage_is_unknown_not_zero": "unknown usage is an error there",
    "openai_images_dalle_counts_images": "unknown usage is an error there, and they do not count images",
    "openai_responses_queued_is_not_final": "unknown usage is an error there",
}
"""Where they raise and ours has a `Usage`."""

WHOLE = sorted(name for name, record in recorded().items() if "payload" in record and record["shape"] in THEIRS)
SUMS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": INPUT_BUCKETS,
    "output_tokens": OUTPUT_BUCKETS,
    "cache_read_tokens": ("input_text_cache_read", "input_audio_cache_read", "input_image_cache_read"),
    "cache_write_tokens": ("input_text_cache_write_5m", "input_text_cache_write_1h"),
    "cache_write_5m_tokens": ("input_text_cache_write_5m",),
    "cache_write_1h_tokens": ("input_text_cache_write_1h",),
    "cache_text_read_tokens": ("input_text_cache_read",),
    "cache_audio_read_tokens": ("input_audio_cache_read",),
    "cache_image_read_tokens": ("input_image_cache_read",),
    "input_text_tokens": tuple(bucket for bucket in INPUT_BUCKETS if "_text_" in bucket),
    "input_audio_tokens": ("input_audio_uncached", "input_audio_cache_read"),
    "input_image_tokens": ("input_image_uncached", "input_image_cache_read"),
    "output_text_tokens": ("output_text_visible", "output_text_reasoning"),
    "output_reasoning_tokens": ("output_text_reasoning",),
    "output_audio_tokens": ("output_audio_visible",),
    "output_image_tokens": ("output_image_visible",),
    "web_searches": ("searches",),
}
"""Their nested units as sums of our disjoint leaves."""


def theirs(record: dict[str, Any]) -> dict[str, Any]:
    provider_id, flavour = THEIRS[record["shape"]]
    provider = next(provider for provider in providers if provider.id == provider_id)
    _, usage = provider.extract_usage(bodies(record)[0], api_flavor=flavour)
    return {key: usage.reported_value(key) for key in vars(usage)}


def ours(usage: Usage, unit: str) -> int | None:
    return sum(usage.quantities[name] or 0 for name in SUMS[unit]) if unit in SUMS else None


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in THEY_RAISE])
def test_leaves_add_up_to_what_genai_prices_extracts(name: str) -> None:
    record = recorded()[name]
    usage, extracted = usage_of(record), theirs(record)
    assert extracted
    differing = {unit for unit, count in extracted.items() if ours(usage, unit) != count}
    assert differing == ON_PURPOSE.get(name, (set(), ""))[0]


@pytest.mark.parametrize("name", sorted(THEY_RAISE))
def test_ours_has_an_answer_where_genai_prices_raises(name: str) -> None:
    with pytest.raises(ValueError, match=r"usage|billed_units|Usage"):
        theirs(recorded()[name])
    assert usage_of(recorded()[name]).shape == recorded()[name]["shape"]


def test_most_records_agree_and_every_exception_is_a_record() -> None:
    assert len(WHOLE) - len(ON_PURPOSE) - len(THEY_RAISE) >= 40
    assert set(ON_PURPOSE) | set(THEY_RAISE) <= set(WHOLE)
    assert {record["shape"] for record in recorded().values()} == set(THEIRS) | WITHOUT_THEIRS
