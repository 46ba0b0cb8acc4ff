"""The check of windows: what the facts say they added, minute by minute and dimension by dimension, and what is held.

Two comparisons, both exact. By partition, gateway and minute: tokens and money of all rows, superseded ones included.
By every dimension too: each measure, where no revision moved usage between dimensions. The dimensions of attempts with
several revisions are compared as one in each minute: which of them a difference was taken from is not in the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS
from gatemeter.sinks.reports.audit import Finding, listed, ok, wrong
from gatemeter.sinks.rows import query_rows

CHECK: Final = "windows"
_GROUP: Final = ("topic", "partition", "gateway_id", "window_start")
_DIMENSIONS: Final = (
    "tenant_id",
    "app_id",
    "workload_id",
    "provider",
    "model",
    "purpose",
    "evidence_grade",
    "usage_source",
    "policy_id",
    "outcome",
    "currency",
)
_MONEY: Final = (
    *("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost"),
    *("markup", "cache_price", "charge"),
)
_DECIDED: Final = ("list_cost", "provider_cost", "policy_cost", "markup", "charge")
_MEASURES: Final = (
    "attempts",
    "decisions",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "reasoning_tokens",
    "unpriced_tokens",
    "latency_us",
    *_MONEY,
)
_ALWAYS: Final = ("tokens", "cost")
"""What revisions keep: the sums that each row of a fact names itself."""


def _sum(names: tuple[str, ...]) -> str:
    return " + ".join(f"ifNull({name}, 0)" for name in names)


_IN: Final = _sum(INPUT_BUCKETS)
_OUT: Final = _sum(OUTPUT_BUCKETS)
_READ: Final = _sum(tuple(name for name in INPUT_BUCKETS if name.endswith("_cache_read")))
_DIMS: Final = ", ".join(_DIMENSIONS)
_KEY: Final = ", ".join(_GROUP)
_ZERO: Final = "toDecimal128(0, 12)"

_USAGE: Final = f"""
SELECT topic, partition, gateway_id, toDateTime64(toStartOfMinute(request_started_at), 6, 'UTC') AS window_start,
    tenant_id, app_id, workload_id, provider, model, purpose, evidence_grade, usage_source,
    '' AS policy_id, status AS outcome, currency,
    window_tokens AS tokens, window_cost AS cost,
    fresh AND usage_revision = 0 AND has_response AS counts,
    toInt64(counts) AS attempts, toInt64(0) AS decisions,
    if(counts, {_IN}, 0) AS input_tokens, if(counts, {_READ}, 0) AS cache_read_tokens,
    if(counts, {_OUT}, 0) AS output_tokens, if(counts, ifNull(output_text_reasoning, 0), 0) AS reasoning_tokens,
    if(counts AND price_status = 'unpriced', {_IN} + {_OUT}, 0) AS unpriced_tokens,
    if(counts, ifNull(u.latency_us, 0), 0) AS latency_us,
    {", ".join(f"if(counts, ifNull(u.{name}, {_ZERO}), {_ZERO}) AS {name}" for name in _MONEY)}
FROM usage_facts AS u FINAL
"""


def _of_decision(name: str) -> str:
    return f"if(counts, ifNull(p.{name}, {_ZERO}), {_ZERO})" if name in _DECIDED else _ZERO


_DECISIONS: Final = f"""
SELECT topic, partition, gateway_id, toDateTime64(toStartOfMinute(request_started_at), 6, 'UTC') AS window_start,
    tenant_id, app_id, workload_id, if(billed_by = 'internal', '', billed_by) AS provider, '' AS model,
    'policy_evaluation' AS purpose, evidence_grade,
    '' AS usage_source, policy_id, outcome, currency,
    toInt64(0) AS tokens, window_cost AS cost, fresh AS counts,
    toInt64(0) AS attempts, toInt64(counts) AS decisions, toInt64(0) AS input_tokens,
    toInt64(0) AS cache_read_tokens, toInt64(0) AS output_tokens, toInt64(0) AS reasoning_tokens,
    toInt64(0) AS unpriced_tokens, if(counts, ifNull(p.latency_us, 0), 0) AS latency_us,
    {", ".join(f"{_of_decision(name)} AS {name}" for name in _MONEY)}
