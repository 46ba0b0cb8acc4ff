"""The check of completeness: which sequences gateways announced and nobody received, and what cannot be known.

Below the highest number that an epoch announced, what was not received is missing, number by number. What a process
held in memory after its last heartbeat is unknown: its epoch is unclosed. A fact whose number nobody is said to have
received shows that the record of what was received is not whole itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.reports.audit import Finding, listed, note, ok, wrong
from gatemeter.sinks.rows import query_rows

CHECK: Final = "completeness"
HEARD_WITHIN: Final = timedelta(minutes=2)
"""Log time after its last word in which an open epoch counts as running: four heartbeats."""

_TOTALS: Final = """
SELECT uniqExact(gateway_id) AS gateways, uniqExact((gateway_id, epoch)) AS epochs,
    sum(announced_sequence) - sum(missing_events) AS received
FROM completeness
"""
_SUSPECTS: Final = """
SELECT gateway_id, epoch, topic, partition, missing, missing_events, spooled, dropped, closed, last_heard
FROM completeness WHERE missing_events > 0 OR dropped > 0 OR NOT closed
ORDER BY gateway_id, epoch, topic, partition
"""
_LOG_TIME: Final = "SELECT max(log_time) AS log_time FROM ingest_batches"
_DISCARDS: Final = """
SELECT DISTINCT gateway_id, epoch, topic, partition, first_sequence, next_sequence
FROM quarantine_discards FINAL WHERE next_sequence > first_sequence
"""
_UNANNOUNCED: Final = """
SELECT f.gateway_id AS gateway_id, f.epoch AS epoch, f.topic AS topic, f.partition AS partition,
    f.next_sequence AS fact_sequence, r.next_sequence AS received_sequence
FROM
(
    SELECT gateway_id, epoch, topic, partition, max(sequence) + 1 AS next_sequence
    FROM
    (
        SELECT gateway_id, epoch, topic, partition, sequence FROM usage_facts
        UNION ALL SELECT sender_gateway_id AS gateway_id, epoch, topic, partition, sequence FROM policy_facts
    )
    GROUP BY gateway_id, epoch, topic, partition
) AS f
LEFT JOIN
(
    SELECT gateway_id, epoch, topic, partition, max(next_sequence) AS next_sequence
    FROM gateway_epochs GROUP BY gateway_id, epoch, topic, partition
) AS r USING (gateway_id, epoch, topic, partition)
WHERE f.next_sequence > r.next_sequence
ORDER BY gateway_id, epoch, topic, partition
SETTINGS join_use_nulls = 0
"""

Interval = tuple[int, int]
Place = tuple[str, str, str, int]


def without(missing: Iterable[Interval], given_up: Iterable[Interval]) -> list[Interval]:
    """The parts of `missing` ([from, to), in order) that no interval of `given_up` covers."""
    left = list(missing)
    for first, after in given_up:
        left = [
            part
            for begin, end in left
            for part in ((begin, min(end, first)), (max(begin, after), end))
            if part[0] < part[1]
        ]
    return sorted(left)


def as_text(intervals: Sequence[Interval]) -> str:
    """Sequences for people: 3, 7 to 9; at most ten intervals, then how many more."""
    shown = [str(first) if after == first + 1 else f"{first} to {after - 1}" for first, after in intervals[:10]]
    more = f" and {len(intervals) - 10} more intervals" if len(intervals) > 10 else ""
    return ", ".join(shown) + more


def check_completeness(client: Client) -> Iterator[Finding]:
    """One finding an epoch that is not whole or not closed, and what all gateways together delivered."""
    given_up: dict[Place, list[Interval]] = {}
    for row in query_rows(client, "read quarantine_discards", _DISCARDS):
        given_up.setdefault(_place(row), []).append((row["first_sequence"], row["next_sequence"]))
    suspects = query_rows(client, "read the view completeness", _SUSPECTS)
    (clock,) = query_rows(client, "read ingest_batches", _LOG_TIME)
    for row in suspects:
        yield from _missing(row, given_up.get(_place(row), []))
    for row in query_rows(client, "compare facts with gateway_epochs", _UNANNOUNCED):
        first, after = int(row["received_sequence"]), int(row["fact_sequence"])
        yield wrong(
            CHECK,
            _scope(row),
            f"facts go up to sequence {after - 1}, but gateway_epochs knows nothing from {first} on:"
            " rows of gateway_epochs are gone",
            received_to=first,
            facts_to=after,
        )
    yield from _epochs(suspects, clock["log_time"])
    (totals,) = query_rows(client, "read the view completeness", _TOTALS)
    what = f"{totals['received']:,} events received of {totals['gateways']:,} gateways"
    yield ok(CHECK, f"{totals['epochs']:,} epochs", what, **totals)


def _missing(row: Mapping[str, Any], given_up: Sequence[Interval]) -> Iterator[Finding]:
    announced = [(int(first), int(after)) for first, after in row["missing"]]
    lacking = without(announced, given_up)
    discarded = sum(after - first for first, after in announced) - sum(after - first for first, after in lacking)
    if discarded:
        yield note(CHECK, _scope(row), f"{discarded:,} events were given up by an operator (quarantine_discards)")
    if not lacking:
        return
    count = sum(after - first for first, after in lacking)
    waiting = "" if row["closed"] or not row["spooled"] else f"; {row['spooled']:,} waited in its spool when it said so"
    yield wrong(
        CHECK,
        _scope(row),
        f"{count:,} events are missing: sequences {as_text(lacking)}{waiting}",
        missing=listed(lacking),
        missing_events=count,
        spooled=row["spooled"],
    )


def _epochs(suspects: Sequence[Mapping[str, Any]], log_time: datetime) -> Iterator[Finding]:
    """Of each epoch, over its partitions: what it dropped, and whether it ended without saying so."""
    by_epoch: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in suspects:
        by_epoch.setdefault((row["gateway_id"], row["epoch"]), []).append(row)
    for (gateway_id, epoch), rows in by_epoch.items():
        scope = f"{gateway_id} {epoch}"
        dropped = sum(row["dropped"] for row in rows)
        if dropped:
            yield note(CHECK, scope, f"{dropped:,} events were dropped by the emitter (spool full)", dropped=dropped)
        silent = [row for row in rows if not row["closed"] and row["last_heard"] + HEARD_WITHIN < log_time]
        if silent:
            heard = max(row["last_heard"] for row in silent)
            yield note(
                CHECK,
                scope,
                f"not closed, silent since {heard:%Y-%m-%d %H:%M:%S} UTC: what it held in memory then is not known",
                partitions=[f"{row['topic']}[{row['partition']}]" for row in silent],
            )


def _place(row: Mapping[str, Any]) -> Place:
    return row["gateway_id"], row["epoch"], row["topic"], int(row["partition"])


def _scope(row: Mapping[str, Any]) -> str:
    return f"{row['gateway_id']} {row['epoch']} {row['topic']}[{row['partition']}]"
