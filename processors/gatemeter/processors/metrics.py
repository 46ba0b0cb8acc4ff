"""The page `/metrics` of a worker: its health and the budgets that it watches, as Prometheus reads them.

Prometheus knows floats alone: amounts are in currency units here, for alerts and graphs; the exact ones are in
ClickHouse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import faust
from faust.web import Request, Response, View
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from gatemeter.processors import health
from gatemeter.processors.flush import Flusher
from gatemeter.processors.ownership import Ownership
from gatemeter.sinks.reports.budgets import BudgetStatus

Budgets = Callable[[], Sequence[BudgetStatus]]
PICO: Final = 10**12
_OF_BUDGET: Final = ("budget", "scope", "subject", "currency", "period")
_COUNTERS: Final = {
    "flushes": "Flushes to ClickHouse.",
    "rows": "Rows written.",
    "events": "Events folded whose rows are written.",
    "write_retries": "Writes that were tried again.",
    "write_seconds": "Seconds spent in writes.",
}


class WorkerCollector(Collector):
    """Reads the figures when it is asked. `budgets`: as they were at the last look of this worker, if it looks."""

    def __init__(self, ownership: Ownership, flusher: Flusher, budgets: Budgets) -> None:
        self._ownership, self._flusher, self._budgets = ownership, flusher, budgets

    def collect(self) -> Iterator[Metric]:
        """Health first, then budgets."""
        report = health.report(self._ownership, self._flusher)
        yield GaugeMetricFamily("gatemeter_ok", "1 where nothing waits and nothing failed.", int(report["ok"]))
        yield GaugeMetricFamily("gatemeter_unflushed_rows", "Rows not written yet.", report["unflushed_rows"])
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"gatemeter_{name}", text, report[name])
        yield from self._partitions(report["partitions"])
        yield from self._of_budgets()

    def _partitions(self, partitions: Sequence[dict[str, Any]]) -> Iterator[Metric]:
        offset = GaugeMetricFamily("gatemeter_next_offset", "Next offset to fold.", labels=["partition"])
        waiting = GaugeMetricFamily("gatemeter_waiting", "1 where a partition waits.", labels=["partition"])
        for entry in partitions:
            offset.add_metric([entry["partition"]], entry["next_offset"])
            waiting.add_metric([entry["partition"]], int(bool(entry["waiting_for"])))
        yield from (offset, waiting)

    def _of_budgets(self) -> Iterator[Metric]:
        spend = GaugeMetricFamily("gatemeter_budget_spend", "Spent so far this month.", labels=_OF_BUDGET)
        limit = GaugeMetricFamily("gatemeter_budget_limit", "Limit of the month.", labels=_OF_BUDGET)
        expected = GaugeMetricFamily("gatemeter_budget_forecast", "Spend of the month by its end.", labels=_OF_BUDGET)
        crossed = GaugeMetricFamily(
            "gatemeter_budget_crossed_percent",
            "Highest threshold that is reached, 0: none.",
            labels=_OF_BUDGET,
        )
        for status in self._budgets():
            budget = status.budget
            labels = [budget.budget_id, budget.scope, budget.subject, budget.currency, status.month.period]
            spend.add_metric(labels, status.spend_pico / PICO)
            limit.add_metric(labels, budget.amount_pico / PICO)
            crossed.add_metric(labels, max(status.crossed, default=0))
            if status.forecast_pico is not None:
                expected.add_metric(labels, status.forecast_pico / PICO)
        yield from (spend, limit, expected, crossed)


def add_page(app: faust.App, ownership: Ownership, flusher: Flusher, budgets: Budgets) -> None:
    """Serves the figures at `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(ownership, flusher, budgets))

    async def metrics(view: View, request: Request) -> Response:
        return view.bytes(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app.page("/metrics")(metrics)
