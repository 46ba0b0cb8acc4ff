"""What a seal reads from ClickHouse: the rows of an hour in binary order, the lines of its requests, what was posted.

An hour is read in ranges of keys, each small enough for memory; within a range the server computes, by the same views
that people ask (`usage_lines_as_of`, `decision_lines_as_of`, `sealed_lines_as_of`). On a replicated server every read
asks for sequential consistency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.sealing.encoding import pico_integers
from gatemeter.processors.sealing.entries import LEDGER, LINES
from gatemeter.processors.sealing.hours import Place, utc
from gatemeter.schemas.seals import HOUR_US, leaf_fields
from gatemeter.sinks.failures import FAILURES, sink_error

_SETTINGS: Final = {"select_sequential_consistency": 1}
_FACTS: Final = {"usage": "usage_facts", "decision": "policy_facts"}
_ID: Final = {"usage": "request_id", "decision": "decision_id"}
_ROW_ORDER: Final = {
    "usage": "gateway_id, request_id, attempt, response_hash",
    "decision": "gateway_id, decision_id, content_hash",
}
_LINE_ORDER: Final = {"usage": "gateway_id, request_id, attempt", "decision": "gateway_id, decision_id"}
_HOUR: Final = "fromUnixTimestamp64Micro({hour:Int64}, 'UTC')"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys (gateway, request or decision) in (after, to]; None: open on that side."""

    after: tuple[str, str] | None
    to: tuple[str, str] | None


