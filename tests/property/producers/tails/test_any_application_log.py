"""Whatever a line holds: a valid call, a refusal that names a field, or nothing; and again the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.events import Event
from gatemeter.producers.tails.jsonl import JsonLog
from gatemeter.producers.tails.jsonl.fields import DEFAULTS
from gatemeter.producers.tails.running import BadLine
from gatemeter.producers.validation import spool_form
from support.generated_logs import examples

PLANTED = "sk-planted-secret"
PATHS = sorted({path for paths in DEFAULTS.values() for path in paths if "." not in path})
VALUES = st.recursive(
    st.sampled_from(["gpt-4o", "openai", "error", "2026-11-27T12:00:00Z", "\ud800", "x" * 3000, "200"])
    | st.none()
    | st.booleans()
    | st.integers(-5, 10**19)
    | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "prompt_tokens"]), inner),
    max_leaves=4,
)


def read(line: bytes) -> list[Event] | str:
    try:
        return JsonLog("app-logs").events(line)
    except BadLine as error:
        return str(error)


@given(st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=8), st.booleans())
@examples(200)
def test_every_line_is_a_valid_call_a_named_refusal_or_nothing(values: dict[str, Any], is_call: bool) -> None:
    base = {"model": "m", "prompt_tokens": 1, "timestamp": "2026-11-27T12:00:00Z"} if is_call else {}
    line = json.dumps({**base, **values, "prompt": PLANTED}).encode()
    said = read(line)
    assert said == read(line)
    assert PLANTED not in repr(said)
    for event in said if isinstance(said, list) else []:
        spool_form(event)


@given(st.binary(max_size=60))
@examples(100)
def test_bytes_that_are_no_object_are_refused(line: bytes) -> None:
    said = read(line)
    assert said == [] or isinstance(said, str)
