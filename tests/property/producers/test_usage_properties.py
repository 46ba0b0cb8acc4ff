"""For all usages of every shape: the leaves come back and add up, streams agree with whole answers, nothing raises."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.producers import ResponseEvent
from gatemeter.producers.usage import SHAPES, Usage, UsageStream, normalise, usage_of_raw
from gatemeter.producers.validation import spool_form
from gatemeter.schemas import limits
from gatemeter.schemas.tables import BUCKETS, METERS
from support.payloads import bodies, recorded
from support.usages import CHUNKS, FORMULAS, Formula

TOKENS = st.one_of(st.integers(0, 10), st.integers(0, 3_000_000))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["TEXT", "5m", "batch", "message", "stop", "duration"]),
)
KEYS = sorted(
    {key for record in recorded().values() for body in bodies(record) for key in body}
    | {"usage", "input_tokens", "prompt_tokens", "iterations", "cache_creation", "timings", "output", "action"}
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def known(usage: Usage) -> dict[str, int]:
    return {name: quantity for name, quantity in usage.quantities.items() if quantity is not None}


@st.composite
def told(draw: st.DrawFn, shapes: list[str]) -> tuple[str, Formula, dict[str, int]]:
    shape = draw(st.sampled_from(shapes))
    return shape, FORMULAS[shape], {name: draw(TOKENS) for name in FORMULAS[shape].leaves}


def test_every_shape_has_a_formula() -> None:
    assert set(FORMULAS) == set(SHAPES)


@given(told(sorted(FORMULAS)))
@settings(max_examples=300)
def test_leaves_come_back_and_add_up_to_the_providers_total(case: tuple[str, Formula, dict[str, int]]) -> None:
    shape, formula, leaves = case
    usage = normalise(shape, formula.answer(leaves))
    assert known(usage) == leaves
    assert usage.consistency != "mismatch"
    assert (usage.complaints, usage.mismatches, usage.usage_source) == ((), (), "reported")
    if formula.total:
        assert usage.consistency == "consistent"
    assert usage.usage_raw is not None
    assert known(usage_of_raw(shape, usage.usage_raw)) == leaves


@given(told([shape for shape, formula in FORMULAS.items() if formula.total]), st.integers(1, 1_000))
@settings(max_examples=150)
def test_a_total_that_does_not_add_up_is_marked_and_moves_no_token(
    case: tuple[str, Formula, dict[str, int]], off: int
) -> None:
    shape, formula, leaves = case
    answer = formula.answer(leaves)
    inner = answer
    for key in formula.root:
        inner = inner[key]
    inner[formula.total[-1]] += off
    usage = normalise(shape, answer)
    assert usage.consistency == "mismatch" and usage.mismatches
    if shape != "llamacpp":  # its predicted tokens are leaf and total in one
        assert known(usage) == leaves


@given(
    told(sorted(CHUNKS)), st.lists(st.text(max_size=5), max_size=6), st.integers(0, 3), st.integers(0, 3), st.booleans()
)
@settings(max_examples=300)
def test_neither_chunks_nor_repetition_change_a_streams_usage(
    case: tuple[str, Formula, dict[str, int]], texts: list[str], repeated: int, twice: int, as_bytes: bool
) -> None:
    shape, formula, leaves = case
    chunks = CHUNKS[shape](texts, formula.usage(leaves), repeated)
    stream = UsageStream(shape)
    for number, chunk in enumerate(chunks):
        for _ in range(2 if number == twice else 1):
            stream.feed(json.dumps(chunk).encode() if as_bytes else chunk)
    usage = stream.usage()
    assert known(usage) == leaves
    assert usage.final and usage.consistency != "mismatch"
    again = usage_of_raw(shape, usage.usage_raw or "")
    assert known(again) == leaves


@given(told(sorted(CHUNKS)), st.lists(st.text(max_size=5), max_size=4), st.integers(0, 20))
@settings(max_examples=150)
def test_a_cut_stream_never_says_more_than_the_whole_and_never_calls_itself_final(
    case: tuple[str, Formula, dict[str, int]], texts: list[str], cut: int
) -> None:
    shape, formula, leaves = case
    chunks = CHUNKS[shape](texts, formula.usage(leaves), 0)
    stream = UsageStream(shape)
    for chunk in chunks[:cut]:
        stream.feed(chunk)
    usage = stream.usage()
    assert usage.final == (known(usage) == leaves and cut >= len(chunks) - (shape == "anthropic_messages"))
    assert usage.usage_source == ("reported" if usage.final else "missing")


@given(st.sampled_from(sorted(SHAPES)), JSON)
@settings(max_examples=400)
def test_no_json_raises_or_makes_an_event_that_is_refused(shape: str, answer: Any) -> None:
    usages = [normalise(shape, answer), usage_of_raw(shape, answer)]
    if SHAPES[shape].follow is not None:
        stream = UsageStream(shape)
        stream.feed(answer)
        stream.feed(answer)
        usages.append(stream.usage())
    for usage in usages:
        accepted(usage)


@given(st.sampled_from(sorted(recorded())), st.data())
@settings(max_examples=400)
def test_a_recorded_payload_with_one_part_spoiled_never_raises(name: str, data: st.DataObject) -> None:
    record = recorded()[name]
    spoiled = copy.deepcopy(bodies(record))
    paths = [path for path in _paths(spoiled) if path]
    *way, last = data.draw(st.sampled_from(paths))
    inner: Any = spoiled
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(JSON)
    if "payload" in record:
        accepted(normalise(record["shape"], spoiled[0]))
    else:
        stream = UsageStream(record["shape"])
        for chunk in spoiled:
            stream.feed(chunk)
        accepted(stream.usage())


@given(st.sampled_from(sorted(SHAPES)), st.one_of(st.binary(max_size=60), st.text(max_size=60)))
@settings(max_examples=150)
def test_no_bytes_and_no_text_raise(shape: str, answer: bytes | str) -> None:
    accepted(normalise(shape, answer))
    accepted(usage_of_raw(shape, answer))


def accepted(usage: Usage) -> None:
    """What came of an answer is in range, and the emitter takes it."""
    for name, quantity in known(usage).items():
        most = limits.MAX_METER[name] if name in METERS else limits.MAX_TOKENS_PER_EVENT
        assert type(quantity) is int and 0 <= quantity <= most
    assert set(usage.quantities) == {*BUCKETS, *METERS}
    spool_form(ResponseEvent(request_id="r", request_started_at=0, occurred_at=0, status="ok", **usage.event_fields()))
    for other in usage.other_models:
        accepted(other)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, entry in inner for deeper in _paths(entry, (*path, key)))]


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - set(CHUNKS)))
def test_shapes_without_chunks_here_are_whole_answers_or_have_records(shape: str) -> None:
    streamed = {record["shape"] for record in recorded().values() if "chunks" in record}
    assert SHAPES[shape].follow is None or shape in streamed
