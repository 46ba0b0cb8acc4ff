"""Rows and frames become Arrow tables with exactly the contract's columns, and amounts keep every digit."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.arrow import arrow_schema, frame_to_arrow, rows_to_arrow
from support.facts import blank_row, exact


@pytest.mark.parametrize("table", list(TABLES))
def test_rows_have_the_columns_of_the_contract_in_order(table: str) -> None:
    rows = rows_to_arrow(table, [blank_row(table), blank_row(table)])
    assert rows.column_names == [name for name, _ in TABLES[table]]
    assert rows.schema.equals(arrow_schema(table))
    rows.validate(full=True)


@pytest.mark.parametrize("table", list(TABLES))
def test_frames_and_rows_give_the_same_table(table: str) -> None:
    rows = [blank_row(table), blank_row(table)]
    expected = rows_to_arrow(table, rows)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    assert frame_to_arrow(table, frame).equals(expected)
    assert frame_to_arrow(table, frame.select(reversed(frame.columns))).equals(expected)
    chunked = pl.concat([frame.head(1), frame.tail(1)], rechunk=False)
    assert frame_to_arrow(table, chunked).equals(expected)


def test_an_empty_frame_keeps_the_schema() -> None:
    frame = pl.DataFrame([blank_row("quarantine")]).head(0)
    assert frame_to_arrow("quarantine", frame).schema.equals(arrow_schema("quarantine"))
    assert rows_to_arrow("quarantine", []).num_rows == 0


@pytest.mark.parametrize("pico", [0, 1, -1, 10**12, 2**63 - 1, -(2**63), 2**64, 10**32, 10**38 - 1, 1 - 10**38])
def test_amounts_are_exact(pico: int) -> None:
    row = blank_row("policy_facts") | {"charge": pico}
    expected = exact(pico)
    assert rows_to_arrow("policy_facts", [row])["charge"][0].as_py() == expected
    frame = pl.DataFrame([row], schema_overrides={"charge": pl.Int128})
    assert frame_to_arrow("policy_facts", frame)["charge"][0].as_py() == expected
    if -(2**63) <= pico < 2**63:
        frame = frame.with_columns(pl.col("charge").cast(pl.Int64))
        assert frame_to_arrow("policy_facts", frame)["charge"][0].as_py() == expected


def test_nulls_of_nullable_amounts_survive() -> None:
    rows = [blank_row("policy_facts") | {"charge": value} for value in (None, 5, None)]
    expected = [None, exact(5), None]
    assert rows_to_arrow("policy_facts", rows)["charge"].to_pylist() == expected
    frame = pl.DataFrame(rows, infer_schema_length=None)
    assert frame_to_arrow("policy_facts", frame)["charge"].to_pylist() == expected
    assert frame_to_arrow("policy_facts", frame.slice(1))["charge"].to_pylist() == expected[1:]


def test_categories_datetimes_and_slices_are_understood() -> None:
    rows = [blank_row("quarantine") | {"reason": reason} for reason in ("a", "b", "a")]
    frame = pl.DataFrame(rows).with_columns(
        pl.col("reason").cast(pl.Categorical), pl.col("recorded_at").cast(pl.Datetime("us", "UTC"))
    )
    assert frame_to_arrow("quarantine", frame).equals(rows_to_arrow("quarantine", rows))
    assert frame_to_arrow("quarantine", frame.slice(1, 1)).equals(rows_to_arrow("quarantine", rows[1:2]))
    assert frame_to_arrow("quarantine", frame)["recorded_at"].type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attempt": None}, r"policy_facts\.attempt: null"),
        ({"attempt": 65_536}, r"policy_facts.*attempt"),
        ({"charge": 10**38}, r"policy_facts.*charge"),
        ({"charge": 0.5}, r"policy_facts\.charge"),
        ({"tenant_id": None}, r"policy_facts\.tenant_id: null"),
    ],
)
def test_what_does_not_fit_is_refused_with_table_and_column(change: dict[str, Any], message: str) -> None:
    row = blank_row("policy_facts") | change
    with pytest.raises(ValueError, match=message):
        rows_to_arrow("policy_facts", [row])
    wide = {"charge": pl.Int128} if isinstance(change.get("charge"), int) else {}
    with pytest.raises(ValueError, match=message):
        frame_to_arrow("policy_facts", pl.DataFrame([row], schema_overrides=wide))


def test_a_missing_column_and_an_unknown_table_are_refused() -> None:
    row = blank_row("quarantine")
    del row["headers"]
    with pytest.raises(ValueError, match=r"quarantine\.headers: column is missing"):
        rows_to_arrow("quarantine", [row])
    with pytest.raises(ValueError, match=r"quarantine\.headers: column is missing"):
        frame_to_arrow("quarantine", pl.DataFrame([row]))
    with pytest.raises(ValueError, match="unknown table 'nothing'"):
        rows_to_arrow("nothing", [])


def test_a_float_is_never_cut_to_an_integer() -> None:
    frame = pl.DataFrame([blank_row("usage_facts") | {"input_text_uncached": 1.5}])
    with pytest.raises(ValueError, match=r"usage_facts\.input_text_uncached: cannot convert Float64"):
        frame_to_arrow("usage_facts", frame)
