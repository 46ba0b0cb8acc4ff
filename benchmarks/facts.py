"""Whether two contenders wrote the same facts: all columns of all rows, once duplicates have collapsed."""

from __future__ import annotations

from typing import Final

from clickhouse_connect.driver.client import Client

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
                rows = client.query(f"SELECT 1 FROM ({sides}) LIMIT 1").result_rows
                if rows:
                    raise FactsDiffer(f"{name}: {table}: {_difference(client, table, first, second, sides)}")
    finally:
        client.close()


def _difference(client: Client, table: str, first: ClickHouseSettings, second: ClickHouseSettings, sides: str) -> str:
    """The columns in which the first row of `sides` differs from the row at its place in the log."""
    place = "`topic`, `partition`, `offset`, event_index" if table != "usage_windows" else "window_start, tenant_id"
    found = client.query(f"SELECT *, ({place}) AS place FROM ({sides}) ORDER BY place LIMIT 1")
    row = dict(zip(found.column_names, found.result_rows[0], strict=True))
    there = client.query(
        f"SELECT *, ({place}) AS place FROM {second.database}.{table} FINAL"
        f" WHERE place = (SELECT min(({place})) FROM ({sides})) LIMIT 1"
    )
    if not there.result_rows:
        return f"only in {first.database}: {row}"
    other = dict(zip(there.column_names, there.result_rows[0], strict=True))
    return str({column: (row[column], other[column]) for column in row if row[column] != other[column]})


def rows_of(database: ClickHouseSettings) -> int:
    """Rows of facts."""
    client = connect(database)
    try:
        counts = "SELECT (SELECT count() FROM usage_facts FINAL) + (SELECT count() FROM policy_facts FINAL)"
        return int(client.query(counts).result_rows[0][0])
    finally:
        client.close()
