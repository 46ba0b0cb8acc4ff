"""The check of conservation: what every partition's checkpoint counted, counted again from the tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.audit import Finding, ok, wrong

CHECK: Final = "conservation"
COUNTS: Final = (
    "next_offset",
    "records",
    "records_quarantined",
    "events_received",
    "events_admitted",
    "events_duplicate",
    "events_conflict",
    "events_quarantined",
    "events_corroborating",
    "responses_fresh",
    "responses_late",
)


@dataclass(frozen=True, slots=True)
class PartitionCheck:
    """One partition: the running totals by `COUNTS`, and the first thing that does not add up ('' where all does)."""

    topic: str
    partition: int
    counts: Mapping[str, int]
    problem: str


@dataclass(frozen=True, slots=True)
class Conservation:
    """The check of a database. A database without any partition is not ok: there is nothing to vouch for."""

    partitions: tuple[PartitionCheck, ...]

    @property
    def ok(self) -> bool:
        return not self.first_problem

    @property
    def first_problem(self) -> str:
        """The first thing that is wrong, with its partition; '' where everything adds up."""
        if not self.partitions:
            return "nothing has been ingested"
        for check in self.partitions:
            if check.problem:
                return f"{check.topic}[{check.partition}]: {check.problem}"
        return ""

    def totals(self) -> dict[str, int]:
        """Sums over partitions by `COUNTS`."""
        return {name: sum(check.counts[name] for check in self.partitions) for name in COUNTS}


def conservation(client: Client) -> Conservation:
    """One look. While a flush is under way windows may differ from facts. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        rows = client.query("SELECT * FROM conservation ORDER BY topic, partition").named_results()
        return Conservation(tuple(_check(row) for row in rows))
    except FAILURES as error:
        raise sink_error("read the view conservation", error) from error


def settled_conservation(client: Client, *, looks: int = 5, pause: timedelta = timedelta(seconds=1)) -> Conservation:
    """Look again, up to `looks` times, before saying that something is wrong: workers may be writing."""
    result = conservation(client)
    for _ in range(looks - 1):
        if result.ok or not result.partitions:
            break
        time.sleep(pause.total_seconds())
        result = conservation(client)
    return result


def findings(result: Conservation) -> list[Finding]:
    """The check as findings of an audit: one for each partition that is wrong, one for all that add up."""
    if not result.partitions:
        return [wrong(CHECK, "", result.first_problem)]
    bad = [
        wrong(CHECK, f"{check.topic}[{check.partition}]", check.problem, **check.counts)
        for check in result.partitions
        if check.problem
    ]
    good = Conservation(tuple(check for check in result.partitions if not check.problem))
    if good.partitions:
        sums = good.totals()
        what = (
            f"{sums['events_received']:,} events = {sums['events_admitted']:,} admitted"
            f" + {sums['events_duplicate']:,} duplicate + {sums['events_conflict']:,} in conflict"
            f" + {sums['events_quarantined']:,} quarantined + {sums['events_corroborating']:,} evidence;"
            f" {sums['records']:,} records without a gap,"
            f" {sums['records_quarantined']:,} refused whole"
        )
        bad.append(ok(CHECK, f"{len(good.partitions)} partitions", what, **sums))
    return bad


def _check(row: Mapping[str, Any]) -> PartitionCheck:
    counts = {name: int(row[name]) for name in COUNTS}
    return PartitionCheck(str(row["topic"]), int(row["partition"]), counts, str(row["problem"]))