FROM policy_facts AS p FINAL
"""
_HELD: Final = f"""
SELECT {_KEY}, {_DIMS}, w.input_tokens + w.output_tokens AS tokens, w.charge AS cost, {", ".join(_MEASURES)}
FROM usage_windows AS w FINAL
"""
_COLUMNS: Final = f"{_KEY}, {_DIMS}, tokens, cost, {', '.join(_MEASURES)}"


def _compared(names: tuple[str, ...], *, by: str) -> str:
    """Groups whose sums over facts and over windows differ in one of `names`."""
    signed = ", ".join(f"sum(side * b.{name}) AS d_{name}" for name in names)
    return f"""
    SELECT {by}, {signed}
    FROM
    (
        SELECT toInt8(1) AS side, {_COLUMNS} FROM ({_HELD})
        UNION ALL SELECT toInt8(-1) AS side, {_COLUMNS} FROM ({_USAGE})
        UNION ALL SELECT toInt8(-1) AS side, {_COLUMNS} FROM ({_DECISIONS})
    ) AS b
    """


_BY_MINUTE: Final = f"""
{_compared(_ALWAYS, by=_KEY)}
GROUP BY {_KEY} HAVING d_tokens != 0 OR d_cost != 0
ORDER BY {_KEY}
"""
# Dimensions of attempts that have revisions: between them usage may have moved.
_MOVED: Final = f"""
SELECT DISTINCT {_KEY}, {_DIMS}
FROM ({_USAGE.replace("FROM usage_facts AS u FINAL", ", request_id, attempt FROM usage_facts AS u FINAL")})
WHERE (gateway_id, request_id, attempt) IN
    (SELECT gateway_id, request_id, attempt FROM usage_facts WHERE usage_revision > 0)
"""
_BY_DIMENSION: Final = f"""
{_compared(_MEASURES, by=f"{_KEY}, {_DIMS}")}
WHERE ({_KEY}, {_DIMS}) NOT IN ({_MOVED})
GROUP BY {_KEY}, {_DIMS} HAVING {" OR ".join(f"d_{name} != 0" for name in _MEASURES)}
ORDER BY {_KEY}, {_DIMS}
"""
_TOTALS: Final = "SELECT count() AS held, uniqExact((topic, partition)) AS places FROM usage_windows FINAL"


def check_windows(client: Client) -> Iterator[Finding]:
    """One finding a partition whose windows differ, with the first minute and dimension; one for all that agree."""
    different: dict[str, list[dict[str, Any]]] = {}
    for query in (_BY_DIMENSION, _BY_MINUTE):
        for row in query_rows(client, "compare windows with facts", query):
            different.setdefault(f"{row['topic']}[{row['partition']}]", []).append(row)
    for scope, rows in sorted(different.items()):
        first = rows[0]
        yield wrong(CHECK, scope, f"{_place(first)}: {_differences(first)}", differences=listed([*map(_plain, rows)]))
    (totals,) = query_rows(client, "count windows", _TOTALS)
    good = totals["places"] - len(different)
    if good > 0 or not different:
        yield ok(CHECK, f"{max(good, 0)} partitions", f"{totals['held']:,} windows hold what the facts say they added")


def _place(row: dict[str, Any]) -> str:
    named = [f"{name} {row[name]}" for name in ("gateway_id", *_DIMENSIONS) if row.get(name)]
    return f"minute {row['window_start']:%Y-%m-%d %H:%M}, {', '.join(named)}"


def _differences(row: dict[str, Any]) -> str:
    parts = [
        f"{name[2:]} {'+' if value > 0 else ''}{value.normalize() if name[2:] in (*_MONEY, 'cost') else value}"
        for name, value in row.items()
        if name.startswith("d_") and value
    ]
    return f"windows differ from the facts by {', '.join(parts)}"


def _plain(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in row.items() if not name.startswith("d_") or value}
