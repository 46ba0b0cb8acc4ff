"""What is billed to a tenant in a month, as sums of lines: the one reading that all forms of a statement are made of.

A closed month is what the ledger booked in it (`posting_period`), reversals included: it never changes. A month that is
not closed is its usage as it stands (`charge_lines`), and what the ledger booked in it for months that were closed
before. So what a correction changes in a closed month is on the statement of the month that it is booked in, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import number, pico_of
from gatemeter.sinks.reports.statement import AMOUNTS, COUNTS, StatementLine
from gatemeter.sinks.statements.period import CLOSED, PeriodState
from gatemeter.sinks.terms.months import Month

SETTINGS: Final = {
    "do_not_merge_across_partitions_select_final": 1,
    "optimize_move_to_prewhere_if_final": 1,
    "max_bytes_before_external_group_by": 600_000_000,
}
"""The ledger is partitioned by the hour of posting, so equal keys are in one partition; the tenant is part of the key,
so copies of a row are told apart without reading those of others; big groups go to disk."""

KEYS: Final = (
    *("day", "usage_period", "cause", "reversal", "kind", "app_id", "workload_id", "cost_centre", "provider", "model"),
    *("purpose", "policy_id", "currency", "rate_card_id", "plan_id", "price_status"),
)
LINE_COUNTS: Final = (*(name for name in COUNTS if name != "requests"), "orphans", "evaluations")
LINE_AMOUNTS: Final = (*AMOUNTS, "list_cost", "provider_cost")

_OWN: Final = "(l.kind = 'usage' AND l.purpose != 'policy_evaluation')"
_READ: Final = (
    *("kind", "usage_hour", "gateway_id", "request_id", "app_id", "workload_id", "cost_centre", "provider", "model"),
    *("purpose", "status", "attempt_role", "usage_source", "usage_consistency", "gateway_cache", "policy_id"),
    *BUCKETS,
    *METERS,
    *("input_tokens", "output_tokens", "price_status", "currency", "rate_card_id", "plan_id", "list_cost"),
    *("provider_cost", "token_cost", "model_cost", "policy_cost", "markup", "cache_price", "absorbed", "charge"),
    *("retry_cost", "avoided_provider_cost", "avoided_charge"),
)
_COLUMNS: Final = ", ".join(_READ)
_START: Final = "fromUnixTimestamp64Micro({start_us:Int64}, 'UTC')"
_END: Final = "fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')"
# Nothing is booked in a month before the month began: older parts of the ledger are not read.
_BOOKED: Final = f"""
SELECT {_COLUMNS}, usage_period, toString(cause) AS cause, reverses != '' AS reversal,
    toInt64(if(reversal, -1, 1)) AS side
FROM ledger_entries
WHERE tenant_id = {{tenant:String}} AND posting_period = {{period:String}} AND posted_hour >= {_START}
"""
_STANDING: Final = f"""
SELECT {_COLUMNS}, {{{{period:String}}}} AS usage_period, 'usage' AS cause, false AS reversal, toInt64(1) AS side
FROM {{lines}}
"""
_OF_TENANT: Final = f"tenant = {{tenant:String}}, first_hour = {_START}, last_hour = subtractHours({_END}, 1)"
_AS_IT_STANDS: Final = _STANDING.format(lines=f"charge_lines_of({_OF_TENANT})")
_AS_SEALED: Final = _STANDING.format(
    lines="sealed_lines_as_of(through = '2299-12-31 23:00:00')"
    f" WHERE tenant_id = {{tenant:String}} AND usage_hour >= {_START} AND usage_hour < {_END}"
)
_WAITING: Final = f"SELECT 1 FROM unsealed_of({_OF_TENANT}) LIMIT 1"


def billed_sql(client: Client, tenant: str, state: PeriodState) -> str:
    """A subquery of all lines that are billed; parameters of `asked`. Raises `SinkUnavailable`, `SinkRefused`.

    Where no request of them waits for a seal, charge lines are those of the ledger; to read it alone is half the work.
    """
    if state.state == CLOSED:
        return _BOOKED
    try:
        waiting = client.query(_WAITING, asked(tenant, state.month)).result_rows
    except FAILURES as error:
        raise sink_error("look for usage that is not sealed", error) from error
    # Usage of earlier months is asked for by its hour, of which the ledger has an index.
    return f"{_AS_IT_STANDS if waiting else _AS_SEALED} UNION ALL {_BOOKED} AND usage_hour < {_START}"


def asked(tenant: str, month: Month) -> dict[str, Any]:
    """The parameters of the queries of a statement."""
    return {"tenant": tenant, "period": month.period, "start_us": month.start_us, "end_us": month.end_us}


def _cube_sql(billed: str) -> str:
    sums = [f"sum(l.{name}) AS {name}" for name in ("token_cost", "model_cost", "policy_cost", "markup", "cache_price")]
    buckets = [f"sumIf(ifNull(l.{name}, 0), {_OWN}) AS {name}" for name in (*BUCKETS, *METERS)]
    return f"""
