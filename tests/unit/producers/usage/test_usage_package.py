"""What a hook gets: the names and shapes that the page shows, fields that are the event's, the base install only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gatemeter.producers.usage
from gatemeter.producers import ResponseEvent
from gatemeter.producers.usage import SHAPES, Usage, normalise
from gatemeter.schemas.tables import BUCKETS, METERS

PAGE = (Path(__file__).parents[4] / "docs" / "usage.md").read_text("utf-8")


def test_the_page_shows_every_public_name_and_every_shape() -> None:
    listed = re.search(r"Public names of `gatemeter.producers.usage`: ([^.]*)\.", PAGE)
    assert listed is not None
    assert sorted(re.findall(r"`(\w+)`", listed.group(1))) == sorted(gatemeter.producers.usage.__all__)
    assert [shape for shape in SHAPES if f"`{shape}`" not in PAGE] == []


def test_a_usage_has_every_bucket_and_meter_and_cannot_be_changed() -> None:
    usage = normalise("openai_chat", {})
    assert tuple(usage.quantities) == (*BUCKETS, *METERS)
    assert {*BUCKETS, *METERS} <= set(Usage.__struct_fields__)
    with pytest.raises(AttributeError, match="immutable"):
        usage.input_text_uncached = 5  # type: ignore[misc]


def test_unknown_fields_are_left_out_of_the_event_and_zeros_are_not() -> None:
    usage = normalise("openai_chat", {"usage": {"prompt_tokens": 0, "completion_tokens": None}})
    assert usage.event_fields() == {
        "usage_source": "reported",
        "input_text_uncached": 0,
        "usage_raw": '{"prompt_tokens":0,"completion_tokens":null}',
        "usage_consistency": "unverified",
    }
    assert normalise("openai_chat", {}).event_fields() == {"usage_source": "missing"}
    assert set(usage.event_fields()) <= set(ResponseEvent.__struct_fields__)


def test_what_does_not_add_up_travels_in_the_event_with_the_totals_that_disagree() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 15}
    fields = normalise("openai_chat", {"usage": counts}).event_fields()
    assert (fields["usage_consistency"], fields["usage_source"]) == ("mismatch", "reported")
    assert fields["usage_mismatches"] == "usage.total_tokens: must be 14, the sum of its leaves, got 15"
    assert (fields["input_text_uncached"], fields["output_text_visible"]) == (10, 4)
    agreed = normalise("openai_chat", {"usage": counts | {"total_tokens": 14}}).event_fields()
    assert (agreed["usage_consistency"], "usage_mismatches" in agreed) == ("consistent", False)


def test_a_count_that_was_refused_is_told_without_what_it_held() -> None:
    usage = normalise("openai_responses", {"usage": {"input_tokens": "many"}, "output": ["some text"], "id": 5})
    assert usage.event_fields()["usage_mismatches"].splitlines() == [
        "usage.input_tokens: must be an integer of 0 to 50000000",
        "output[0]: must be an object",
    ]


def test_as_many_whole_lines_travel_as_fit() -> None:
    line = "a.b: must be 1, the sum of its leaves, got 2"
    usage = Usage(shape="gemini", final=True, consistency="mismatch", mismatches=(line,) * 200)
    lines = usage.event_fields()["usage_mismatches"].splitlines()
    assert lines == [line] * (4097 // (len(line) + 1))


def test_importing_it_needs_the_base_install_only() -> None:
    heavy = ("genai_prices", "polars", "pyarrow", "faust", "yaml", "pydantic", "gatemeter.processors")
    code = f"import sys, gatemeter.producers.usage; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