class SealReader:
    """Reads by one client. All methods raise `SinkUnavailable` or `SinkRefused`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def floors(self, places: Sequence[Place]) -> dict[Place, int | None]:
        """The posting floor of each partition's newest checkpoint, microseconds; None where it has none."""
        found: dict[Place, int | None] = dict.fromkeys(places)
        for topic, partition in places:
            rows = self._rows(
                "SELECT toUnixTimestamp64Micro(posting_floor) FROM ingest_batches"
                " WHERE topic = {topic:String} AND partition = {partition:Int64} ORDER BY next_offset DESC LIMIT 1",
                {"topic": topic, "partition": partition},
                f"read the checkpoint of {topic}[{partition}]",
            )
            found[topic, partition] = rows[0][0] if rows else None
        return found

    def first_posted_hour(self, before_us: int) -> int | None:
        """The first hour below `before_us` to which anything was posted; None where there is none."""
        tables = ("usage_facts", "policy_facts", "commits")
        found = []
        for table in tables:
            ((count, hour_us),) = self._rows(
                f"SELECT count() > 0, toUnixTimestamp64Micro(min(posted_hour)) FROM {table}"
                " WHERE posted_hour < fromUnixTimestamp64Micro({before:Int64}, 'UTC')",
                {"before": before_us},
                "read the first posted hour",
            )
            found += [int(hour_us)] if count else []
        return min(found, default=None)

    def last_copied(self) -> tuple[int, str] | None:
        """Number and id of the last seal in the table `seals`; None where it is empty."""
        rows = self._rows("SELECT number, seal_id FROM seals ORDER BY number DESC LIMIT 1", {}, "read the table seals")
        return (rows[0][0], rows[0][1]) if rows else None

    def closed_periods(self) -> set[str]:
        """Months in the table `closed_periods`."""
        return {row[0] for row in self._rows("SELECT DISTINCT period FROM closed_periods", {}, "read closed_periods")}

    def ranges(self, kind: str, hour_us: int, size: int) -> list[KeyRange]:
        """Ranges of at most about `size` rows (more only where one request has more), in binary order, that hold all
        requests (kind `usage`) or decisions which the seal of an hour has to do with; none for an hour without any."""
        name = _ID[kind]
        ((count,),) = self._rows(f"SELECT count() FROM ({_scope(kind, '1')})", {"hour": hour_us}, "count an hour")
        if count <= size:
            return [KeyRange(None, None)] if count else []
        query = f"""
            SELECT DISTINCT gateway_id, {name} FROM
            (
                SELECT gateway_id, {name}, row_number() OVER (ORDER BY gateway_id, {name}) AS place
                FROM ({_scope(kind, "1")})
            )
            WHERE place % {{size:UInt64}} = 0 ORDER BY gateway_id, {name}
        """
        cuts = self._rows(query, {"hour": hour_us, "size": size}, f"cut the {kind} of an hour")
        edges = [None, *((str(gateway), str(key)) for gateway, key in cuts), None]
        return [KeyRange(after, to) for after, to in pairwise(edges)]

    def leaf_rows(self, kind: str, hour_us: int, keys: KeyRange) -> pa.Table:
        """The rows of facts posted in the hour within the range, in binary order; the columns of their leaves."""
        columns = ", ".join(f"`{name}`" for name in leaf_fields(kind))
        where, asked = _within(kind, keys)
        query = (
            f"SELECT {columns} FROM {_FACTS[kind]} FINAL WHERE posted_hour = {_HOUR} AND {where}"
            f" ORDER BY {_ROW_ORDER[kind]}"
        )
        return self._arrow(query, {"hour": hour_us, **asked}, f"read the {kind} of an hour", text=False)

    def lines(self, kind: str, hour_us: int, keys: KeyRange) -> pl.DataFrame:
        """All lines, as of the hour, of the requests or decisions in the range that the hour has to do with."""
        name = _ID[kind]
        where, asked = _within(kind, keys)
        query = (
            f"SELECT {', '.join(LINES)} FROM {kind}_lines_as_of(through = {_quoted_hour(hour_us)})"
            f" WHERE {where} AND (gateway_id, {name}) IN ({_scope(kind, where)}) ORDER BY {_LINE_ORDER[kind]}"
        )
        return _frame(self._arrow(query, {"hour": hour_us, **asked}, f"read the lines of {kind}", text=True), LINES)

    def posted(self, kind: str, hour_us: int, keys: KeyRange) -> pl.DataFrame:
        """What seals of earlier hours hold of the same requests or decisions: entries that nothing has taken back."""
        name = _ID[kind]
        where, asked = _within(kind, keys)
        earlier = (
            f"SELECT gateway_id, {name} FROM {_FACTS[kind]} WHERE posted_hour < {_HOUR} AND {where}"
            f" AND (gateway_id, {name}) IN ({_scope(kind, where)})"
        )
        by_request = f" AND request_id IN (SELECT {name} FROM ({earlier}))" if kind == "usage" else ""
        query = (
            f"SELECT {', '.join(LEDGER)} FROM sealed_lines_as_of(through = {_quoted_hour(hour_us - HOUR_US)})"
            f" WHERE kind = '{kind}' AND {where}{by_request} AND (gateway_id, {name}) IN ({earlier})"
            f" ORDER BY {_LINE_ORDER[kind]}"
        )
        return _frame(self._arrow(query, {"hour": hour_us, **asked}, f"read the ledger of {kind}", text=True), LEDGER)

    def irregular_attempts(self, hour_us: int, keys: KeyRange) -> list[Mapping[str, Any]]:
        """Attempts in the range with a row posted in the hour whose rows contradict each other, in binary order.

        `starts`: starts of the request (microseconds), several where they differ; `hashes`: the contents of one usage
        revision where a row of the hour made them more than one; both over all rows posted up to the hour.
        """
        where, asked = _within("usage", keys)
        query = f"""
            SELECT
                gateway_id, request_id, attempt,
                arraySort(groupUniqArrayArray(starts_of)) AS starts,
                arraySort(groupUniqArrayArray(if(length(contents) > 1 AND recorded_of > 0, contents, []))) AS hashes,
                max(recorded_of) AS recorded_us
            FROM
            (
                SELECT
                    gateway_id, request_id, attempt, usage_revision,
                    groupUniqArray(toUnixTimestamp64Micro(request_started_at)) AS starts_of,
                    groupUniqArrayIf(response_hash, has_response) AS contents,
                    max(if(posted_hour = {_HOUR}, toUnixTimestamp64Micro(recorded_at), 0)) AS recorded_of
                FROM usage_facts
                WHERE posted_hour <= {_HOUR} AND {where} AND (gateway_id, request_id) IN
                (
                    SELECT gateway_id, request_id FROM usage_facts WHERE posted_hour = {_HOUR} AND {where}
                )
                GROUP BY gateway_id, request_id, attempt, usage_revision
            )
            GROUP BY gateway_id, request_id, attempt
            HAVING recorded_us > 0 AND (length(starts) > 1 OR length(hashes) > 0)
            ORDER BY gateway_id, request_id, attempt
        """
        return self._named(query, {"hour": hour_us, **asked}, "look for contradicting rows")

    def superseded_corrections(self, hour_us: int) -> list[Mapping[str, Any]]:
        """Replacements as of the hour whose row is not the truth, where correction or truth came in the hour."""
        found: list[Mapping[str, Any]] = []
        if not self._rows(
            f"SELECT 1 FROM commits WHERE posted_hour <= {_HOUR} LIMIT 1", {"hour": hour_us}, "read commits"
        ):
            return found
        for kind, truth in (("usage", "attempts_as_of"), ("decision", "decisions_as_of")):
            key, fact_hash = _ID[kind], "response_hash" if kind == "usage" else "content_hash"
            attempt = "t.attempt = r.attempt AND" if kind == "usage" else ""
            query = f"""
                SELECT
                    r.target AS target, r.gateway_id AS gateway_id, r.request_id AS request_id, r.attempt AS attempt,
                    r.run_id AS run_id, r.entry AS entry, r.response_hash AS corrected_hash, t.true_hash AS true_hash,
                    toUnixTimestamp64Micro(greatest(r.committed_hour, t.posted_hour)) AS recorded_us
                FROM (SELECT * FROM replacements_as_of(through = {_quoted_hour(hour_us)}) WHERE target = '{kind}') AS r
                INNER JOIN
                (
                    SELECT gateway_id, {key} AS request_id, attempt, {fact_hash} AS true_hash, posted_hour
                    FROM {truth}(through = {_quoted_hour(hour_us)})
                    WHERE (gateway_id, {key}) IN
                    (
                        SELECT gateway_id, request_id
                        FROM replacements_as_of(through = {_quoted_hour(hour_us)}) WHERE target = '{kind}'
                    )
                ) AS t
                ON {attempt} t.gateway_id = r.gateway_id AND t.request_id = r.request_id
                WHERE r.response_hash != t.true_hash AND (r.committed_hour = {_HOUR} OR t.posted_hour = {_HOUR})
                ORDER BY gateway_id, request_id, attempt, corrected_hash
            """
            found += self._named(query, {"hour": hour_us}, "look for superseded corrections")
        return found

    def _rows(self, query: str, asked: Mapping[str, Any], doing: str) -> Sequence[Sequence[Any]]:
        try:
            return self._client.query(query, dict(asked), settings=_SETTINGS).result_rows
        except FAILURES as error:
            raise sink_error(doing, error) from error

    def _named(self, query: str, asked: Mapping[str, Any], doing: str) -> list[Mapping[str, Any]]:
        try:
            return list(self._client.query(query, dict(asked), settings=_SETTINGS).named_results())
        except FAILURES as error:
            raise sink_error(doing, error) from error

    def _arrow(self, query: str, asked: Mapping[str, Any], doing: str, *, text: bool) -> pa.Table:
        try:
            return self._client.query_arrow(query, dict(asked), settings=_SETTINGS, use_strings=text)
        except (*FAILURES, pa.ArrowException) as error:
            raise sink_error(doing, error) from error


