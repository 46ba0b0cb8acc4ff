"""The gateway's side from ClickHouse: true attempts and decisions of a provider, in sums by day and price.

Facts only: what corrections post as entries of their own is no use that a gateway saw, so it is not compared. Usage
is read in slices of requests, each within `SLICE_ROWS` rows, so memory does not grow with the span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import ATTRIBUTION
from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.rows import query_rows

SLICE_ROWS: Final = 2_500_000
QUANTITIES: Final = (*BUCKETS, *METERS)

_NAMED: Final = "gateway_id, request_id, attempt"
_PLACE: Final = ("service_tier", "workload_class", "region", "rate_card_hash")
_WHO: Final = ("gateway_id", "route", "tenant_id", "app_id")
COLUMNS: Final = (
    *(
        "response_hash",
        "request_id",
        "attempt",
        "usage_hour",
        "request_started_at",
        "provider",
        "model",
        "served_model",
    ),
    *("status", "has_response", "purpose", "usage_source", "provider_request_id", "gateway_cache", "price_status"),
    *("currency", "rate_card_id", "provider_cost"),
    *_PLACE,
    *_WHO,
    *QUANTITIES,
)
OF_THE_PROVIDER: Final = (
    "provider = {provider:String} AND gateway_cache NOT IN ('exact', 'semantic') "
    "AND status NOT IN ('denied', 'in_progress') "
    "AND usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') "
    "AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC') "
    "AND ({class:String} = '' OR if(workload_class = '', 'realtime', workload_class) = {class:String})"
)
_MONEY: Final = ("currency", "rate_card_id", "price_status", "provider_cost")
_SLICE: Final = "cityHash64(gateway_id, request_id) % {slices:UInt64} = {slice:UInt64}"
_SETTINGS: Final = {"prefer_column_name_to_alias": 1, "join_use_nulls": 0}
_ATTEMPT: Final = "cityHash64(gateway_id, request_id, attempt)"


@dataclass(frozen=True, slots=True)
class Span:
    """Hours of usage [from, to), microseconds UTC. `workload_class`: '' is all."""

    provider: str
    from_us: int
    to_us: int
    workload_class: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """As query parameters."""
        return {"provider": self.provider, "class": self.workload_class, "from": self.from_us, "to": self.to_us}


def slices_of(client: Client, rows: int = SLICE_ROWS) -> int:
    """How many slices of requests the facts are read in."""
    (count,) = query_rows(client, "count usage_facts", "SELECT count() AS facts FROM usage_facts", {})
    return max(1, -(-int(count["facts"]) // rows))


def usage_groups(
    client: Client, span: Span, bounds: Sequence[int], edges_us: Sequence[int], more: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Sums of attempts of one hour, price and currency. Raises `SinkUnavailable`, `SinkRefused`.

    `bounds`: input tokens above which a price changes; `edges_us`: instants at which one does. Both are told apart,
    so that every group has one price. `more`: columns of facts that scopes ask for. Amounts are ints of 10⁻¹².
    """
    slices = slices_of(client)
    query = _usage_query(more, has_corrections(client))
    asked: dict[str, Any] = {**span.asked, "bounds": list(bounds) or [2**62], "edges": list(edges_us) or [2**62]}
    for number in range(slices):
        for row in read(client, query, {**asked, "slices": slices, "slice": number}):
            yield {**row, "cost": pico_of(row["cost"]), "estimated_cost": pico_of(row["estimated_cost"])}


def has_corrections(client: Client) -> bool:
    """Whether any correction was ever committed."""
    found = query_rows(client, "look for corrections", "SELECT count() AS runs FROM commits", {})
    return bool(found[0]["runs"])


def true_attempts(columns: Sequence[str], condition: str, *, corrected: bool) -> str:
    """SQL of the true rows of a slice: an attempt's row with the greatest version, with its correction's money and
    bearer.

    Most attempts have one row; only those with more are sorted.
    """
    chosen = ", ".join(columns)
    repeated = f"(SELECT {_ATTEMPT} FROM usage_facts WHERE {_SLICE} GROUP BY {_ATTEMPT} HAVING count() > 1)"
    once = f"SELECT {chosen} FROM usage_facts WHERE {_SLICE} AND {condition} AND {_ATTEMPT} NOT IN {repeated}"
    newest = f"""SELECT {chosen} FROM (
        SELECT * FROM usage_facts WHERE {_SLICE} AND {_ATTEMPT} IN {repeated}
        ORDER BY {_NAMED}, version DESC, response_hash DESC LIMIT 1 BY {_NAMED}) WHERE {condition}"""
    facts = f"{once} UNION ALL {newest}"
    if not corrected:
        return facts
    changed = [f"if(r.run_id != '', r.{name}, f.{name}) AS {name}" for name in _MONEY if name in columns]
    changed += [f"ifNull(r.{name}, f.{name}) AS {name}" for name in ATTRIBUTION if name in columns]
    if "attribution" in columns:
        changed.append("if(r.plan_id IN ('', 'unattributed'), f.attribution, 'attributed') AS attribution")
    return f"""SELECT f.* REPLACE ({", ".join(changed)})
        FROM ({facts}) AS f LEFT JOIN (
            SELECT gateway_id, request_id, attempt, response_hash, run_id, plan_id, {", ".join((*_MONEY, *ATTRIBUTION))}
            FROM replacements_as_of(through = '2299-12-31 23:00:00') WHERE target = 'usage' AND {_SLICE}) AS r
        ON f.gateway_id = r.gateway_id AND f.request_id = r.request_id AND f.attempt = r.attempt
            AND f.response_hash = r.response_hash"""


