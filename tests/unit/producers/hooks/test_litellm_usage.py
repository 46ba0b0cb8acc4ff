"""Whose word usage is, of what LiteLLM hands over: only the provider's own is `reported`."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.hooks import litellm_usage as usages
from support.hooks import CHAT
from support.stub_provider import MESSAGE_STREAM

TOKENS = st.integers(0, 1_000_000)


def test_the_providers_own_answer_is_reported() -> None:
    usage = usages.usage_of_raw_answer("openai_chat", json.dumps(CHAT))
    assert usage is not None
    assert (usage.usage_source, usage.input_text_uncached, usage.output_text_visible) == ("reported", 12, 3)


def test_an_answer_without_usage_is_missing_whatever_litellm_fills_in() -> None:
    usage = usages.usage_of_raw_answer("openai_chat", json.dumps({**CHAT, "usage": None}))
    assert usage is not None and usage.usage_source == "missing"
    assert usages.usage_of_litellm(None, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) is None
    assert usages.estimated(None) == {"usage_source": "missing"}


@pytest.mark.parametrize("raw", [None, "{'a': 1}", "[1]", "not JSON", object(), 7, b"\xff"])
def test_what_is_no_answer_is_not_read(raw: object) -> None:
    assert usages.usage_of_raw_answer("openai_chat", raw) is None
    assert usages.usage_of_raw_answer(None, json.dumps(CHAT)) is None


def test_litellms_own_figures_are_estimates_without_a_verdict() -> None:
    said = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    fields = usages.estimated(usages.usage_of_litellm(None, said))
    assert fields["usage_source"] == "estimated"
    assert (fields["input_text_uncached"], fields["output_text_visible"]) == (10, 3)
    assert not {"usage_raw", "usage_consistency"} & set(fields)


@given(uncached=TOKENS, read=TOKENS, short=TOKENS, long=TOKENS, visible=TOKENS, reasoning=TOKENS)
def test_anthropics_cache_is_inside_litellms_prompt_and_comes_apart_again(
    uncached: int, read: int, short: int, long: int, visible: int, reasoning: int
) -> None:
    prompt, output = uncached + read + short + long, visible + reasoning
    said: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_creation_tokens": short + long,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        },
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    usage = usages.usage_of_litellm(None, said)
    if prompt + output == 0:
        assert usage is None
        return
    assert usage is not None
    assert usage.input_text_uncached == uncached
    assert (usage.input_text_cache_read or 0) == read
    assert ((usage.input_text_cache_write_5m or 0), (usage.input_text_cache_write_1h or 0)) == (short, long)
    assert ((usage.output_text_visible or 0), (usage.output_text_reasoning or 0)) == (visible, reasoning)
    assert usage.consistency == "consistent"


def test_a_stream_of_messages_is_read_from_its_bytes_cut_anywhere() -> None:
    whole = b"".join(MESSAGE_STREAM)
    for at in range(len(whole)):
        watch = usages.StreamWatch(SimpleNamespace(), "anthropic_messages")
        watch.sees(whole[:at])
        watch.sees(whole[at:])
        usage = watch.usage()
        assert usage is not None
        assert (usage.input_text_uncached, usage.output_text_visible) == (9, 4)


def test_a_stream_that_stops_early_has_no_last_word() -> None:
    watch = usages.StreamWatch(SimpleNamespace(), "anthropic_messages")
    watch.sees(MESSAGE_STREAM[0])
    assert watch.usage() is None


def test_of_a_list_of_chunks_the_newest_usage_counts_and_none_is_none() -> None:
    chunks: list[Any] = [SimpleNamespace(usage=None), SimpleNamespace()]
    watch = usages.StreamWatch(SimpleNamespace(chunks=chunks), "openai_chat")
    assert watch.chunk_usage() is None
    chunks.append(SimpleNamespace(usage={"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}))
    said = watch.chunk_usage()
    assert said is not None
    usage = usages.usage_of_chunks(None, said, None, "openai_chat")
    assert usage is not None
    assert (usage.usage_source, usage.input_text_uncached, usage.output_text_visible) == ("reported", 12, 0)
