"""Amounts survive the way from ints to Arrow and from Decimals to text and back, to the last digit."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.sinks.arrow import MAX_PICO, frame_to_arrow, rows_to_arrow
from gatemeter.sinks.reports.money import pico_of, text_of
from support.facts import blank_row

PICO = st.integers(-MAX_PICO, MAX_PICO)


@given(st.lists(PICO | st.none(), min_size=1, max_size=20), st.integers(0, 3))
def test_columns_of_amounts_are_exact_by_row_and_by_frame(values: list[int | None], cut: int) -> None:
    rows = [blank_row("policy_facts") | {"charge": value} for value in values]
    by_row = rows_to_arrow("policy_facts", rows)["charge"]
    assert [None if value is None else pico_of(value) for value in by_row.to_pylist()] == values
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"charge": pl.Int128})
    assert frame_to_arrow("policy_facts", frame)["charge"].equals(by_row)
    assert frame_to_arrow("policy_facts", frame.slice(cut))["charge"].to_pylist() == by_row.to_pylist()[cut:]


@given(PICO)
def test_text_has_every_digit(pico: int) -> None:
    whole, _, fraction = text_of(pico).partition(".")
    assert len(fraction) == 12
    assert int(whole + fraction) == pico


@given(st.integers(MAX_PICO + 1, MAX_PICO * 5))
def test_what_does_not_fit_is_refused(pico: int) -> None:
    with pytest.raises(ValueError, match=r"policy_facts\.charge"):
        rows_to_arrow("policy_facts", [blank_row("policy_facts") | {"charge": -pico}])
