"""Streams: the last word counts, a cut one says that it was cut, and nothing but the newest usage is remembered."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from gatemeter.producers.usage import UsageStream
from support.payloads import recorded

STREAMED = sorted(name for name, record in recorded().items() if "chunks" in record)
COMPLETE = sorted(name for name in STREAMED if recorded()[name]["expected"]["final"])


def fed(name: str, chunks: list[Any]) -> UsageStream:
    stream = UsageStream(recorded()[name]["shape"])
    for chunk in chunks:
        stream.feed(chunk)
    return stream


@pytest.mark.parametrize("name", COMPLETE)
def test_a_stream_is_final_only_once_the_last_usage_has_come(name: str) -> None:
    chunks = recorded()[name]["chunks"]
    finals = [fed(name, chunks[:length]).usage().final for length in range(len(chunks) + 1)]
    assert finals[0] is False and finals[-1] is True
    whole = fed(name, chunks).usage().quantities
    for length, final in enumerate(finals):
        if final:
            assert fed(name, chunks[:length]).usage().quantities == whole


@pytest.mark.parametrize("name", STREAMED)
def test_asking_in_between_changes_nothing(name: str) -> None:
    stream = UsageStream(recorded()[name]["shape"])
    for chunk in recorded()[name]["chunks"]:
        stream.feed(chunk)
        stream.usage()
    assert stream.usage() == fed(name, recorded()[name]["chunks"]).usage()


@pytest.mark.parametrize("name", STREAMED)
def test_end_marks_and_empty_lines_are_passed_over(name: str) -> None:
    chunks = recorded()[name]["chunks"]
    assert fed(name, ["", *chunks, b"[DONE]", "[DONE]\n"]).usage() == fed(name, chunks).usage()


def test_usage_of_a_stream_is_kept_to_the_letter() -> None:
    stream = UsageStream("openai_chat")
    stream.feed(b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":null}')
    stream.feed(b'{"choices":[],"usage":{"prompt_tokens": 1.0,"completion_tokens":2,"total_tokens":3, "cost":0.10}}')
    usage = stream.usage()
    assert usage.usage_raw == '{"prompt_tokens": 1.0,"completion_tokens":2,"total_tokens":3, "cost":0.10}'
    assert (usage.input_text_uncached, usage.output_text_visible, usage.final) == (1, 2, True)


def test_both_halves_of_a_streamed_message_are_kept_to_the_letter() -> None:
    stream = UsageStream("anthropic_messages")
    stream.feed('{"type":"message_start","message":{"id":"m","usage":{"input_tokens": 25, "output_tokens": 1}}}')
    stream.feed('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens": 15}}')
    raw = stream.usage().usage_raw
    assert raw == '{"message_start":{"input_tokens": 25, "output_tokens": 1},"message_delta":{"output_tokens": 15}}'


def test_a_null_in_a_later_delta_takes_nothing_back() -> None:
    stream = UsageStream("anthropic_messages")
    stream.feed({"type": "message_start", "message": {"usage": {"input_tokens": 25, "cache_read_input_tokens": 7}}})
    delta = {"output_tokens": 15, "input_tokens": None, "cache_read_input_tokens": None}
    stream.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": delta})
    usage = stream.usage()
    assert (usage.input_text_uncached, usage.input_text_cache_read, usage.output_text_visible) == (25, 7, 15)


def test_of_several_choices_all_must_end_before_repeated_usage_is_final() -> None:
    def chunk(index: int, reason: str | None, completion: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 5, "completion_tokens": completion, "total_tokens": 5 + completion}
        return {"choices": [{"index": index, "delta": {}, "finish_reason": reason}], "usage": usage}

    stream = UsageStream("openai_compatible")
    finals = []
    for index, reason, completion in ((0, None, 1), (1, None, 2), (0, "stop", 3), (1, "length", 4)):
        stream.feed(chunk(index, reason, completion))
        finals.append(stream.usage().final)
    assert finals == [False, False, False, True]
    assert stream.usage().output_text_visible == 4


def test_memory_does_not_grow_with_the_length_of_the_answer() -> None:
    def held(chunks: int) -> int:
        stream = UsageStream("openai_compatible")
        for count in range(chunks):
            usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
            text = {"content": "x" * 1_000}
            stream.feed({"id": "c", "choices": [{"index": 0, "delta": text, "finish_reason": None}], "usage": usage})
            stream.feed("broken {")
        return _size(stream.__dict__)

    assert held(2_000) <= held(20) + 200
    assert held(20) < 20_000


def _size(value: Any) -> int:
    """Bytes of everything reachable through containers."""
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set)):
        inner = list(value)
    return sys.getsizeof(value) + sum(_size(entry) for entry in inner)


def test_a_chunk_that_is_no_json_object_is_told_and_the_rest_still_counts() -> None:
    stream = UsageStream("mistral_chat")
    for chunk in (b"\xff{", "[1, 2]", "event: message", json.dumps({"usage": {"prompt_tokens": 3}, "choices": []})):
        stream.feed(chunk)
    usage = stream.usage()
    assert usage.input_text_uncached == 3
    assert len(usage.complaints) == 3
    assert all(complaint.startswith("answer: must be a JSON object, got ") for complaint in usage.complaints)
