"""The months of the ledger as ClickHouse knows them: which are closed, and how far each is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.open_points import month_bounds
from gatemeter.processors.metadata.entries import HOUR_US
from gatemeter.processors.sealing.periods import next_period, period_of
from gatemeter.sinks.failures import FAILURES, sink_error

_SEALS: Final = (
    "SELECT count(), toUnixTimestamp64Micro(min(posted_hour)), toUnixTimestamp64Micro(max(posted_hour)) FROM seals"
)
_CLOSED: Final = "SELECT DISTINCT period FROM closed_periods ORDER BY period"


@dataclass(frozen=True, slots=True)
class MonthState:
    """`state`: closed; sealed, that is ready to be closed; open. `hours`: those from the first seal of all on."""

    period: str
    state: str
    sealed_hours: int
    hours: int


def month_states(client: Client) -> list[MonthState]:
    """From the month of the first seal to that of the hour after the last; none where nothing is sealed.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    ((count, first_us, last_us),) = _rows(client, _SEALS)
    if not count:
        return []
    closed = {row[0] for row in _rows(client, _CLOSED)}
    found, period = [], period_of(first_us)
    while period <= period_of(last_us + HOUR_US):
        start_us, end_us = month_bounds(period)
        begin_us = max(start_us, first_us)
        hours = (end_us - begin_us) // HOUR_US
        sealed = max(0, (min(end_us, last_us + HOUR_US) - begin_us) // HOUR_US)
        state = "closed" if period in closed else "sealed" if sealed == hours else "open"
        found.append(MonthState(period, state, sealed, hours))
        period = next_period(period)
    return found


def last_copied(client: Client) -> int:
    """Number of the last seal in ClickHouse; −1 where there is none. Raises `SinkUnavailable`, `SinkRefused`."""
    ((count, number),) = _rows(client, "SELECT count(), max(number) FROM seals")
    return number if count else -1


def _rows(client: Client, query: str) -> list[Any]:
    try:
        return list(client.query(query).result_rows)
    except FAILURES as error:
        raise sink_error("read seals and closed_periods", error) from error
