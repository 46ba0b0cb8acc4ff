"""Rows and frames become Arrow tables with exactly the columns and types of `tables.TABLES`.

Amounts never pass through a float: an integer of 10⁻¹² currency units is the unscaled value of a `decimal128(38, 12)`,
so its 16 bytes are handed over as they are. Sizes: strings and bytes are the `large_` types, as polars exports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import polars as pl
import pyarrow as pa

from gatemeter.schemas.tables import TABLES

PICO: Final = pa.decimal128(38, 12)
MAX_PICO: Final = 10**38 - 1
_UNSCALED: Final = pl.Decimal(38, 0)  # the same 16 bytes as decimal128(38, 12), read as whole numbers

_ARROW: Final[dict[str, pa.DataType]] = {
    "string": pa.large_string(),
    "bytes": pa.large_binary(),
    "int": pa.int64(),
    "uint": pa.uint64(),
    "u64": pa.uint64(),
    "u16": pa.uint16(),
    "u8": pa.uint8(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", "UTC"),
    "pico": PICO,
}
_POLARS: Final[dict[str, pl.DataType]] = {
    "string": pl.String(),
    "bytes": pl.Binary(),
    "int": pl.Int64(),
    "uint": pl.UInt64(),
    "u64": pl.UInt64(),
    "u16": pl.UInt16(),
    "u8": pl.UInt8(),
    "bool": pl.Boolean(),
    "time": pl.Datetime("us", "UTC"),
    "pico": _UNSCALED,
}


def _columns(table: str) -> tuple[tuple[str, str, bool], ...]:
    """(name, logical type, nullable) of each column; `ValueError` for a table that is not ours."""
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}: must be one of {', '.join(TABLES)}")
    return tuple((name, kind.removesuffix("?"), kind.endswith("?")) for name, kind in TABLES[table])


@cache
def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table's rows. Raises `ValueError` for an unknown table."""
    return pa.schema([pa.field(name, _ARROW[kind], nullable) for name, kind, nullable in _columns(table)])


def rows_to_arrow(table: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """`rows`: dicts with every column of the table (others are ignored); times as microseconds, amounts as pico ints.

    Raises `ValueError` naming table and column: missing, null where not allowed, wrong type or out of range.
    """
    arrays = []
    for name, kind, nullable in _columns(table):
        try:
            values = [row[name] for row in rows]
        except KeyError:
            raise ValueError(f"{table}.{name}: column is missing") from None
        if not nullable and None in values:
            raise ValueError(f"{table}.{name}: null in a column that is not nullable")
        try:
            arrays.append(_pico_array(values) if kind == "pico" else pa.array(values, _ARROW[kind]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{table}.{name}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def _pico_array(values: list[int | None]) -> pa.Array:
    for value in values:
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"an amount must be an int of 10⁻¹² units, got {value!r}")
        if not -MAX_PICO <= value <= MAX_PICO:
            raise ValueError(f"an amount must be within ±(10³⁸ − 1) · 10⁻¹², got {value}")
    data = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in values)
    valid = pa.array([value is not None for value in values], pa.bool_()).buffers()[1] if None in values else None
    return pa.Array.from_buffers(PICO, len(values), [valid, pa.py_buffer(data)])


def frame_to_arrow(table: str, frame: pl.DataFrame) -> pa.Table:
    """`frame`: every column of the table in any order (others are ignored), times as Int64 microseconds or Datetime,
    amounts as whole 10⁻¹² units in any integer type. Raises `ValueError` as `rows_to_arrow` does.
    """
    columns = _columns(table)
    schema = frame.schema
    wanted = []
    nulls = frame.null_count().row(0, named=True) if frame.width else {}
    for name, kind, nullable in columns:
        if name not in schema:
            raise ValueError(f"{table}.{name}: column is missing")
        if not nullable and nulls[name]:
            raise ValueError(f"{table}.{name}: null in a column that is not nullable")
        _check_convertible(table, name, kind, schema[name])
        target = _POLARS[kind]
        wanted.append(pl.col(name) if schema[name] == target else pl.col(name).cast(target))
    try:
        exported = frame.select(wanted).rechunk().to_arrow()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{table}: {error}") from error  # polars names the column
    arrays = [_export(exported.column(name), kind) for name, kind, _ in columns]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


_INTEGERS: Final = ("int", "uint", "u64", "u16", "u8", "pico")


def _check_convertible(table: str, name: str, kind: str, given: pl.DataType) -> None:
    """Polars casts almost anything into anything (floats cut, numbers to text): only lossless ones are ours."""
    if isinstance(given, pl.Null):
        return
    if kind in _INTEGERS:
        fits = given.is_integer()
    elif kind == "time":
        fits = isinstance(given, pl.Int64) or (isinstance(given, pl.Datetime) and given.time_unit == "us")
    elif kind == "string":
        fits = isinstance(given, pl.String | pl.Categorical | pl.Enum)
    else:
        fits = given == _POLARS[kind]
    if not fits:
        raise ValueError(f"{table}.{name}: cannot convert {given} to {kind} without loss")


def _export(column: pa.ChunkedArray, kind: str) -> pa.Array:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # zero chunks of an empty frame
        array = pa.array([], column.type)
    if kind != "pico":
        return array
    return pa.Array.from_buffers(PICO, len(array), array.buffers(), array.null_count, array.offset)
