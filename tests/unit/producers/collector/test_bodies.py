"""Bodies of requests: unpacked within bounds, read as objects, arrays or lines."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.collector.bodies import BadBody, BodyTooLarge, UnknownEncoding, items_of, unpacked


@given(st.binary(max_size=2000), st.integers(1, 3))
def test_gzip_is_unpacked_in_one_or_several_members(body: bytes, members: int) -> None:
    assert unpacked(gzip.compress(body) * members, "gzip", 100_000) == body * members


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(BodyTooLarge, match="at most 1000000 bytes when it is unpacked"):
        unpacked(bomb, "gzip", 1_000_000)
    with pytest.raises(BodyTooLarge):
        unpacked(gzip.compress(b"0" * 600) * 2, "gzip", 1000)


def test_what_is_not_gzip_or_ends_too_early_is_refused() -> None:
    for body in (b"plain", gzip.compress(b"0" * 10_000)[:-12]):
        with pytest.raises(BadBody, match="must be gzip"):
            unpacked(body, "gzip", 100_000)
    with pytest.raises(UnknownEncoding, match="must be one of identity, gzip"):
        unpacked(b"", "br", 1000)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers()), max_size=5))
def test_arrays_and_lines_hold_the_same_items(items: list[dict[str, int]]) -> None:
    lines = "".join(json.dumps(item) + "\n" for item in items).encode()
    assert items_of(json.dumps(items).encode(), "application/json", 10) == items
    assert items_of(lines, "application/x-ndjson", 10) == items
    assert items_of(json.dumps(items).encode(), "text/plain", 10) == items
    if len(items) > 1:
        assert items_of(lines, "application/json", 10) == items  # a product that calls its lines JSON


def test_a_line_that_is_no_json_keeps_its_number() -> None:
    assert items_of(b'{"a": 1}\n\nnonsense\n{"b": 2}\n', "application/x-ndjson", 10) == [{"a": 1}, "8 bytes", {"b": 2}]


def test_bounds_of_items_and_of_json() -> None:
    with pytest.raises(BodyTooLarge, match="at most 2 items, got 3"):
        items_of(b"[1, 2, 3]", "application/json", 2)
    with pytest.raises(BadBody, match="must be JSON, got 8 bytes"):
        items_of(b"nonsense", "application/json", 2)
    with pytest.raises(BadBody):
        items_of(b"[" * 100_000, "application/json", 2)
