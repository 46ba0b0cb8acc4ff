"""Runs of corrections as they are in ClickHouse: what is staged, what was committed when, and what is in force.

A run counts from the hour in which its first COMMIT was posted, with exactly the rows that the COMMIT names by digest
and number. Rows that were written twice are read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import AMOUNTS, FIELDS, CorrectionError, CorrectionRow, Digest
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import pico_of

_ROW: Final = ", ".join(
    "toUnixTimestamp64Micro(c.usage_hour)" if name == "usage_hour" else f"c.{name}" for name in FIELDS
)
_RUN: Final = f"SELECT {_ROW} FROM corrections AS c WHERE c.run_id = {{run:String}} ORDER BY c.run_id, c.entry"
_COMMIT: Final = (
    "run_id, lower(rows_digest) AS digest, entries, cause, reason, toUnixTimestamp64Micro(posted_hour) AS hour_us, "
    "kid, topic, partition, offset, toUnixTimestamp64Micro(recorded_at) AS recorded_us"
)
_ORDER: Final = "posted_hour, length(topic), topic, offset"
"""Of commits: the posting floor never falls in a partition, and a generation of the topic follows the one before."""

# Replacements that are committed, in the order of their commits: the last of a row is in force.
_REPLACEMENTS: Final = f"""
SELECT {_ROW}, toUnixTimestamp64Micro(m.posted_hour), m.topic, m.offset
FROM corrections AS c
INNER JOIN
(
    SELECT run_id, posted_hour, topic, offset FROM commits FINAL
    WHERE posted_hour <= fromUnixTimestamp64Micro({{through:Int64}}, 'UTC')
) AS m ON c.run_id = m.run_id
WHERE c.kind = 'replace' AND (c.gateway_id, c.request_id) IN ({{requests}})
ORDER BY c.target, c.gateway_id, c.request_id, c.attempt,
    m.posted_hour, length(m.topic), m.topic, m.offset, c.run_id, c.entry
"""
NO_LIMIT_US: Final = 9_000_000_000_000_000
"""An hour after all others (year 2255)."""


class RunDiffers(CorrectionError):
    """The rows of a run are not those that its COMMIT names: somebody changed the table. Nothing of it is posted."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The first COMMIT of a run. `rows_digest` in hex; times in microseconds UTC."""

    run_id: str
    rows_digest: str
    entries: int
    cause: str
    reason: str
    posted_hour_us: int
    kid: str
    topic: str
    partition: int
    offset: int
    recorded_at_us: int

    @property
    def order(self) -> tuple[int, int, str, int]:
        """Later commits are greater."""
        return self.posted_hour_us, len(self.topic), self.topic, self.offset


@dataclass(frozen=True, slots=True)
class Replacement:
    """A committed row that takes the place of another, and where its run was committed."""

    row: CorrectionRow
    posted_hour_us: int
    topic: str
    offset: int


