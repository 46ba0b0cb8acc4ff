"""Lines go to ClickHouse in Arrow tables; amounts are exact decimals all the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import PICO
from gatemeter.sinks.billing.importing import Identity, Outcome
from gatemeter.sinks.billing.lines import BillingLine, Covered, Rejected
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.rows import query_rows

_TEXT: Final = pa.large_string()
_TIME: Final = pa.timestamp("us", "UTC")
_SYNCHRONOUS: Final = {"async_insert": 0}  # rows are there when the call returns

_LINES: Final = pa.schema(
    [
        ("import_id", _TEXT),
        ("line", pa.int64()),
        ("source_line", pa.int64()),
        *((name, _TEXT) for name in ("provider", "content", "account", "project", "key_id")),
        ("billing_day", pa.date32()),
        ("calendar", _TEXT),
        ("starts_at", _TIME),
        ("ends_at", _TIME),
        *((name, _TEXT) for name in ("charge_category", "charge_class", "line_item", "model", "token_type")),
        *((name, _TEXT) for name in ("service_tier", "workload_class", "region")),
        ("quantity", PICO),
        ("unit", _TEXT),
        ("amount", PICO),
        ("list_amount", PICO),
        *((name, _TEXT) for name in ("currency", "tags", "raw")),
    ]
)
_FIELDS: Final = {"starts_at": "starts_us", "ends_at": "ends_us"}
_REJECTED: Final = pa.schema(
    [("import_id", _TEXT), ("line", pa.int64()), *((name, _TEXT) for name in ("field", "reason", "raw"))]
)
_COVERAGE: Final = pa.schema(
    [*((name, _TEXT) for name in ("import_id", "provider", "account", "content")), ("billing_day", pa.date32())]
)
_IMPORTS: Final = pa.schema(
    [
        ("import_id", _TEXT),
        ("imported_at", _TIME),
        *((name, _TEXT) for name in ("imported_by", "format", "file_name", "file_digest", "mapping_digest")),
        *((name, _TEXT) for name in ("provider", "calendar")),
        ("first_day", pa.date32()),
        ("last_day", pa.date32()),
        *((name, pa.int64()) for name in ("lines", "rejected", "left_out")),
        ("lines_digest", _TEXT),
    ]
)
_SAME_FILE: Final = """
SELECT import_id, provider, account, content, billing_day FROM billing_days
WHERE import_id != {id:String} AND import_id IN
    (SELECT import_id FROM billing_imports FINAL WHERE file_digest = {digest:String})
"""


@dataclass(frozen=True, slots=True)
class Known:
    """An import that is in the tables already."""

    import_id: str
    imported_at: str
    lines: int


class BillingWriter:
    """Implements `LineSink`. Every method raises `SinkUnavailable` or `SinkRefused`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def known(self, import_id: str) -> Known | None:
        """The import of that id, if it counts."""
        query = (
            "SELECT import_id, toString(imported_at) AS imported_at, lines FROM billing_imports FINAL"
            " WHERE import_id = {id:String}"
        )
        rows = query_rows(self._client, "look for an import", query, {"id": import_id})
        return Known(**rows[0]) if rows else None

    def write_lines(self, import_id: str, lines: Sequence[BillingLine]) -> None:
        """Lines of an import that does not count yet."""
        columns = [[getattr(line, _FIELDS.get(name, name)) for line in lines] for name in _LINES.names[1:]]
        self._insert("billing_lines", _LINES, [[import_id] * len(lines), *columns])

    def write_rejected(self, import_id: str, rejected: Sequence[Rejected]) -> None:
        """Rows that gave none."""
        columns = [[getattr(row, name) for row in rejected] for name in _REJECTED.names[1:]]
        self._insert("billing_rejected", _REJECTED, [[import_id] * len(rejected), *columns])

    def finish(self, identity: Identity, outcome: Outcome, *, file_name: str, imported_by: str, now_us: int) -> None:
        """Lets the import count: the days that it speaks of, then the import. Where the same file counts as it was
        imported before, in another way or for another account, it takes the place of that, and `outcome` notes it."""
        covered = list(dict.fromkeys((*outcome.covered, *self._same_file(identity, outcome))))
        columns: list[list[Any]] = [[identity.import_id] * len(covered)]
        columns += [[getattr(day, name) for day in covered] for name in _COVERAGE.names[1:]]
        if covered:
            self._insert("billing_coverage", _COVERAGE, columns)
        first, last = outcome.days or (None, None)
        row: dict[str, Any] = {
            "import_id": identity.import_id,
            "imported_at": now_us,
            "imported_by": imported_by,
            "format": outcome.form,
            "file_name": file_name,
            "file_digest": identity.digest,
            "mapping_digest": identity.mapping_digest,
            "provider": outcome.provider,
            "calendar": outcome.calendar,
            "first_day": first,
            "last_day": last,
            "lines": outcome.lines,
            "rejected": outcome.rejected,
            "left_out": outcome.left_out,
            "lines_digest": outcome.lines_digest,
        }
        self._insert("billing_imports", _IMPORTS, [[row[name]] for name in _IMPORTS.names])

    def _same_file(self, identity: Identity, outcome: Outcome) -> list[Covered]:
        """What counts of other imports of the same bytes: a file counts once, whatever was said of it."""
        asked = {"id": identity.import_id, "digest": identity.digest}
        rows = query_rows(self._client, "look for the same file", _SAME_FILE, asked)
        for import_id in sorted({row.pop("import_id") for row in rows}):
            outcome.notes.append(f"takes the place of import {import_id[:12]}, which is the same file")
        return [Covered(**row) for row in rows]

    def _insert(self, table: str, schema: pa.Schema, columns: list[list[Any]]) -> None:
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, schema, strict=True)]
        rows = pa.Table.from_arrays(arrays, schema=schema)
        try:
            self._client.insert_arrow(table, rows, settings=_SYNCHRONOUS)
        except FAILURES as error:
            raise sink_error(f"insert {rows.num_rows} rows into {table}", error) from error
