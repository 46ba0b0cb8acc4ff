"""Wherever a provider says one thing twice, the two are compared: what disagrees is marked, and no token is moved."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.producers.usage import UsageStream, normalise

CHAT = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
IMAGES = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}


@pytest.mark.parametrize(
    ("shape", "answer", "told"),
    [
        (
            "deepseek_chat",
            {"usage": {**CHAT, "prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 5}},
            "usage.prompt_tokens: must be 11, the sum of its leaves, got 10",
        ),
        (
            "openai_images",
            {"usage": {**IMAGES, "input_tokens_details": {"text_tokens": 5, "image_tokens": 3}}},
            "usage.input_tokens: must be 8, the sum of its leaves, got 10",
        ),
        (
            "openai_images",
            {"usage": {**IMAGES, "output_tokens_details": {"text_tokens": 3, "image_tokens": 3}}},
            "usage.output_tokens: must be 6, the sum of its leaves, got 4",
        ),
        (
            "openai_transcription",
            {"usage": {**IMAGES, "input_token_details": {"text_tokens": 5, "audio_tokens": 6}}},
            "usage.input_tokens: must be 11, the sum of its leaves, got 10",
        ),
        (
            "bedrock_converse",
            {
                "usage": {
                    "inputTokens": 1,
                    "outputTokens": 1,
                    "totalTokens": 7,
                    "cacheWriteInputTokens": 6,
                    "cacheDetails": [{"ttl": "5m", "inputTokens": 5}],
                }
            },
            "usage.cacheWriteInputTokens: must be 5, the sum of its leaves, got 6",
        ),
        (
            "llamacpp",
            {"tokens_evaluated": 10, "tokens_predicted": 3, "timings": {"cache_n": 4, "prompt_n": 5}},
            "tokens_evaluated: must be 9, the sum of its leaves, got 10",
        ),
        (
            "llamacpp",
            {"tokens_evaluated": 9, "tokens_predicted": 3, "timings": {"predicted_n": 4}},
            "tokens_predicted: must be 4, the sum of its leaves, got 3",
        ),
        (
            "llamacpp",
            {"usage": CHAT, "timings": {"cache_n": 4, "prompt_n": 5, "predicted_n": 4}},
            "usage.prompt_tokens: must be 9, the sum of its leaves, got 10",
        ),
        (
            "anthropic_messages",
            {
                "usage": {
                    "input_tokens": 10,
                    "output_tokens": 9,
                    "iterations": [{"type": "message", "input_tokens": 10, "output_tokens": 4}],
                }
            },
            "usage.output_tokens: must be 4, the sum of its leaves, got 9",
        ),
        (
            "xai_chat",
            {"usage": {**CHAT, "completion_tokens_details": {"reasoning_tokens": 3}}},
            "usage.total_tokens: must be 17, the sum of its leaves, got 14",
        ),
    ],
)
def test_two_statements_that_disagree_are_told(shape: str, answer: dict[str, Any], told: str) -> None:
    usage = normalise(shape, answer)
    assert told in usage.mismatches
    assert usage.consistency == "mismatch"
    assert usage.is_known and usage.usage_source == "reported"


def test_a_refused_entry_marks_the_answer_even_where_the_rest_adds_up() -> None:
    details = [{"modality": "SMELL", "tokenCount": 5}, {"modality": "TEXT", "tokenCount": 10}]
    usage = normalise("gemini", {"usageMetadata": {"promptTokenCount": 10, "promptTokensDetails": details}})
    assert (usage.input_text_uncached, usage.mismatches, usage.consistency) == (10, (), "mismatch")


def test_usage_too_long_to_keep_does_not_leave_the_older_text_in_its_place() -> None:
    stream = UsageStream("openai_chat")
    stream.feed({"choices": [{"index": 0, "delta": {}}], "usage": CHAT})
    stream.feed({"choices": [], "usage": {**CHAT, "completion_tokens": 5, "total_tokens": 15, "note": "n" * 70_000}})
    usage = stream.usage()
    assert (usage.output_text_visible, usage.usage_raw) == (5, None)


def test_a_stream_keeps_no_more_than_a_score_of_complaints() -> None:
    stream = UsageStream("openai_chat")
    for number in range(100):
        stream.feed(f"broken {'x' * number}{{{number}")
        stream.feed(str(number))
    assert len(stream.usage().complaints) <= 20


def test_a_leaf_that_is_stated_stays_as_stated() -> None:
    details = {"text_tokens": 5, "image_tokens": 3}
    usage = normalise("openai_images", {"usage": {**IMAGES, "input_tokens_details": details}})
    assert (usage.input_text_uncached, usage.input_image_uncached, usage.consistency) == (5, 3, "mismatch")


def test_cached_tokens_of_a_modality_that_the_prompt_lacks_are_told() -> None:
    said = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 5,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
    }
    usage = normalise("gemini", {"usageMetadata": said})
    assert usage.mismatches == ("usageMetadata.promptTokensDetails: must be at least 5, the sum of its parts, got 0",)
    assert (usage.input_audio_cache_read, usage.input_audio_uncached, usage.input_text_uncached) == (5, None, 100)
