"""An outline saves work and changes nothing: whatever an answer holds, the usage is that of reading all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.producers.usage import SHAPES, normalise
from gatemeter.producers.usage.outlines import OUTLINES
from support.payloads import recorded
from support.usages import FORMULAS

OUTLINED = sorted(name for name, shape in SHAPES.items() if shape.read in OUTLINES)
RECORDED = [record for record in recorded().values() if "payload" in record and record["shape"] in OUTLINED]
WORDS = st.text(max_size=4) | st.sampled_from(
    ["usage", "stop", "batch", "flex", "completed", "é", "\ud800", "x" * 2000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
ITEMS = [
    *({"type": "web_search_call", "status": status} for status in ("completed", "failed", None)),
    {"type": "web_search_call", "action": {"type": "open_page"}},
    *({"type": "file_search_call", "action": action} for action in ({}, None, {"type": None}, "x", {"queries": ["q"]})),
    {"type": "message", "content": [{"type": "output_text", "text": "planted answer"}]},
]
NEWS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("id", "model", "service_tier", "stop_reason", "status", "usage", "usageMetadata"), VALUES),
    **dict.fromkeys(("responseId", "modelVersion", "promptFeedback", "incomplete_details", "unheard_of"), VALUES),
    "output": st.lists(st.sampled_from(ITEMS), max_size=4) | VALUES,
    "choices": st.lists(st.fixed_dictionaries({}, optional={"finish_reason": VALUES}) | VALUES, max_size=2) | VALUES,
    "candidates": st.lists(st.fixed_dictionaries({}, optional={"finishReason": VALUES}) | VALUES, max_size=2) | VALUES,
}


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Recorded and made answers, of their own shape or read as another, with fields that are anything."""
    if draw(st.booleans()):
        record = draw(st.sampled_from(RECORDED))
        shape, answer = record["shape"], dict(record["payload"])
    else:
        shape = draw(st.sampled_from(OUTLINED))
        answer = FORMULAS[shape].answer({name: draw(st.integers(0, 99)) for name in FORMULAS[shape].leaves})
    if draw(st.integers(0, 9)) == 0:
        shape = draw(st.sampled_from(OUTLINED))
    for name in draw(st.lists(st.sampled_from(sorted(NEWS)), max_size=2)):
        answer[name] = draw(NEWS[name])
    return shape, answer


@given(answers(), st.booleans())
@settings(max_examples=300)
def test_an_outline_of_an_answer_gives_the_usage_of_reading_it(case: tuple[str, dict[str, Any]], escaped: bool) -> None:
    shape, answer = case
    body = json.dumps(answer, ensure_ascii=escaped)
    if escaped:
        assert normalise(shape, body.encode()) == normalise(shape, body)
    else:
        given = body.encode(errors="surrogatepass")
        assert normalise(shape, given) == normalise(shape, bytearray(given))  # type: ignore[arg-type]  # is read whole


@given(st.sampled_from(OUTLINED), st.binary(max_size=20) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_answer_reads_alike_too(shape: str, body: bytes) -> None:
    assert normalise(shape, body) == normalise(shape, bytearray(body))  # type: ignore[arg-type]  # is read whole


@pytest.mark.parametrize("shape", OUTLINED)
def test_the_last_of_two_usage_objects_counts_in_both(shape: str) -> None:
    leaves = dict.fromkeys(FORMULAS[shape].leaves, 3)
    first = json.dumps(FORMULAS[shape].answer(dict.fromkeys(FORMULAS[shape].leaves, 5)))
    body = first[:-1] + "," + json.dumps(FORMULAS[shape].answer(leaves))[1:]
    usage = normalise(shape, body.encode())
    assert usage == normalise(shape, body)
    assert {name: usage.quantities[name] for name in leaves} == leaves
