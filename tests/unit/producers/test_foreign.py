"""Reading values that other products wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.foreign import BadItem, Item, at, iso_time_us, milliseconds_us, text, whole


def test_a_path_leads_through_objects_and_a_name_with_dots_goes_first() -> None:
    values = {"a": {"b": {"c": 1}}, "a.b.c": 2, "x": "-", "y": "", "z": 0}
    assert (at(values, "a.b.c"), at({"a": {"b": {"c": 1}}}, "a.b.c")) == (2, 1)
    assert [at(values, path) for path in ("x", "y", "z", "a.b.d", "a.b.c.d", "q")] == [None, None, 0, None, None, None]


@given(st.integers(0, 10**12))
def test_milliseconds_are_exact_microseconds_as_numbers_and_as_text(us: int) -> None:
    read = milliseconds_us(10**12)
    assert read(f"{us // 1000}.{us % 1000:03}") == us
    assert read(us // 1000) == us // 1000 * 1000


@pytest.mark.parametrize("value", [-1, "soon", True, None, float("nan"), float("inf"), 10**10, "1e400", "9" * 50, [1]])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be milliseconds of 0 to 1000000, got "):
        milliseconds_us(10**9)(value)


def test_numbers_come_in_the_forms_of_json_writers_and_no_others() -> None:
    read = whole(0, 100)
    assert [read(value) for value in (7, 7.0, "7", "007")] == [7, 7, 7, 7]
    for value in (7.5, True, -1, 101, "7.0", "seven", None, float("inf")):
        with pytest.raises(ValueError, match=r"^must be an integer of 0 to 100, got "):
            read(value)


def test_times_without_a_zone_are_utc() -> None:
    assert iso_time_us("1970-01-01T00:00:01") == iso_time_us("1970-01-01T01:00:01+01:00") == 1_000_000
    for value in ("yesterday", None, 5, "1969-12-31T23:59:59Z"):
        with pytest.raises(ValueError, match=r"^must be a time in ISO 8601, got "):
            iso_time_us(value)


def test_an_item_names_fields_whole_and_never_their_values() -> None:
    complaints: list[str] = []
    item = Item({"a": {"list": [{"n": "secret"}, 5]}}, lambda field, what: complaints.append(f"{field}: {what}"))
    [entry] = item.part("a").parts("list")
    assert entry.optional("n", whole(0, 9)) is None
    assert complaints == ["a.list[0].n: must be an integer of 0 to 9, got text"]
    with pytest.raises(BadItem, match=r"^a.list\[0\].m: must be text, got nothing$"):
        entry.needed("m", text)
    assert (entry.text("n", 3), item.part("no").values, item.parts("a.no")) == ("sec", {}, [])
