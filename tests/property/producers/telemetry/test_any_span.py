"""Whatever a span holds: a valid call, a refusal that names a field, or nothing; and no planted text leaves."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.telemetry.semantics import READ
from support.generated_logs import examples
from support.traces import PLANTED, START_NS, Told, as_protobuf, export, span

VALUES = st.one_of(
    st.sampled_from(["chat", "LLM", "openai", "gpt-4o", "timeout", "\ud800", "x" * 2000]),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 1000),
    st.booleans(),
    st.floats(allow_nan=True),
    st.lists(st.sampled_from(["stop", ""]), max_size=2),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(sorted(READ)), VALUES, max_size=6)
TIMES = st.tuples(st.integers(0, START_NS + 10**18), st.integers(0, START_NS + 10**18))


def exported(said: list[tuple[dict[str, Any], tuple[int, int] | None]]) -> dict[str, Any]:
    spans = []
    for number, (attributes, times) in enumerate(said, 1):
        when = {} if times is None else {"startTimeUnixNano": str(times[0]), "endTimeUnixNano": str(times[1])}
        spans.append(span(number, {**attributes, "planted": PLANTED[0]}, **when))
    return export(*spans)


@given(st.lists(st.tuples(ATTRIBUTES, st.none() | TIMES), max_size=4))
@examples(100)
def test_every_span_is_a_valid_call_a_named_refusal_or_nothing(
    said: list[tuple[dict[str, Any], tuple[int, int] | None]],
) -> None:
    values = exported(said)
    found, again = Told(values), Told(json.loads(json.dumps(values)))
    assert len(found.calls) + len(found.refused) + found.ignored == len(said)
    assert found.calls == again.calls
    assert not any(text in str(found.left_out + found.refused) for text in PLANTED)
    if "\\ud800" not in json.dumps(values):  # protobuf knows no half characters
        packed = Told(as_protobuf(values))
        assert packed.calls == found.calls and len(packed.refused) == len(found.refused)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["key", "value", "a"]), inner),
    max_leaves=6,
)


@given(st.sampled_from(["traceId", "spanId", "kind", "attributes", "status", "startTimeUnixNano"]), JUNK)
@examples(100)
def test_junk_in_one_span_costs_that_span_alone(name: str, junk: Any) -> None:
    found = Told(export(span(1), {**span(2), name: junk}, span(3)))
    assert {event.trace_id for event in found.calls} >= {f"{1:032x}", f"{3:032x}"}
    assert len(found.calls) + len(found.refused) + found.ignored == 3
