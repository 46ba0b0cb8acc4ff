"""A sink in memory, for unit tests: it keeps what was written, by table, and checks columns as ClickHouse would."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.arrow import arrow_schema
from gatemeter.sinks.checkpoints import checkpoint_row
from gatemeter.sinks.port import SinkRefused


class MemorySink:
    """Implements `FactSink`. `writes`: every (table, rows) in the order written; rows are never merged."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, pa.Table]] = []

    def write(self, table: str, rows: pa.Table) -> None:
        """Keep `rows`. Raises `SinkRefused` for an unknown table or other columns."""
        if table not in TABLES:
            raise SinkRefused(f"unknown table {table!r}", code=60)
        expected = arrow_schema(table)
        if rows.schema.names != expected.names or rows.schema.types != expected.types:
            raise SinkRefused(f"{table}: columns differ from tables.TABLES: {rows.schema.names}", code=16)
        self.writes.append((table, rows))

    def table(self, name: str) -> pa.Table:
        """All rows written to one table, in order."""
        parts = [rows for table, rows in self.writes if table == name]
        return pa.concat_tables(parts) if parts else arrow_schema(name).empty_table()

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        """The checkpoint with the greatest `next_offset`, None if there is none."""
        rows = self.table("ingest_batches")
        rows = rows.filter(pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["partition"], partition)))
        return checkpoint_row(rows.sort_by([("next_offset", "descending"), ("replay_from", "descending")]))
