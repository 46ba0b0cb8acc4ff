"""Looks at budgets and records what they have newly crossed; the timer of the workers and a command share it."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.port import FactSink
from gatemeter.sinks.reports.budgets import BudgetStatus, budget_statuses
from gatemeter.sinks.terms.crossings import crossing_row


def look_at_budgets(client: Client, sink: FactSink, period: str, now_us: int) -> list[BudgetStatus]:
    """A month's budgets as they stand, after what they have newly crossed was written to `exceptions`.

    A crossing that stands is not written again, so it keeps the spend and the time at which it was found; two that look
    at once write the same key, and one row stays. Raises `ValueError`, `SinkUnavailable`, `SinkRefused`.
    """
    statuses = budget_statuses(client, period, now_us)
    rows = [
        crossing_row(status.budget, status.month, percent, status.spend_pico, now_us)
        for status in statuses
        for percent in status.unrecorded
    ]
    if rows:
        sink.write("exceptions", rows_to_arrow("exceptions", rows))
    return statuses
