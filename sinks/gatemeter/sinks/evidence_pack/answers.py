"""Asks ClickHouse the queries of a mapping; what it says becomes plain values that are written the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.evidence_pack.controls import Controls, Query
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.port import SinkRefused

# The user may do more than read; the queries may not. 2: settings of the client itself may still be set.
_READ_ONLY: Final = {"readonly": 2}
_BOUND: Final = """
SELECT number, seal_id, posted_hour
FROM seals FINAL
WHERE posted_hour < {end:DateTime64(6, 'UTC')}
ORDER BY number DESC
LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month in UTC, [start, end)."""

    name: str
    start: datetime
    end: datetime

    @property
    def parameters(self) -> dict[str, str]:
        """As queries take them."""
        return {name: f"{at:%Y-%m-%d %H:%M:%S}" for name, at in (("start", self.start), ("end", self.end))}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: plain values, or the `problem` that kept it from answering ('' for none)."""

    query: Query
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """The last seal of the period or before it: what lies behind it can be held against its signature."""

    number: int
    seal_id: str
    posted_hour: datetime


def period_of(month: str) -> Period:
    """The month `YYYY-MM`. Raises `ValueError`."""
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        start = None
    if start is None or f"{start:%Y-%m}" != month:
        raise ValueError(f"period: must be YYYY-MM, for example 2026-11, got {month!r}")
    return Period(month, start, (start + timedelta(days=32)).replace(day=1))


def ask(
    client: Client, controls: Controls, period: Period, computed: Mapping[str, Sequence[Mapping[str, Any]] | str]
) -> Iterator[Answer]:
    """The answers, in the order of the mapping. `computed`: check → its rows, or why it was not made.

    What ClickHouse refuses (a right that the user has not) is an answer with a problem. Raises `SinkUnavailable`.
    """
    for query in controls.queries:
        if query.computed:
            yield _computed(query, computed[query.computed])
        else:
            yield _asked(client, query, period)


def bound_of(client: Client, period: Period) -> Bound | None:
    """The last seal up to the end of the period. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        rows = client.query(_BOUND, period.parameters, settings=_READ_ONLY).result_rows
    except FAILURES as error:
        raise sink_error("read the last seal", error) from error
    return Bound(*rows[0]) if rows else None


def _asked(client: Client, query: Query, period: Period) -> Answer:
    try:
        found = client.query(query.sql, period.parameters, settings=_READ_ONLY)
    except FAILURES as error:
        failure = sink_error(f"ask {query.id}", error)
        if not isinstance(failure, SinkRefused):
            raise failure from error
        return Answer(query, problem=_one_line(str(failure)))
    return Answer(query, tuple(found.column_names), tuple(_plain_rows(found.result_rows)))


def _one_line(text: str) -> str:
    """An error of ClickHouse without the address and the version, which would make packs differ."""
    return " ".join(text.split(" (version ")[0].split())


def _computed(query: Query, found: Sequence[Mapping[str, Any]] | str) -> Answer:
    if isinstance(found, str):
        return Answer(query, problem=found)
    columns = tuple(found[0]) if found else ()
    return Answer(query, columns, tuple(_plain_rows(row.values() for row in found)))


def _plain_rows(rows: Iterable[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    return (tuple(plain(value) for value in row) for row in rows)


def plain(value: Any) -> Any:
    """A value for JSON: times as ISO 8601 in UTC, exact numbers as text, tuples as lists."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else f"{value.isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