def _scope(kind: str, where: str) -> str:
    """Keys of what is posted in the hour: facts, and the targets of corrections that were committed in it."""
    name = _ID[kind]
    targets = where.replace(name, "request_id")
    return (
        f"SELECT gateway_id, {name} FROM {_FACTS[kind]} WHERE posted_hour = {_HOUR} AND {where}"
        f" UNION ALL SELECT gateway_id, request_id AS {name} FROM corrections"
        f" WHERE kind = 'replace' AND target = '{kind}' AND {targets}"
        f" AND run_id IN (SELECT run_id FROM commits FINAL WHERE posted_hour = {_HOUR})"
    )


def _within(kind: str, keys: KeyRange) -> tuple[str, dict[str, str]]:
    """A condition in simple comparisons, which the primary key can use, and its parameters."""
    name = _ID[kind]
    conditions: list[str] = ["1"]
    asked: dict[str, str] = {}
    if keys.after is not None:
        asked |= {"after_gateway": keys.after[0], "after_key": keys.after[1]}
        conditions.append(
            f"gateway_id >= {{after_gateway:String}}"
            f" AND (gateway_id > {{after_gateway:String}} OR {name} > {{after_key:String}})"
        )
    if keys.to is not None:
        asked |= {"to_gateway": keys.to[0], "to_key": keys.to[1]}
        conditions.append(
            f"gateway_id <= {{to_gateway:String}}"
            f" AND (gateway_id < {{to_gateway:String}} OR {name} <= {{to_key:String}})"
        )
    return " AND ".join(f"({condition})" for condition in conditions), asked


def _quoted_hour(hour_us: int) -> str:
    """An hour as the text that a view's parameter takes; whole hours only."""
    return f"'{utc(hour_us)[:19].replace('T', ' ')}'"


def _frame(rows: pa.Table, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows with integers for times and amounts. `columns`: names and types of the frame."""
    arrays = []
    for name in columns:
        column = rows.column(name).combine_chunks()
        if pa.types.is_decimal(column.type):
            nulls = column.is_null()
            column = pa.array(pico_integers(column.fill_null(0)), pa.int64(), mask=nulls.to_numpy(zero_copy_only=False))
        elif pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        arrays.append(column)
    frame: pl.DataFrame = pl.from_arrow(pa.table(arrays, names=list(columns)))  # type: ignore[assignment]
    return frame.cast(dict(columns))  # type: ignore[arg-type]
