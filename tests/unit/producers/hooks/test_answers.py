"""Answers read from their bytes: compressed, in lines, in arrays, too large, cut."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from gatemeter.producers.hooks.answers import AnswerReader
from support.hooks import CHAT, STREAM

BODY = json.dumps(CHAT).encode()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY)), ("identity", BODY), ("", BODY)],
)
@pytest.mark.parametrize("size", [1, 64, 10_000])
def test_compressed_answers_are_read(encoding: str, packed: bytes, size: int) -> None:
    reader = AnswerReader("openai_chat", "application/json", encoding)
    for at in range(0, len(packed), size):
        reader.feed(packed[at : at + size])
    usage = reader.usage(is_complete=True)
    assert usage is not None and usage.input_text_uncached == 12


def test_compressed_streams_are_read_as_they_pass() -> None:
    reader, packer = AnswerReader("openai_chat", "text/event-stream", "gzip"), zlib.compressobj(wbits=31)
    for part in STREAM:
        reader.feed(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH))
    usage = reader.usage(is_complete=False)
    assert usage is not None and usage.final and usage.output_text_visible == 3


def test_a_bomb_costs_no_more_than_the_bound() -> None:
    reader = AnswerReader("openai_chat", "application/json", "gzip", max_bytes=100_000)
    reader.feed(gzip.compress(bytes(50_000_000)))
    assert reader.usage(is_complete=True) is None
    assert reader.why_unread == "more than 100000 bytes"


def test_damaged_compression_is_no_usage() -> None:
    reader = AnswerReader("openai_chat", "application/json", "gzip")
    reader.feed(b"not gzip")
    assert reader.usage(is_complete=True) is None
    assert reader.why_unread is not None and reader.why_unread.startswith("content-encoding: ")


def test_a_whole_answer_that_was_cut_is_no_usage() -> None:
    reader = AnswerReader("openai_chat", "application/json", "")
    reader.feed(BODY)
    assert reader.usage(is_complete=False) is None


def test_lines_of_json_are_a_stream() -> None:
    reader = AnswerReader("ollama", "application/x-ndjson", "")
    reader.feed(b'{"model":"m","done":false}\n{"model":"m","done":true,"done_reason":"stop",')
    reader.feed(b'"prompt_eval_count":4,"eval_count":0}\n')
    usage = reader.usage(is_complete=True)
    assert usage is not None
    assert (usage.input_text_uncached, usage.output_text_visible, usage.usage_source) == (4, 0, "reported")
    assert not reader.is_cut(usage)


def test_an_array_of_chunks_is_a_stream() -> None:
    said = {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}
    chunks = [{"candidates": [{}]}, {"candidates": [{"finishReason": "STOP"}], "usageMetadata": said}]
    reader = AnswerReader("gemini", "application/json", "")
    reader.feed(json.dumps(chunks).encode())
    usage = reader.usage(is_complete=True)
    assert usage is not None and (usage.input_text_uncached, usage.output_text_visible) == (4, 2)


def test_an_event_over_the_bound_says_why_usage_is_missing() -> None:
    reader = AnswerReader("openai_responses", "text/event-stream", "", max_bytes=1024)
    reader.feed(b"data: " + json.dumps({"response": {"usage": {"input_tokens": 1}, "pad": "x" * 2000}}).encode())
    usage = reader.usage(is_complete=True)
    assert usage is not None and usage.usage_source == "missing"
    assert reader.why_unread == "an event of more than 1024 bytes"
    assert not reader.is_cut(usage), "its end was not seen, which is not to say that there was none"


@pytest.mark.parametrize(
    "payload",
    [b'{"type": "error", "error": {}}', b'{"error":{"message":"m"}}', b'{"type":"response.failed","response":{}}'],
)
def test_an_error_told_by_the_stream_is_seen(payload: bytes) -> None:
    reader = AnswerReader("openai_responses", "text/event-stream", "")
    reader.feed(b'data: {"content": "{\\"error\\": {}}"}\n\n')
    assert not reader.has_error
    reader.feed(b"data: " + payload + b"\n\n")
    assert reader.has_error
