"""What is true now about every attempt or decision of a span of usage hours: its row, and the correction in force.

Read in slices of bounded size (hours together, or a busy hour in parts by hash of the request), so that memory does not
grow with the span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import AMOUNTS, ATTRIBUTION, AVOIDED, CorrectionRow, RowKey
from gatemeter.processors.corrections.runs import NO_LIMIT_US, Replacement, replacements_of
from gatemeter.processors.metadata.entries import HOUR_US, UNATTRIBUTED_PLAN
from gatemeter.processors.pricing.components import CACHE_HITS, quantities_of
from gatemeter.schemas.tables import BUCKETS, METERS, TABLES
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import pico_of

SLICE_ROWS: Final = 100_000
BY_HAND: Final = frozenset({"manual", "reconciliation"})

_SHARED: Final = (
    "gateway_id",
    "request_id",
    "attempt",
    "usage_hour",
    "request_started_at",
    *ATTRIBUTION,
    "credential_fingerprint",
    "identity_source",
    "attribution",
    "attribution_note",
    "evidence_grade",
    "price_status",
    "currency",
    "plan_id",
    *("list_cost", "provider_cost", "policy_cost", "markup", "absorbed", "absorbed_to", "charge"),
    "metadata_offset",
)
_COLUMNS: Final = {
    "usage_facts": (
        *_SHARED,
        *("response_hash", "status", "has_response", "purpose", "gateway_cache", "service_tier", "workload_class"),
        *("provider", "model", "served_model", "region", "delivered", "rate_card_id", "rate_card_hash", "retry_rule"),
        *("token_cost", "model_cost", "cache_price", *AVOIDED, "avoided_usage"),
        *BUCKETS,
        *METERS,
    ),
    "policy_facts": (*_SHARED, "decision_id", "content_hash", "policy_id", "prices_id", "billed_by"),
}
_NAMES: Final = {"usage_facts": "gateway_id, request_id, attempt", "policy_facts": "gateway_id, decision_id"}
_IDS: Final = {"usage_facts": "gateway_id, request_id", "policy_facts": "gateway_id, decision_id"}
_IN_SLICE: Final = (
    "usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND "
    "usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC') AND "
    "cityHash64(%s) %% {buckets:UInt64} = {bucket:UInt64}"
)


@dataclass(frozen=True, slots=True)
class UsageHours:
    """Usage hours [from, to), microseconds UTC, whole hours."""

    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A span of hours, or one of the `buckets` parts of it."""

    from_us: int
    to_us: int
    buckets: int = 1
    bucket: int = 0

    @property
    def asked(self) -> dict[str, int]:
        """As query parameters."""
        return {"from": self.from_us, "to": self.to_us, "buckets": self.buckets, "bucket": self.bucket}