def staged_rows(client: Client, run_id: str) -> Iterator[CorrectionRow]:
    """The rows of a run in order of entry, equal ones once; committed or not. Streams.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    last: CorrectionRow | None = None
    for values in _stream(client, _RUN, {"run": run_id}, f"read run {run_id}"):
        row = _row(values)
        if row != last:
            yield row
        last = row


def commit_of(client: Client, run_id: str) -> Commit | None:
    """The first COMMIT of a run, None while no worker has folded one."""
    found = _commits(client, "run_id = {run:String}", {"run": run_id})
    return found[0] if found else None


def commits_in(client: Client, hour_us: int) -> list[Commit]:
    """The commits posted in one hour, in the order in which they count."""
    return _commits(client, "posted_hour = fromUnixTimestamp64Micro({hour:Int64}, 'UTC')", {"hour": hour_us})


def commits_known(client: Client) -> int:
    """How many runs are committed: the first so many in the order in which they count, whatever is folded later."""
    (values,) = _stream(client, "SELECT uniqExact(run_id) FROM commits", {}, "count the commits")
    return int(values[0])


def commits_after(client: Client, known: int) -> list[Commit]:
    """The commits beyond the first `known`, in the order in which they count."""
    return _commits(client, "1", {})[known:]


def committed_rows(client: Client, commit: Commit) -> Iterator[CorrectionRow]:
    """The rows of a committed run in order of entry.

    Raises `RunDiffers` after the last row where they are not what the COMMIT names: use them only when it ended well.
    """
    digest = Digest()
    try:
        for row in staged_rows(client, commit.run_id):
            digest.add(row)
            yield row
    except CorrectionError as error:
        raise RunDiffers(f"{error}: its rows in `corrections` were changed or lost") from error
    if (digest.value.hex(), digest.entries) != (commit.rows_digest, commit.entries):
        raise RunDiffers(
            f"run {commit.run_id}: `corrections` has {digest.entries} rows with digest {digest.value.hex()[:16]}…, "
            f"its COMMIT names {commit.entries} with digest {commit.rows_digest[:16]}…: rows were changed or lost"
        )


def committed_in(client: Client, hour_us: int) -> Iterator[CorrectionRow]:
    """All corrections posted in one hour, free entries and replacements, by run id and entry. Streams.

    Raises `RunDiffers` as `committed_rows`.
    """
    for commit in sorted(commits_in(client, hour_us), key=lambda commit: commit.run_id):
        yield from committed_rows(client, commit)


def replacements_of(
    client: Client, through_hour_us: int, requests: str, parameters: Mapping[str, Any] | None = None
) -> Iterator[Replacement]:
    """Committed replacements of the requests or decisions that a subquery names, posted up to an hour (included).

    `requests`: SQL of two columns, gateway id and request id (or decision id), for example
    `SELECT gateway_id, request_id FROM usage_facts WHERE …`, with its `parameters`. In order of target, gateway,
    request, attempt and then of commits, so that the last of a row is the one in force, while that row is the truth;
    what was committed of another row of the attempt is superseded. Streams.
    """
    query = _REPLACEMENTS.replace("{requests}", requests)
    asked = {**(parameters or {}), "through": through_hour_us}
    last: Replacement | None = None
    for values in _stream(client, query, asked, "read committed replacements"):
        found = Replacement(_row(values[: len(FIELDS)]), *values[len(FIELDS) :])
        if found != last:
            yield found
        last = found


def _commits(client: Client, where: str, asked: Mapping[str, Any]) -> list[Commit]:
    query = f"SELECT {_COMMIT} FROM commits FINAL WHERE {where} ORDER BY {_ORDER}"
    try:
        return [Commit(*values) for values in client.query(query, dict(asked)).result_rows]
    except FAILURES as error:
        raise sink_error("read commits", error) from error


def _stream(client: Client, query: str, asked: Mapping[str, Any], doing: str) -> Iterator[Sequence[Any]]:
    try:
        with client.query_rows_stream(query, dict(asked)) as rows:
            yield from rows
    except FAILURES as error:
        raise sink_error(doing, error) from error


def _row(values: Sequence[Any]) -> CorrectionRow:
    named = dict(zip(FIELDS, values, strict=True))
    for name in AMOUNTS:
        if named[name] is not None:
            named[name] = pico_of(named[name])
    return CorrectionRow(**named)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is in ClickHouse. `posted_hour_us`: None while it is staged only."""

    run_id: str
    entries: int
    cause: str
    reason: str
    posted_hour_us: int | None


def all_runs(client: Client) -> list[Run]:
    """Every staged run, the oldest first; whether its rows are what its COMMIT names is for `committed_rows` to say."""
    query = """
        SELECT s.run_id, s.entries, s.cause, s.reason, m.run_id != '', toUnixTimestamp64Micro(m.posted_hour)
        FROM
        (
            SELECT run_id, uniqExact(entry) AS entries, any(cause) AS cause, any(reason) AS reason
            FROM corrections GROUP BY run_id
        ) AS s
        LEFT JOIN (SELECT run_id, posted_hour FROM commits FINAL) AS m ON s.run_id = m.run_id
        ORDER BY s.run_id SETTINGS join_use_nulls = 0"""
    return [
        Run(run_id, entries, cause, reason, hour_us if committed else None)
        for run_id, entries, cause, reason, committed, hour_us in _stream(client, query, {}, "list the runs")
    ]