def _usage_query(more: Sequence[str], corrected: bool) -> str:
    groups = {
        "hour_us": "toUnixTimestamp64Micro(usage_hour)",
        "billed_model": "if(served_model = '', model, served_model)",
        **{name: name for name in (*_PLACE, "rate_card_id", "currency")},
        "bound": f"arrayCount(b -> {_input_tokens()} > b, {{bounds:Array(Int64)}})",
        "edge": "arrayCount(e -> toUnixTimestamp64Micro(request_started_at) >= e, {edges:Array(Int64)})",
        **{name: name for name in more if name not in _PLACE},
    }
    known = "usage_source IN ('reported', 'estimated')"
    sums = [
        "min(toUnixTimestamp64Micro(request_started_at)) AS started_us",
        "count() AS attempts",
        f"countIf({known}) AS known_attempts",
        "countIf(price_status = 'priced') AS priced_attempts",
        "sum(a.provider_cost) AS cost",
        "sumIf(a.provider_cost, usage_source = 'estimated') AS estimated_cost",
        "countIf(NOT " + known + " AND status = 'cancelled') AS cancelled",
        "countIf(NOT " + known + " AND status NOT IN ('cancelled', 'ok')) AS retried",
        "countIf(NOT " + known + " AND status = 'ok') AS untold",
        *(f"sum(a.{name}) AS {name}" for name in QUANTITIES),
        *(f"sumIf(a.{name}, usage_source = 'estimated') AS estimated_{name}" for name in QUANTITIES),
        *(f"max(a.{name}) AS largest_{name}" for name in QUANTITIES),
    ]
    chosen = ", ".join(f"{text} AS {name}" for name, text in groups.items())
    attempts = true_attempts(COLUMNS, OF_THE_PROVIDER, corrected=corrected)
    return f"SELECT {chosen}, {', '.join(sums)} FROM ({attempts}) AS a GROUP BY {', '.join(groups)}"


def _input_tokens() -> str:
    return " + ".join(f"ifNull({name}, 0)" for name in BUCKETS if name.startswith("input_"))


def twice_metered(client: Client, span: Span, more: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Quantities of calls with a fact of a second gateway, beyond the first one's, by hour, model, tier and class."""
    names = (
        "service_tier",
        "workload_class",
        *(name for name in more if name not in ("service_tier", "workload_class")),
    )
    sums = ", ".join(f"sum(a.{name}) AS {name}" for name in QUANTITIES)
    columns = (
        *COLUMNS,
        "row_number() OVER (PARTITION BY provider_request_id ORDER BY gateway_id, request_id) AS place",
    )
    ids = (
        "(SELECT provider_request_id FROM usage_facts WHERE provider_request_id != '' AND "
        + OF_THE_PROVIDER
        + " AND cityHash64(provider_request_id) % {slices:UInt64} = {slice:UInt64}"
        " GROUP BY provider_request_id HAVING uniqExact(gateway_id) > 1)"
    )
    query = f"""
        SELECT toUnixTimestamp64Micro(usage_hour) AS hour_us, if(served_model = '', model, served_model) AS
        billed_model, {", ".join(names)}, {sums}
        FROM
        (
            SELECT {", ".join(columns)}
            FROM
            (
                SELECT * FROM usage_facts WHERE provider_request_id IN {ids}
                ORDER BY {_NAMED}, version DESC, response_hash DESC LIMIT 1 BY {_NAMED}
            )
            WHERE {OF_THE_PROVIDER}
        ) AS a
        WHERE place > 1
        GROUP BY hour_us, billed_model, {", ".join(names)}"""
    slices = slices_of(client)
    for number in range(slices):
        yield from read(client, query, {**span.asked, "slices": slices, "slice": number})


def decision_groups(client: Client, span: Span) -> list[dict[str, Any]]:
    """Policy decisions that the provider bills, by hour and policy: their number and cost (10⁻¹²)."""
    found = query_rows(client, "read decisions that the provider bills", _DECISIONS, span.asked)
    return [{**row, "cost": pico_of(row["cost"])} for row in found]


_DECISIONS: Final = """
SELECT
    toUnixTimestamp64Micro(usage_hour) AS hour_us, policy_id, gateway_id, tenant_id, app_id, currency,
    count() AS decisions, sum(d.provider_cost) AS cost
FROM decisions AS d
WHERE billed_by = {provider:String} AND {class:String} IN ('', 'realtime')
    AND usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')
    AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
GROUP BY hour_us, policy_id, gateway_id, tenant_id, app_id, currency
"""


def read(client: Client, query: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one slice. Raises `SinkUnavailable`, `SinkRefused`."""
    return query_rows(client, "read what gateways metered", query, asked, _SETTINGS)