@dataclass(frozen=True, slots=True)
class Truth:
    """The true row of an attempt or decision, and the replacement of it that is in force.

    `fact`: its columns, amounts as ints of 10⁻¹², times in microseconds UTC. `by_hand`: its amounts were set by a
    manual entry or a reconciliation.
    """

    key: RowKey
    fact: Mapping[str, Any]
    replacement: CorrectionRow | None = None
    by_hand: bool = False

    @property
    def quantities(self) -> dict[str, Any]:
        """Buckets and meters that an attempt's price goes by: of a hit of the cache what it echoed."""
        return quantities_of(self.fact)

    @property
    def is_hit(self) -> bool:
        """Whether it is an answer out of the gateway's cache."""
        return self.key.target == "usage" and self.fact["has_response"] and self.fact["gateway_cache"] in CACHE_HITS

    @property
    def attribution(self) -> dict[str, str]:
        """Who bears it now, by `ATTRIBUTION`."""
        own = {name: self.fact[name] for name in ATTRIBUTION}
        changed = {} if self.replacement is None else self.replacement.attribution
        return own | {name: value for name, value in changed.items() if value is not None}

    @property
    def amounts(self) -> dict[str, int | None]:
        """What counts now, before the retry rule, by `AMOUNTS`."""
        return amounts_of(self.key.target, self.fact) if self.replacement is None else self.replacement.amounts

    @property
    def terms(self) -> dict[str, str]:
        """What goes with the amounts: currency, rate card, plan, where absorbed costs go, price status, and the retry
        rule where it is not the fact's."""
        names = ("currency", "rate_card_id", "plan_id", "absorbed_to", "price_status")
        if self.replacement is not None:
            return {name: getattr(self.replacement, name) for name in (*names, "retry_rule")}
        card = "rate_card_id" if self.key.target == "usage" else "prices_id"
        return {name: self.fact[card if name == "rate_card_id" else name] for name in names} | {"retry_rule": ""}

    @property
    def is_attributed(self) -> bool:
        """Whether anybody bears it now: since it was folded, or since a correction gave it a plan."""
        return self.terms["plan_id"] != UNATTRIBUTED_PLAN.plan_id

    def replaced(
        self,
        run_id: str,
        entry: int,
        cause: str,
        reason: str,
        *,
        attribution: Mapping[str, str | None] | None = None,
        amounts: Mapping[str, int | None] | None = None,
        terms: Mapping[str, str] | None = None,
    ) -> CorrectionRow:
        """A correction that takes its place; what is not given stays as it counts now."""
        who: dict[str, str | None] = dict.fromkeys(ATTRIBUTION)
        who |= {} if self.replacement is None else self.replacement.attribution
        values: dict[str, Any] = {**who, **(attribution or {}), **self.amounts, **(amounts or {})}
        values |= {**self.terms, **(terms or {})}
        return CorrectionRow(
            run_id=run_id,
            entry=entry,
            kind="replace",
            target=self.key.target,
            gateway_id=self.key.gateway_id,
            request_id=self.key.request_id,
            attempt=self.key.attempt,
            response_hash=self.key.response_hash,
            usage_hour=self.fact["usage_hour"],
            cause=cause,
            reason=reason,
            **values,
        )


def amounts_of(target: str, fact: Mapping[str, Any]) -> dict[str, int | None]:
    """The amounts of a fact; a decision's cost is all policy cost, and it avoids nothing."""
    if target == "usage":
        return {name: fact[name] for name in AMOUNTS}
    nothing = None if fact["policy_cost"] is None else 0
    lacking = {**dict.fromkeys(("token_cost", "model_cost", "cache_price"), nothing), **dict.fromkeys(AVOIDED)}
    return {name: lacking[name] if name in lacking else fact[name] for name in AMOUNTS}


def truths(
    client: Client,
    target: str,
    hours: UsageHours,
    where: str = "1",
    asked: Mapping[str, Any] | None = None,
    *,
    among: str = "1",
) -> Iterator[Truth]:
    """True rows of `target` (usage, decision) of the span, by slice, gateway, request and attempt.

    `where`: an SQL condition on their columns, with its parameters. `among`: one that any row of an attempt must meet,
    superseded ones too, so that the others need not be read. Raises `SinkUnavailable`, `SinkRefused`.
    """
    table = "usage_facts" if target == "usage" else "policy_facts"
    for part in slices(client, table, hours, SLICE_ROWS):
        found = _replacements(client, table, target, part, among)
        for fact in _facts(client, table, part, where, asked or {}, among):
            key = _key(target, fact)
            replacement, by_hand = found.get(key, (None, False))
            yield Truth(key, fact, replacement, by_hand)


def truth_of(client: Client, target: str, request_id: str, attempt: int, gateway_id: str = "") -> list[Truth]:
    """The true rows of an attempt, or of a decision (attempt 0); several where gateways share the id."""
    table, name = ("usage_facts", "request_id") if target == "usage" else ("policy_facts", "decision_id")
    asked = {"id": request_id, "attempt": attempt, "gateway": gateway_id}
    where = f"{name} = {{id:String}} AND ({{gateway:String}} = '' OR gateway_id = {{gateway:String}})"
    if target == "usage":
        where += " AND attempt = {attempt:UInt16}"
    query = f"SELECT {_selected(table)} FROM {table} AS f WHERE {where} {_latest(table)}"
    facts = [_fact(table, values) for values in _stream(client, query, asked, f"read {target} {request_id}")]
    found = _last(
        target, replacements_of(client, NO_LIMIT_US, f"SELECT gateway_id, {name} FROM {table} WHERE {where}", asked)
    )
    return [Truth(key, fact, *found.get(key, (None, False))) for fact in facts if (key := _key(target, fact))]


