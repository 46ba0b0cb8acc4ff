"""A glance saves work and changes nothing: whatever a stream says, and wherever it is cut, the usage is that of reading
every chunk whole."""

from __future__ import annotations

import json
from collections import ChainMap
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.producers.usage import SHAPES, UsageStream
from gatemeter.producers.usage.glancing import GLANCES, READ
from support.payloads import bodies, recorded
from support.usages import CHUNKS, FORMULAS

SHAPES_OF_STREAMS = sorted(name for name, shape in SHAPES.items() if shape.follow is not None)
RECORDED = [record for record in recorded().values() if "chunks" in record]
WORDS = st.text(max_size=4) | st.sampled_from(["usage", "message_delta", "stop", "response.completed", "é", "\u2028"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**65) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
KEYS = sorted({key for record in RECORDED for chunk in bodies(record) for key in chunk} | {"done", "stop", "choices"})


USED = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
CHAT = {"id": "a", "model": "m", "service_tier": None, "choices": [{"index": 0, "finish_reason": None}], "usage": None}
CHAT_NEWS: list[dict[str, Any]] = [
    *({"choices": choices} for choices in ([], [{"index": 1}], [{"index": 0}, {"index": 1}], [{}])),
    *({"choices": [{"index": index, "finish_reason": "stop"}]} for index in (0, 1)),
    *({"id": "b"}, {"model": "n"}, {"service_tier": "flex"}, {"service_tier": "priority"}, {"error": "x"}),
    *({"usage": USED}, {"usage": {**USED, "total_tokens": 13}}, {"x_groq": {"usage": USED}}, {"x_groq": {}}),
    {"choices": [{"index": 0, "finish_reason": "stop"}], "usage": USED},
    *({"timings": {"prompt_n": 3, "predicted_n": 2}}, {"id": None}, {"model": None}),
]
GEMINI = {"responseId": "a", "modelVersion": "m", "candidates": [{"content": {"parts": [{"text": "x"}]}}]}
GEMINI_NEWS: list[dict[str, Any]] = [
    *({"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": count}} for count in (4, 5, 6)),
    *({"candidates": candidates} for candidates in ([], [{"finishReason": "STOP"}], [{"finishReason": "OTHER"}])),
    *({"responseId": "b"}, {"modelVersion": "n"}, {"promptFeedback": {"blockReason": "SAFETY"}}),
    *({"usageMetadata": None}, {"promptFeedback": {}}),
]


def told(usual: dict[str, Any], news: list[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some chunks, each the usual one with at most two news."""
    chunk = st.lists(st.sampled_from(news), max_size=2).map(lambda said: dict(ChainMap(*said, usual)))
    return st.lists(chunk, min_size=2, max_size=5)


def read(shape: str, chunks: list[bytes], *, glancing: bool) -> Any:
    stream = UsageStream(shape)
    if not glancing:
        stream._glance = lambda known, chunk: READ
    for chunk in chunks:
        stream.feed(chunk)
    return stream.usage()


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """Recorded and made streams, of their own shape or read as another, with chunks doubled, left out and moved."""
    if draw(st.booleans()):
        record = draw(st.sampled_from(RECORDED))
        shape, chunks = record["shape"], bodies(record)
    else:
        shape = draw(st.sampled_from(sorted(CHUNKS)))
        leaves = {name: draw(st.integers(0, 99)) for name in FORMULAS[shape].leaves}
        chunks = CHUNKS[shape](
            draw(st.lists(WORDS, max_size=5)), FORMULAS[shape].usage(leaves), draw(st.integers(0, 2))
        )
    if draw(st.integers(0, 9)) == 0:
        shape = draw(st.sampled_from(SHAPES_OF_STREAMS))
    if draw(st.booleans()):
        chunks = draw(st.lists(st.sampled_from(chunks), max_size=12))
    return shape, chunks


@given(streams(), st.data())
@settings(max_examples=300)
def test_glancing_at_a_stream_gives_the_usage_of_reading_it(
    stream: tuple[str, list[dict[str, Any]]], data: st.DataObject
) -> None:
    shape, chunks = stream
    said = []
    for chunk in chunks:
        spoilt = data.draw(st.integers(0, 7), "spoilt") == 0
        more = {data.draw(st.sampled_from(KEYS)): data.draw(VALUES)} if spoilt else {}
        said.append(json.dumps({**chunk, **more}, ensure_ascii=data.draw(st.booleans(), "escaped")).encode())
    assert read(shape, said, glancing=True) == read(shape, said, glancing=False)


@given(st.sampled_from(["openai_chat", "openai_compatible", "llamacpp"]), told(CHAT, CHAT_NEWS))
@settings(max_examples=600)
def test_no_usage_reason_or_name_of_chat_completions_is_passed_over(shape: str, chunks: list[dict[str, Any]]) -> None:
    said = [json.dumps(chunk).encode() for chunk in chunks]
    assert read(shape, said, glancing=True) == read(shape, said, glancing=False)


@given(told(GEMINI, GEMINI_NEWS))
@settings(max_examples=400)
def test_no_usage_reason_or_name_of_gemini_is_passed_over(chunks: list[dict[str, Any]]) -> None:
    said = [json.dumps(chunk).encode() for chunk in chunks]
    assert read("gemini", said, glancing=True) == read("gemini", said, glancing=False)


def test_every_follower_has_a_glance() -> None:
    assert {shape.follow for shape in SHAPES.values() if shape.follow is not None} == set(GLANCES)


def test_text_is_passed_over_in_every_shape_that_streams_text() -> None:
    for shape, chunks_of in CHUNKS.items():
        chunks = chunks_of(["a", "b", "c"], FORMULAS[shape].usage(dict.fromkeys(FORMULAS[shape].leaves, 1)), 0)
        stream = UsageStream(shape)
        glance, passed = stream._glance, []

        def counted(known: Any, chunk: bytes, glance: Any = glance, passed: Any = passed) -> Any:
            passed.append(verdict := glance(known, chunk))
            return verdict

        stream._glance = counted
        for chunk in chunks:
            stream.feed(json.dumps(chunk).encode())
        assert len(passed) - passed.count(READ) >= 2, shape


def test_a_choice_that_only_began_keeps_the_stream_open() -> None:
    ended = {**CHAT, "choices": [{"index": 0, "finish_reason": "stop"}], "usage": USED}
    said = [json.dumps(chunk).encode() for chunk in (CHAT, {**CHAT, "choices": [{"index": 1}]}, ended)]
    assert not read("openai_chat", said, glancing=True).final
    assert read("openai_chat", [said[0], said[2]], glancing=True).final
