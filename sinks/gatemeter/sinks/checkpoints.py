"""A checkpoint row as plain Python values: times as microseconds, bytes as bytes, the rest as it is."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from gatemeter.schemas.tables import TABLES


def checkpoint_row(rows: pa.Table) -> dict[str, Any] | None:
    """The first row of `rows` (columns of `ingest_batches`), or None if there is none. Text may come as bytes."""
    if rows.num_rows == 0:
        return None
    row: dict[str, Any] = {}
    for name, kind in TABLES["ingest_batches"]:
        column = rows.column(name)
        value = (column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if kind == "time" else column)[0].as_py()
        row[name] = value.decode() if kind == "string" and isinstance(value, bytes) else value
    return row