SELECT
    toDate(l.usage_hour, 'UTC') AS day, l.usage_period AS usage_period, l.cause AS cause, l.reversal AS reversal,
    l.kind AS kind, l.app_id AS app_id, l.workload_id AS workload_id, l.cost_centre AS cost_centre,
    l.provider AS provider, l.model AS model, l.purpose AS purpose, l.policy_id AS policy_id, l.currency AS currency,
    l.rate_card_id AS rate_card_id, l.plan_id AS plan_id, l.price_status AS price_status,
    sumIf(side, {_OWN} AND l.status != 'denied') AS attempts,
    sumIf(side, {_OWN} AND l.attempt_role NOT IN ('', 'answered') AND l.status != 'denied') AS retries,
    sumIf(side, l.kind = 'decision') AS decisions,
    sumIf(l.input_tokens, {_OWN}) AS input_tokens,
    sumIf(l.output_tokens, {_OWN}) AS output_tokens,
    sumIf(l.input_tokens, {_OWN} AND l.attempt_role = 'answered') AS answered_input_tokens,
    sumIf(l.output_tokens, {_OWN} AND l.attempt_role = 'answered') AS answered_output_tokens,
    sumIf(l.input_tokens + l.output_tokens, {_OWN} AND l.usage_source = 'estimated') AS estimated_tokens,
    sumIf(l.input_tokens + l.output_tokens, l.price_status = 'unpriced') AS unpriced_tokens,
    sumIf(side, l.kind = 'usage' AND l.price_status = 'unpriced') AS unpriced_attempts,
    sumIf(side, l.kind = 'decision' AND l.price_status = 'unpriced') AS unpriced_decisions,
    sumIf(side, l.kind = 'usage' AND l.price_status = 'no_usage') AS attempts_without_usage,
    sumIf(side, l.status = 'orphan' AND l.price_status = 'no_usage') AS orphans,
    sumIf(side, l.kind = 'usage' AND NOT {_OWN}) AS evaluations,
    sumIf(side, l.usage_consistency = 'mismatch') AS inconsistent_attempts,
    sumIf(side, l.gateway_cache IN ('exact', 'semantic')) AS cache_hits,
    sumIf(side, l.gateway_cache IN ('exact', 'semantic') AND isNull(l.avoided_charge)) AS hits_without_price,
    {", ".join(buckets)},
    {", ".join(sums)},
    sum(l.absorbed) AS absorbed, sum(l.charge) AS total, sum(l.retry_cost) AS retry_cost,
    sumIf(l.charge, l.usage_source = 'estimated') AS estimated_charge,
    sum(l.token_cost + l.model_cost + l.policy_cost - l.provider_cost) AS internal_policy_cost,
    sum(l.avoided_provider_cost) AS platform_saving, sum(l.avoided_charge - l.charge) AS tenant_saving,
    sum(l.list_cost) AS list_cost, sum(l.provider_cost) AS provider_cost
FROM ({billed}) AS l
GROUP BY day, usage_period, cause, reversal, kind, app_id, workload_id, cost_centre, provider, model, purpose,
    policy_id, currency, rate_card_id, plan_id, price_status
"""


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A sum of lines. `counts` by `LINE_COUNTS` (`evaluations`: metered calls of guardrails), `tokens` by bucket and
    meter, `pico` by `LINE_AMOUNTS` in 10⁻¹².

    `reversal`: it takes back what was booked, its amounts are negative. `currency` '': nothing in it had a price.
    """

    day: date
    usage_period: str
    cause: str
    reversal: bool
    kind: str
    app_id: str
    workload_id: str
    cost_centre: str
    provider: str
    model: str
    purpose: str
    policy_id: str
    currency: str
    rate_card_id: str
    plan_id: str
    price_status: str
    counts: Mapping[str, int]
    tokens: Mapping[str, int]
    pico: Mapping[str, int]

    @property
    def total(self) -> int:
        """What it is charged."""
        return self.pico["total"]


def billed_lines(client: Client, tenant: str, month: Month, billed: str) -> list[BilledLine]:
    """All sums of `billed` (of `billed_sql`), in the order of their keys. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        found = client.query(_cube_sql(billed), asked(tenant, month), settings=SETTINGS)
        return sorted((_line(row) for row in found.named_results()), key=_key)
    except FAILURES as error:
        raise sink_error("read the lines of the statement", error) from error


def in_one_currency(lines: Iterable[BilledLine]) -> str:
    """The only currency there is, which lines without any join; '' where there are several or none."""
    found = {line.currency for line in lines if line.currency}
    return found.pop() if len(found) == 1 else ""


def summed(lines: Sequence[BilledLine], *, tenant: str, month: Month, currency: str, requests: int) -> StatementLine:
    """The sums of some lines as a line of `gatemeter report`, with its rounding."""
    counts = {name: sum(line.counts[name] for line in lines) for name in LINE_COUNTS}
    return StatementLine(
        month=month.first,
        tenant_id=tenant,
        currency=currency,
        counts={"requests": requests, **counts},
        tokens={name: sum(line.tokens[name] for line in lines) for name in (*BUCKETS, *METERS)},
        pico={name: sum(line.pico[name] for line in lines) for name in LINE_AMOUNTS},
    )


def _line(row: Mapping[str, Any]) -> BilledLine:
    return BilledLine(
        **{name: row[name] for name in KEYS if name != "reversal"},
        reversal=bool(row["reversal"]),
        counts={name: number(row[name]) for name in LINE_COUNTS},
        tokens={name: number(row[name]) for name in (*BUCKETS, *METERS)},
        pico={name: pico_of(row[name]) for name in LINE_AMOUNTS},
    )


def _key(line: BilledLine) -> tuple[Any, ...]:
    return tuple(getattr(line, name) for name in KEYS)
