"""Rows out of ClickHouse and a few into it, for commands, reports and timers; the fold writes through the port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error

ROWS_AN_INSERT: Final = 50_000


def query_rows(
    client: Client,
    doing: str,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Rows by column name; `settings` of ClickHouse. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        return [dict(row) for row in client.query(query, dict(parameters or {}), dict(settings or {})).named_results()]
    except FAILURES as error:
        raise sink_error(doing, error) from error


def insert_rows(client: Client, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], doing: str) -> None:
    """Inserts rows, `ROWS_AN_INSERT` at a time; they are in ClickHouse on return. `doing`: for the error.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    try:
        for start in range(0, len(rows), ROWS_AN_INSERT):
            part = rows[start : start + ROWS_AN_INSERT]
            client.insert(table, part, column_names=list(columns), settings={"async_insert": 0})
    except FAILURES as error:
        raise sink_error(doing, error) from error
