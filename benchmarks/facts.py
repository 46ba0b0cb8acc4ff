"""Whether two contenders wrote the same facts: all columns of all rows, as they stand after duplicates have collapsed."""

from __future__ import annotations

from typing import Final

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect

TABLES: Final = ("usage_facts", "policy_facts", "usage_windows")


class FactsDiffer(Exception):
    """The text shows the first row that differs."""


def compare(name: str, ours: ClickHouseSettings, theirs: ClickHouseSettings) -> None:
    """Raises `FactsDiffer`."""
    client = connect(ours)
    try:
        for table in TABLES:
            for first, second in ((ours, theirs), (theirs, ours)):
                query = "SELECT * FROM {}.{} FINAL".format
                sides = f"{query(first.database, table)} EXCEPT {query(second.database, table)}"
                rows = client.query(f"{sides} LIMIT 1").result_rows
                if rows:
                    raise FactsDiffer(f"{name}: {table}: only in {first.database}: {rows[0]}")
    finally:
        client.close()


def rows_of(database: ClickHouseSettings) -> int:
    """Rows of facts."""
    client = connect(database)
    try:
        counts = "SELECT (SELECT count() FROM usage_facts FINAL) + (SELECT count() FROM policy_facts FINAL)"
        return int(client.query(counts).result_rows[0][0])
    finally:
        client.close()
