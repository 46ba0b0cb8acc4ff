"""What is still open in a month: what a close lists, and above its thresholds refuses.

unpriced       attempts and decisions that no rate matched: in no total
orphans        requests whose answer never came
without_usage  answers whose provider reported no usage
carried_over   batch jobs begun before the month's end without a final state: they post to the month open then
missing        events that gateways announced and nobody received, of epochs that were heard in the month
unclosed       epochs that fell silent in the month without saying so: what they held in memory is not known
quarantine     records and events refused in the month, neither admitted since nor discarded
conflicts      contradictions found in the month, on attempts without a correction by hand
unmetered      calls that evidence saw, no gateway metered and no correction charges
conservation   partitions whose counts do not add up
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.sealing.periods import next_period
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.completeness import without
from gatemeter.sinks.reports.conservation import settled_conservation

KINDS: Final = (
    "unpriced",
    "orphans",
    "without_usage",
    "carried_over",
    "missing",
    "unclosed",
    "quarantine",
    "conflicts",
    "unmetered",
    "conservation",
)
EXAMPLES: Final = 5

_START, _END = (f"fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')" for name in ("from", "to"))
_USAGE: Final = f"""
WITH
    concat(gateway_id, '/', request_id, '/', toString(attempt)) AS shown,
    (usage_hour >= {_START} AND usage_hour < {_END}) AS inside,
    (inside AND price_status = 'unpriced') AS is_unpriced,
    (inside AND status = 'orphan' AND price_status = 'no_usage') AS is_orphan,
    (inside AND has_response AND status != 'in_progress' AND price_status = 'no_usage') AS is_without_usage,
    (status = 'in_progress' AND NOT denied) AS is_carried_over
SELECT
    countIf(is_unpriced), groupArrayIf({EXAMPLES})(shown, is_unpriced),
    countIf(is_orphan), groupArrayIf({EXAMPLES})(shown, is_orphan),
    countIf(is_without_usage), groupArrayIf({EXAMPLES})(shown, is_without_usage),
    countIf(is_carried_over), groupArrayIf({EXAMPLES})(shown, is_carried_over)
FROM
(
    SELECT
        *,
        (gateway_id, request_id) IN (SELECT gateway_id, request_id FROM decisions WHERE outcome = 'deny') AS denied
    FROM attempts
    WHERE usage_hour < {_END}
)
"""
_DECISIONS: Final = f"""
SELECT count(), groupArray({EXAMPLES})(concat(gateway_id, '/', decision_id))
FROM decisions WHERE price_status = 'unpriced' AND usage_hour >= {_START} AND usage_hour < {_END}
"""
# An epoch's id begins with its start in microseconds.
_EPOCHS: Final = f"""
SELECT gateway_id, epoch, topic, partition, missing, closed, toUnixTimestamp64Micro(last_heard)
FROM completeness
WHERE toInt64OrZero(splitByChar('-', epoch)[1]) < {{to:Int64}}
    AND last_heard >= {_START}
    AND (missing_events > 0 OR NOT closed)
ORDER BY gateway_id, epoch, topic, partition
"""
_DISCARDS: Final = """
SELECT DISTINCT gateway_id, epoch, topic, partition, first_sequence, next_sequence
FROM quarantine_discards FINAL WHERE next_sequence > first_sequence
"""
_QUARANTINE: Final = f"""
SELECT count(), groupArray({EXAMPLES})(concat(topic, '[', toString(partition), ']@', toString(offset), ' ', reason))
FROM quarantine_state WHERE state = 'open' AND recorded_at >= {_START} AND recorded_at < {_END}
"""
_CONFLICTS: Final = f"""
SELECT count(), groupArray({EXAMPLES})(concat(kind, ' ', gateway_id, '/', request_id, '/', toString(attempt)))
FROM exceptions FINAL
WHERE kind IN ('conflict', 'content_conflict', 'start_mismatch', 'correction_superseded')
    AND recorded_at >= {_START} AND recorded_at < {_END}
    AND (gateway_id, request_id, attempt) NOT IN
    (
        SELECT gateway_id, request_id, attempt FROM corrections
        WHERE kind = 'replace' AND cause IN ('manual', 'reconciliation') AND run_id IN (SELECT run_id FROM commits)
    )
