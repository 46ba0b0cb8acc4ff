"""Exceptions by themselves: the worker that owns partition 0 of the events topic looks for them, by a timer of Faust.

It finds, tells a webhook where one is set, and never blocks: folding goes on in the event loop, and one look waits for
the one before. Its clock is the log's. What goes wrong is one line in the log and is tried again at the next tick.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from clickhouse_connect.driver.client import Client
from faust.types import TP

from gatemeter.processors.clickhouse_client import PATIENCE, clickhouse_of
from gatemeter.processors.ownership import Ownership
from gatemeter.processors.settings import Settings
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.exceptions.finding import days_until, find_exceptions
from gatemeter.sinks.exceptions.webhook import tell
from gatemeter.sinks.port import SinkError
from gatemeter.sinks.terms.months import moment_of

log = logging.getLogger(__name__)


class ExceptionTimer:
    """Looks in a thread. `open_client`: another way to ClickHouse, for tests."""

    def __init__(
        self, settings: Settings, ownership: Ownership, open_client: Callable[[], Client] | None = None
    ) -> None:
        self._settings, self._ownership = settings, ownership
        self._open = open_client or self._connect
        self._client: Client | None = None
        self._said = ""
        self._looking = False

    async def tick(self) -> None:
        """One look at the running day, and at the one before while it is young."""
        owned = self._ownership.partitions.get(TP(self._settings.topic, 0))
        if owned is None or owned.waiting_for or not owned.log_time_us or self._ownership.failure is not None:
            return
        if self._looking:
            return
        self._looking = True
        try:
            await asyncio.to_thread(self._look, moment_of(owned.log_time_us))
        finally:
            self._looking = False

    def _look(self, now: datetime) -> None:
        exceptions = self._settings.exceptions
        problem = ""
        try:
            self._client = self._client or self._open()
            found = find_exceptions(self._client, days_until(now), exceptions.thresholds, now)
            new = frozenset(found.new)
            for finding in found.all:
                if finding.exception_id in new and finding.severity in ("high", "critical"):
                    log.warning("exception %s: %s", finding.exception_id, finding.kind)
            if exceptions.webhook is not None:
                problem = tell(self._client, exceptions.webhook, now).problem
        except SinkError as error:
            self._client = None
            problem = str(error)
        except Exception:
            self._client = None
            log.exception("looking for exceptions failed; the next tick tries again")
            return
        if problem and problem != self._said:
            log.error("exceptions: %s", " ".join(problem.split()))
        self._said = problem

    def _connect(self) -> Client:
        return connect(clickhouse_of(self._settings, PATIENCE))