def slices(client: Client, table: str, hours: UsageHours, rows: int) -> list[Slice]:
    """Slices of at most about `rows` rows that cover the hours of the span that have any."""
    query = (
        f"SELECT toUnixTimestamp64Micro(usage_hour) AS hour, count() FROM {table} "
        "WHERE usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') "
        "AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC') GROUP BY hour ORDER BY hour"
    )
    found: list[Slice] = []
    held = 0
    for hour, count in _stream(client, query, {"from": hours.from_us, "to": hours.to_us}, f"count {table}"):
        if found and found[-1].buckets == 1 and held + count <= rows:
            found[-1] = Slice(found[-1].from_us, hour + HOUR_US)
            held += count
            continue
        buckets = -(-count // rows)
        found += [Slice(hour, hour + HOUR_US, buckets, bucket) for bucket in range(buckets)]
        held = count
    return found


def _latest(table: str) -> str:
    """One row of each attempt or decision, as the views choose it."""
    row_hash = "response_hash" if table == "usage_facts" else "content_hash"
    return f"ORDER BY {_NAMES[table]}, version DESC, {row_hash} DESC LIMIT 1 BY {_NAMES[table]}"


def _selected(table: str) -> str:
    kinds = dict(TABLES[table])
    return ", ".join(
        f"toUnixTimestamp64Micro(f.{name}) AS {name}_us" if kinds[name] == "time" else f"f.{name} AS {name}"
        for name in _COLUMNS[table]
    )


def _facts(
    client: Client, table: str, part: Slice, where: str, asked: Mapping[str, Any], among: str
) -> Iterator[dict[str, Any]]:
    named, inside = _NAMES[table], _IN_SLICE % _IDS[table]
    # The truth is looked for over all hours: a better row may name another start.
    query = f"""
        SELECT {_selected(table)}
        FROM
        (
            SELECT * FROM {table}
            WHERE ({named}) IN (SELECT {named} FROM {table} WHERE {inside} AND ({among}))
            {_latest(table)}
        ) AS f
        WHERE {inside} AND ({where})
        ORDER BY {named}"""
    for values in _stream(client, query, {**asked, **part.asked}, f"read {table}"):
        yield _fact(table, values)


def _fact(table: str, values: Sequence[Any]) -> dict[str, Any]:
    kinds = dict(TABLES[table])
    return {
        name: pico_of(value) if value is not None and kinds[name].startswith("pico") else value
        for name, value in zip(_COLUMNS[table], values, strict=True)
    }


def _key(target: str, fact: Mapping[str, Any]) -> RowKey:
    if target == "usage":
        return RowKey(target, fact["gateway_id"], fact["request_id"], fact["attempt"], fact["response_hash"])
    return RowKey(target, fact["gateway_id"], fact["decision_id"], 0, fact["content_hash"])


def _replacements(
    client: Client, table: str, target: str, part: Slice, among: str
) -> dict[RowKey, tuple[CorrectionRow, bool]]:
    requests = f"SELECT {_IDS[table]} FROM {table} WHERE {_IN_SLICE % _IDS[table]} AND ({among})"
    return _last(target, replacements_of(client, NO_LIMIT_US, requests, part.asked))


def _last(target: str, found: Iterable[Replacement]) -> dict[RowKey, tuple[CorrectionRow, bool]]:
    """The replacement in force of each row, and whether the last one that set amounts was made by hand."""
    last: dict[RowKey, tuple[CorrectionRow, bool]] = {}
    for replacement in found:
        row = replacement.row
        if row.target != target:
            continue
        by_hand = last[row.key][1] if row.key in last else False
        last[row.key] = (row, by_hand if row.cause == "reorganisation" else row.cause in BY_HAND)
    return last


def _stream(client: Client, query: str, asked: Mapping[str, Any], doing: str) -> Iterator[Sequence[Any]]:
    try:
        with client.query_rows_stream(query, dict(asked)) as rows:
            yield from rows
    except FAILURES as error:
        raise sink_error(doing, error) from error