"""
_UNMETERED: Final = f"""
SELECT count(), groupArray({EXAMPLES})(concat(place, ' ', gateway_id, '/', request_id, '/', toString(attempt)))
FROM unmetered_calls
WHERE charged_in_run = '' AND request_started_at >= {_START} AND request_started_at < {_END}
"""


@dataclass(frozen=True, slots=True)
class OpenPoint:
    """How many of a kind, and the first few of them."""

    kind: str
    count: int
    examples: tuple[str, ...] = ()


def month_bounds(period: str) -> tuple[int, int]:
    """Start and end of YYYY-MM, microseconds UTC; the end does not belong to it."""
    start, after = (datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC) for text in (period, next_period(period)))
    return int(start.timestamp()) * 1_000_000, int(after.timestamp()) * 1_000_000


def open_points(client: Client, period: str, *, looks: int = 5) -> list[OpenPoint]:
    """One of each of `KINDS`, in that order. `looks`: at conservation, a second apart, while workers may be writing.

    Raises `SinkUnavailable`, `SinkRefused`."""
    start_us, end_us = month_bounds(period)
    month = {"from": start_us, "to": end_us}
    usage = _row(client, _USAGE, month)
    decisions = _row(client, _DECISIONS, month)
    missing, unclosed = _epochs(client, month)
    checks = settled_conservation(client, looks=looks)
    wrong = [f"{check.topic}[{check.partition}]: {check.problem}" for check in checks.partitions if check.problem]
    found = [
        OpenPoint("unpriced", usage[0] + decisions[0], (*usage[1], *decisions[1])[:EXAMPLES]),
        OpenPoint("orphans", usage[2], tuple(usage[3])),
        OpenPoint("without_usage", usage[4], tuple(usage[5])),
        OpenPoint("carried_over", usage[6], tuple(usage[7])),
        missing,
        unclosed,
        OpenPoint("quarantine", *_counted(_row(client, _QUARANTINE, month))),
        OpenPoint("conflicts", *_counted(_row(client, _CONFLICTS, month))),
        OpenPoint("unmetered", *_counted(_row(client, _UNMETERED, month))),
        OpenPoint("conservation", len(wrong), tuple(wrong[:EXAMPLES])),
    ]
    assert tuple(point.kind for point in found) == KINDS
    return found


def _epochs(client: Client, month: Mapping[str, int]) -> tuple[OpenPoint, OpenPoint]:
    """Missing events but those that an operator gave up, and epochs that fell silent within the month."""
    given_up: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for *key, first, after in _rows(client, _DISCARDS, {}):
        given_up.setdefault(tuple(key), []).append((first, after))
    missing = 0
    places: list[str] = []
    silent: dict[tuple[str, str], str] = {}
    for gateway, epoch, topic, partition, holes, closed, heard_us in _rows(client, _EPOCHS, month):
        place = f"{gateway} {epoch} {topic}[{partition}]"
        lacking = without(holes, given_up.get((gateway, epoch, topic, partition), []))
        if lacking:
            missing += sum(after - first for first, after in lacking)
            places.append(place)
        if not closed and heard_us < month["to"]:
            silent[gateway, epoch] = f"{gateway} {epoch}"
    unclosed = tuple(silent.values())
    return (
        OpenPoint("missing", missing, tuple(places[:EXAMPLES])),
        OpenPoint("unclosed", len(unclosed), unclosed[:EXAMPLES]),
    )


def _counted(row: tuple[Any, ...]) -> tuple[int, tuple[str, ...]]:
    return row[0], tuple(row[1])


def _row(client: Client, query: str, asked: Mapping[str, Any]) -> tuple[Any, ...]:
    return _rows(client, query, asked)[0]


def _rows(client: Client, query: str, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    try:
        return [tuple(row) for row in client.query(query, dict(asked)).result_rows]
    except FAILURES as error:
        raise sink_error("look for open points", error) from error
