"""Where a month stands: open, sealed or closed, and the seals that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.terms.months import HOUR_US, Month

OPEN: Final = "open"
SEALED: Final = "sealed"
CLOSED: Final = "closed"

_SEALS: Final = """
SELECT
    count() AS known,
    toUnixTimestamp64Micro(min(posted_hour)) AS first_us, toUnixTimestamp64Micro(max(posted_hour)) AS last_us,
    argMax(number, number) AS last_number, argMax(seal_id, number) AS last_seal
FROM seals FINAL
"""
_CLOSE: Final = """
SELECT toUnixTimestamp64Micro(closed_at) AS closed_us, reason, kid, after_seal
FROM closed_periods FINAL WHERE period = {period:String}
"""


@dataclass(frozen=True, slots=True)
class PeriodState:
    """`state` closed: its amounts never change; sealed: every hour is, and late usage may still be booked; open.

    `hours`: those from the first seal of all on. `last_seal` '' and `closed_us` None where there is none.
    """

    month: Month
    state: str
    sealed_hours: int
    hours: int
    last_seal: str
    last_number: int
    closed_us: int | None
    closed_reason: str
    closed_by: str


def period_state(client: Client, month: Month) -> PeriodState:
    """The state of a month. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        ((known, first_us, last_us, number, seal),) = client.query(_SEALS).result_rows
        closes = client.query(_CLOSE, {"period": month.period}).result_rows
    except FAILURES as error:
        raise sink_error("read seals and closed_periods", error) from error
    begin_us = max(month.start_us, first_us) if known else month.start_us
    hours = max(0, (month.end_us - begin_us) // HOUR_US)
    sealed = max(0, (min(month.end_us, last_us + HOUR_US) - begin_us) // HOUR_US) if known else 0
    closed_us, reason, kid, _ = closes[0] if closes else (None, "", "", 0)
    state = CLOSED if closes else SEALED if known and sealed == hours else OPEN
    return PeriodState(
        month=month,
        state=state,
        sealed_hours=sealed,
        hours=hours,
        last_seal=seal if known else "",
        last_number=number if known else -1,
        closed_us=closed_us,
        closed_reason=reason,
        closed_by=kid,
    )
