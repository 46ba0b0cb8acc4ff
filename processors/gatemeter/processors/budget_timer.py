"""Budgets by themselves: the worker that owns partition 0 of the events topic looks at them, by a timer of Faust.

It tells and never blocks: a threshold that is crossed becomes a row of `exceptions` and a figure of `/metrics`. Its
clock is the log's, so a worker with a wrong clock does not look at the wrong month. What goes wrong is one line in the
log and is tried again at the next tick.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from clickhouse_connect.driver.client import Client
from faust.types import TP

from gatemeter.processors.clickhouse_client import PATIENCE, clickhouse_of
from gatemeter.processors.ownership import Ownership
from gatemeter.processors.settings import Settings
from gatemeter.sinks.budget_watch import look_at_budgets
from gatemeter.sinks.clickhouse import ClickHouseSink, connect
from gatemeter.sinks.port import FactSink, SinkError
from gatemeter.sinks.reports.budgets import BudgetStatus
from gatemeter.sinks.terms.months import DAY_US, month_at

LATE_DAYS: Final = 7
"""For so many days the month before is looked at too: late usage and corrections still reach it."""

log = logging.getLogger(__name__)


class BudgetTimer:
    """Looks in a thread, so that folding goes on. `latest`: budgets of the running month, () where another looks."""

    def __init__(
        self, settings: Settings, ownership: Ownership, open_tables: Callable[[], tuple[Client, FactSink]] | None = None
    ) -> None:
        self.latest: tuple[BudgetStatus, ...] = ()
        self._settings, self._ownership = settings, ownership
        self._open = open_tables or self._connect
        self._tables: tuple[Client, FactSink] | None = None
        self._said = ""

    async def tick(self) -> None:
        """One look at the running month, and at the one before while it is young."""
        owned = self._ownership.partitions.get(TP(self._settings.topic, 0))
        if owned is None or owned.waiting_for or not owned.log_time_us or self._ownership.failure is not None:
            self.latest = ()
            return
        self.latest = await asyncio.to_thread(self._look, owned.log_time_us)

    def _look(self, now_us: int) -> tuple[BudgetStatus, ...]:
        month = month_at(now_us)
        try:
            self._tables = self._tables or self._open()
            client, sink = self._tables
            if now_us - month.start_us < LATE_DAYS * DAY_US:
                look_at_budgets(client, sink, month_at(month.start_us - 1).period, now_us)
            statuses = tuple(look_at_budgets(client, sink, month.period, now_us))
        except SinkError as error:
            self._tables = None
            self._say(f"budgets: {error}")
            return ()
        except Exception:
            self._tables = None
            log.exception("looking at budgets failed; the next tick tries again")
            return ()
        self._say("")
        for status in statuses:
            for percent in status.unrecorded:
                log.warning("budget %s: %d %% of %s is crossed", status.budget.budget_id, percent, status.month.period)
        return statuses

    def _connect(self) -> tuple[Client, FactSink]:
        where = clickhouse_of(self._settings, PATIENCE)
        return connect(where), ClickHouseSink(where)

    def _say(self, problem: str) -> None:
        if problem and problem != self._said:
            log.error("%s", " ".join(problem.split()))
        self._said = problem
