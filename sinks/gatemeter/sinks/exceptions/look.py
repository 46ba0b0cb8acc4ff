"""One look at one UTC day: the client, the bounds, the thresholds; and how a detector asks and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.exceptions.kinds import EVIDENCE, Finding
from gatemeter.sinks.exceptions.thresholds import BASELINE_DAYS, Thresholds
from gatemeter.sinks.rows import query_rows

MOST: Final = 1_000
"""So many exceptions of a kind are kept of a day, those with the most requests."""
MEMORY: Final = {
    "max_memory_usage": 2_000_000_000,
    "max_bytes_before_external_group_by": 500_000_000,
    "max_bytes_before_external_sort": 500_000_000,
}
"""Settings of each query: 2 GB at most, and groups go to the disk long before."""

FACTS: Final = "facts_between(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})"
"""The facts of the day."""
BEFORE: Final = "hour >= {usual_from:DateTime64(6, 'UTC')} AND hour < {since:DateTime64(6, 'UTC')}"
"""The hours of the baseline, in `exception_hours`."""
TODAY: Final = "hour >= {since:DateTime64(6, 'UTC')} AND hour < {until:DateTime64(6, 'UTC')}"
"""The hours of the day."""
WHO: Final = "tenant_id, app_id, workload_id"
"""The subject of most detectors: a workload; without one its app, without that the tenant."""

EVIDENCE_SQL: Final = f"""
    toUnixTimestamp64Micro(min(f.request_started_at)) AS first_seen_us,
    toUnixTimestamp64Micro(max(f.request_started_at)) AS last_seen_us,
    arraySlice(arrayDistinct(arrayMap(x -> x.2,
        groupArraySorted({2 * EVIDENCE})((f.request_started_at, f.request_id)))), 1, {EVIDENCE}) AS request_ids,
    toUInt64(uniqExact(f.gateway_id, f.request_id)) AS requests,
    uniqExactIf(f.currency, f.currency != '') = 1 AS one_currency,
    if(one_currency, sum(f.provider_cost), NULL) AS cost,
    if(one_currency, max(f.currency), '') AS currency"""
"""What a detector selects of the facts `f` that an exception is about."""


@dataclass(frozen=True)
class Look:
    """A day to look at. Every failure of ClickHouse becomes `SinkUnavailable` or `SinkRefused`."""

    client: Client
    day: date
    thresholds: Thresholds

    @property
    def parameters(self) -> dict[str, Any]:
        """What every query may name."""
        since = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return {
            "since": since,
            "until": since + timedelta(days=1),
            "usual_from": since - timedelta(days=BASELINE_DAYS),
            "tenants": self.thresholds.tenants,
        }

    def rows(self, query: str, **more: Any) -> list[dict[str, Any]]:
        """The rows of a query by name."""
        return query_rows(self.client, f"look for exceptions of {self.day}", query, self.parameters | more, MEMORY)

    def findings(self, kind: str, query: str, **more: Any) -> Iterator[Finding]:
        """The rows of a query of a detector; what it does not select of the subject is ''. `kind` '': it selects it."""
        rows = self.rows(f"{query}\nORDER BY requests DESC, seen LIMIT {MOST}", **more)
        return (finding_of(row, kind, self.day) for row in rows)


def finding_of(row: Mapping[str, Any], kind: str, day: date) -> Finding:
    """A row with the columns of `EVIDENCE_SQL`, `severity`, `seen`, `expected` and names of the subject."""
    return Finding(
        kind or row["kind"],
        row["severity"],
        day,
        row.get("tenant_id", ""),
        row.get("app_id", ""),
        row.get("workload_id", ""),
        row.get("credential_fingerprint", ""),
        row.get("provider", ""),
        row.get("model", ""),
        row.get("subject", ""),
        row["first_seen_us"],
        row["last_seen_us"],
        row["seen"],
        row["expected"],
        tuple(row["request_ids"]),
        int(row["requests"]),
        row["cost"],
        row["currency"],
    )


Detector = Callable[[Look], Iterator[Finding]]
"""Finds the exceptions of its kinds on the day of a look."""
