"""Everything that the tables hold of some requests: facts, charge lines, corrections, seals, ledger, exceptions.

Rows are dictionaries by column: amounts are ints of 10⁻¹² currency units (NULL stays None), times ints of microseconds
UTC. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.rows import query_rows

Row = dict[str, Any]
Key = tuple[str, str]
"""Gateway id and request id."""

SIBLINGS: Final = 50
"""At most so many other requests of a retry group are named."""

_ALWAYS: Final = "2299-12-31 23:00:00"
_AMOUNTS: Final = (
    *("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost"),
    *("markup", "cache_price", "charge", "avoided_provider_cost", "avoided_charge", "absorbed", "retry_cost"),
)
_LINE_KEY: Final = ("kind", "gateway_id", "request_id", "decision_id", "attempt", "response_hash")
_WHO: Final = ("tenant_id", "app_id", "workload_id", "cost_centre", "business_unit", "organisation")
_LINE: Final = (*_LINE_KEY, *_WHO, "attempt_role", "price_status", "currency", "rate_card_id", "plan_id", "absorbed_to")
_GROUP: Final = (
    *("tenant_id", "app_id", "workload_id", "idempotency_key", "request_ids", "requests", "attempts"),
    *("unpriced_attempts", "answered_by_request", "currencies"),
)
_CORRECTED: Final = ("correction_run", "correction_cause", "correction_reason")
_SEARCHED: Final = {
    "trace": "trace_id",
    "idempotency_key": "idempotency_key",
    "credential": "credential_fingerprint",
    "workload": "workload_id",
}
_OF_DECISIONS: Final = frozenset({"credential", "workload"})


@dataclass(frozen=True, slots=True)
class Search:
    """Which requests: what is '' does not count. Started in [from_us, to_us), microseconds UTC; None is open."""

    trace: str = ""
    credential: str = ""
    workload: str = ""
    idempotency_key: str = ""
    from_us: int | None = None
    to_us: int | None = None

    @property
    def named(self) -> dict[str, str]:
        """What is searched by, the time apart."""
        return {name: value for name in _SEARCHED if (value := getattr(self, name))}


@dataclass(slots=True)
class RequestRows:
    """What is known of one request.

    `usage`, `decisions`: all rows of facts, superseded ones too. `lines`: what facts and corrections make of the true
    rows now; `counted`: the charge lines, of which totals are made. `corrections`: committed replacements with
    `committed_hour`, in the order of their commits. `seals`: by posted hour. `evaluates`: decisions of other requests
    that name this one as their evaluator. `siblings`: other requests of the same workload and idempotency key,
    `groups`: what all of them cost (`retry_groups`).
    """

    gateway_id: str
    request_id: str
    usage: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)
    counted: list[Row] = field(default_factory=list)
    corrections: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    exceptions: list[Row] = field(default_factory=list)
    conflicts: list[Row] = field(default_factory=list)
    seals: dict[int, Row] = field(default_factory=dict)
    evaluates: list[Row] = field(default_factory=list)
    siblings: list[str] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)


def gateways_of(client: Client, request_id: str) -> list[str]:
    """The gateways that know a request id. Raises `SinkUnavailable`, `SinkRefused`."""
    query = (
        "SELECT gateway_id FROM usage_facts WHERE request_id = {request:String}"
        " UNION DISTINCT SELECT gateway_id FROM policy_facts WHERE request_id = {request:String}"
    )
    rows = query_rows(client, "find a request", query, {"request": request_id})
    return sorted({row["gateway_id"] for row in rows})


def find_requests(client: Client, search: Search, limit: int) -> list[Key]:
    """The first `limit` requests that match all of a search, by their start. Raises as `gateways_of`."""
    tables = ["usage_facts"]
    if set(search.named) <= _OF_DECISIONS:
        tables.append("policy_facts")
    where = " AND ".join(f"{_SEARCHED[name]} = {{{name}:String}}" for name in search.named) or "1"
    if search.from_us is not None:
        where += " AND request_started_at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')"
    if search.to_us is not None:
        where += " AND request_started_at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')"
    parts = " UNION ALL ".join(
        f"SELECT gateway_id, request_id, request_started_at FROM {table} WHERE {where}" for table in tables
    )
    query = (
        f"SELECT gateway_id, request_id FROM ({parts}) GROUP BY gateway_id, request_id"
        " ORDER BY min(request_started_at), gateway_id, request_id LIMIT {limit:UInt32}"
    )
    asked = {**search.named, "from": search.from_us, "to": search.to_us, "limit": limit}
    given = {name: value for name, value in asked.items() if value is not None}
    return [(row["gateway_id"], row["request_id"]) for row in query_rows(client, "find requests", query, given)]


def read_requests(client: Client, keys: Sequence[Key]) -> list[RequestRows]:
    """What is known of each request, in the order of `keys`; a fixed number of queries. Raises as `gateways_of`."""
    found = {key: RequestRows(*key) for key in keys}
    ids = {"ids": sorted({request_id for _, request_id in keys})}
    asked = "request_id IN {ids:Array(String)}"

    def spread(name: str, rows: Iterable[Row]) -> None:
        for row in rows:
            if (row["gateway_id"], row["request_id"]) in found:
                getattr(found[row["gateway_id"], row["request_id"]], name).append(row)

    spread("usage", _facts(client, "usage_facts", f"{asked} ORDER BY attempt, version", ids))
    spread("decisions", _facts(client, "policy_facts", f"{asked} ORDER BY decision_id, version", ids))
    for view in ("usage_lines_as_of", "decision_lines_as_of"):
        names = (*_LINE, *_AMOUNTS, *_CORRECTED)
        spread("lines", _selected(client, f"{view}(through = '{_ALWAYS}')", names, asked, ids))
    counted = (*_LINE, *_AMOUNTS, "posting_period")
    spread("counted", _selected(client, "charge_lines", counted, f"{asked} ORDER BY kind, attempt, decision_id", ids))
    ledger = _facts(client, "ledger", f"{asked} ORDER BY posted_hour, entry", ids, source="ledger_entries")
    spread("ledger", ledger)
    where = f"{asked} ORDER BY recorded_at, topic, partition, offset, event_index"
    spread("exceptions", _facts(client, "exceptions", where, ids, without=("raw", "first_raw")))
    spread("conflicts", _selected(client, "attempt_conflicts", ("gateway_id", "request_id", "attempt"), asked, ids))
    requests = list(found.values())
    _evaluated(client, requests)
    _grouped(client, requests)
    _corrected(client, requests)
    _sealed(client, requests)
    return [found[key] for key in keys]


def _facts(
    client: Client, table: str, where: str, asked: Mapping[str, Any], *, source: str = "", without: tuple[str, ...] = ()
) -> list[Row]:
    names = [name for name, _ in TABLES[table] if name not in without]
    final = "" if source else "FINAL"
    return _selected(client, f"{source or table} AS t {final}", names, where, asked, kinds=dict(TABLES[table]))


def _selected(
    client: Client,
    source: str,
    names: Sequence[str],
    where: str,
    asked: Mapping[str, Any],
    *,
    kinds: Mapping[str, str] | None = None,
) -> list[Row]:
    """Columns of some rows; amounts become ints, and what `kinds` calls a time microseconds."""
    kinds = kinds or dict.fromkeys(_AMOUNTS, "pico?")
    times = {name for name in names if kinds.get(name, "").startswith("time")}
    amounts = {name for name in names if kinds.get(name, "").startswith("pico")}
    # the alias of a time differs from the column, so that WHERE and ORDER BY mean the column
    columns = ", ".join(f"toUnixTimestamp64Micro(`{n}`) AS `{n}_us`" if n in times else f"`{n}`" for n in names)
    rows = query_rows(client, f"read {source.split(' ')[0]}", f"SELECT {columns} FROM {source} WHERE {where}", asked)
    return [
        {
            name: _amount(row[name]) if name in amounts else row[f"{name}_us"] if name in times else row[name]
            for name in names
        }
        for row in rows
    ]


def _amount(value: Any) -> int | None:
    return None if value is None else pico_of(value)


def _evaluated(client: Client, requests: Sequence[RequestRows]) -> None:
    """Gives each request the decisions that name it as their evaluator."""
    query = (
        "SELECT DISTINCT gateway_id, request_id, decision_id, policy_id, evaluator_request_id FROM policy_facts"
        " WHERE evaluator_request_id IN {ids:Array(String)} ORDER BY gateway_id, decision_id"
    )
    found = query_rows(client, "find decisions of evaluators", query, {"ids": [rows.request_id for rows in requests]})
    for rows in requests:
        rows.evaluates = [row for row in found if row["evaluator_request_id"] == rows.request_id]


def _groups(rows: RequestRows) -> set[tuple[str, str]]:
    return {(row["workload_id"], row["idempotency_key"]) for row in rows.usage if row["idempotency_key"]}


def _grouped(client: Client, requests: Sequence[RequestRows]) -> None:
    """Gives each request the others of its retry group."""
    keys = {key for rows in requests for _, key in _groups(rows)}
    if not keys:
        return
    query = (
        "SELECT DISTINCT workload_id, idempotency_key, request_id FROM usage_facts"
        " WHERE idempotency_key IN {keys:Array(String)} ORDER BY workload_id, idempotency_key, request_id"
        f" LIMIT {SIBLINGS + 1} BY workload_id, idempotency_key"
    )
    found = query_rows(client, "find retry groups", query, {"keys": sorted(keys)})
    for rows in requests:
        groups = _groups(rows)
        others = {row["request_id"] for row in found if (row["workload_id"], row["idempotency_key"]) in groups}
        rows.siblings = sorted(others - {rows.request_id})[:SIBLINGS]
    amounts = ("provider_cost", "charge", "repeated_charge")
    query = f"SELECT {', '.join(_GROUP)}, {', '.join(amounts)} FROM retry_groups_of(keys = {{keys:Array(String)}})"
    totals = query_rows(client, "read retry groups", query, {"keys": sorted(keys)})
    for rows in requests:
        rows.groups = [
            {**{name: row[name] for name in _GROUP}, **{name: _amount(row[name]) for name in amounts}}
            for row in totals
            if rows.request_id in row["request_ids"]
        ]


def _corrected(client: Client, requests: Sequence[RequestRows]) -> None:
    """Gives each request the committed replacements of its attempts and decisions."""
    decisions = {id(rows): {row["decision_id"] for row in rows.decisions} for rows in requests}
    ids = {rows.request_id for rows in requests}.union(*decisions.values())
    kinds = dict(TABLES["corrections"])
    names = [name for name in kinds if name != "usage_hour"]
    columns = ", ".join(f"c.`{name}` AS `{name}`" for name in names)
    query = (
        f"SELECT DISTINCT {columns}, toUnixTimestamp64Micro(m.posted_hour) AS committed_hour, m.kid AS kid,"
        " m.posted_hour AS h, m.topic AS t, m.offset AS o"
        " FROM corrections AS c INNER JOIN (SELECT run_id, posted_hour, topic, offset, kid FROM commits FINAL) AS m"
        " ON c.run_id = m.run_id WHERE c.kind = 'replace' AND c.request_id IN {ids:Array(String)}"
        " ORDER BY h, length(t), t, o, run_id, entry"
    )
    found = query_rows(client, "read corrections of requests", query, {"ids": sorted(ids)})
    corrections = [
        {name: _amount(row[name]) if kinds[name].startswith("pico") else row[name] for name in names}
        | {"committed_hour": row["committed_hour"], "kid": row["kid"]}
        for row in found
    ]
    for rows in requests:
        own = {"usage": {rows.request_id}, "decision": decisions[id(rows)]}
        rows.corrections = [
            row
            for row in corrections
            if row["gateway_id"] == rows.gateway_id and row["request_id"] in own[str(row["target"])]
        ]


def _sealed(client: Client, requests: Sequence[RequestRows]) -> None:
    """Gives each request the seals of the hours that its rows are posted in."""
    hours = {
        hour
        for rows in requests
        for hour in (
            *(row["posted_hour"] for row in (*rows.usage, *rows.decisions, *rows.ledger)),
            *(row["committed_hour"] for row in rows.corrections),
        )
    }
    query = (
        "SELECT toUnixTimestamp64Micro(posted_hour) AS hour_us, number, seal_id, kid,"
        " toUnixTimestamp64Micro(sealed_at) AS sealed_us FROM seals FINAL"
        " WHERE toUnixTimestamp64Micro(posted_hour) IN {hours:Array(Int64)}"
    )
    found = query_rows(client, "read seals of requests", query, {"hours": sorted(hours)})
    for rows in requests:
        rows.seals = {row["hour_us"]: row for row in found}
