"""Narrow rows become whole rows of the tables: what a row does not say is blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import pyarrow as pa

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.arrow import frame_to_arrow

_TYPES: Final[dict[str, Any]] = {"string": pl.String, "bytes": pl.Binary, "bool": pl.Boolean, "u64": pl.UInt64}
_BLANK: Final[dict[str, Any]] = {"string": "", "bytes": b"", "bool": False}


def table_of(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """`rows`: dicts with some columns of the table, times in microseconds, amounts in 10⁻¹²."""
    named = {name for row in rows for name in row}
    columns = []
    for name, kind in TABLES[table]:
        base = kind.removesuffix("?")
        dtype = _TYPES.get(base, pl.Int64)
        blank = None if kind.endswith("?") else _BLANK.get(base, 0)
        if name in named:
            columns.append(pl.Series(name, [row.get(name, blank) for row in rows], dtype=dtype))
        else:
            columns.append(pl.repeat(blank, len(rows), dtype=dtype, eager=True).alias(name))
    return frame_to_arrow(table, pl.DataFrame(columns))
