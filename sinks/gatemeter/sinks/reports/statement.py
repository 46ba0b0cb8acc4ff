"""The statement: per month, tenant and currency what was used, what it costs, and what had no price.

`token_cost + model_cost + policy_cost + markup + cache_price - absorbed = total`; retries, estimates and internal
policy cost are parts of the total, never added to it. What caches saved is in no total: the platform's saving is what a
provider would have billed, the tenant's the charge that it would have borne less what its plan charges for the hits.
Requests, attempts and tokens are those of the tenant's own calls; guardrail models and policy decisions count as
decisions and appear as policy cost. Months are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.cents import apportion
from gatemeter.sinks.reports.money import number, pico_of

COUNTS: Final = (
    "requests",
    "attempts",
    "retries",
    "decisions",
    "input_tokens",
    "output_tokens",
    "answered_input_tokens",
    "answered_output_tokens",
    "estimated_tokens",
    "unpriced_tokens",
    "unpriced_attempts",
    "unpriced_decisions",
    "attempts_without_usage",
    "inconsistent_attempts",
    "cache_hits",
    "hits_without_price",
)
COMPONENTS: Final = ("token_cost", "model_cost", "policy_cost", "markup", "cache_price")
SAVINGS: Final = ("platform_saving", "tenant_saving")
AMOUNTS: Final = (*COMPONENTS, "absorbed", "total", "retry_cost", "estimated_charge", "internal_policy_cost", *SAVINGS)

# Lines without a currency (nothing had a price) join the tenant's only currency of the month, if it has only one.
_QUERY: Final = f"""
WITH purpose != 'policy_evaluation' AND kind = 'usage' AS own
SELECT
    month, tenant_id,
    if(l.currency = '' AND length(currencies) = 1, currencies[1], l.currency) AS in_currency,
    uniqExactIf((gateway_id, request_id), own) AS requests,
    countIf(own AND status != 'denied') AS attempts,
    countIf(own AND attempt_role NOT IN ('', 'answered') AND status != 'denied') AS retries,
    countIf(kind = 'decision') AS decisions,
    sumIf(l.input_tokens, own) AS input_tokens,
    sumIf(l.output_tokens, own) AS output_tokens,
    sumIf(l.input_tokens, own AND attempt_role = 'answered') AS answered_input_tokens,
    sumIf(l.output_tokens, own AND attempt_role = 'answered') AS answered_output_tokens,
    sumIf(l.input_tokens + l.output_tokens, own AND usage_source = 'estimated') AS estimated_tokens,
    sumIf(l.input_tokens + l.output_tokens, price_status = 'unpriced') AS unpriced_tokens,
    countIf(kind = 'usage' AND price_status = 'unpriced') AS unpriced_attempts,
    countIf(kind = 'decision' AND price_status = 'unpriced') AS unpriced_decisions,
    countIf(kind = 'usage' AND price_status = 'no_usage') AS attempts_without_usage,
    countIf(usage_consistency = 'mismatch') AS inconsistent_attempts,
    countIf(gateway_cache IN ('exact', 'semantic')) AS cache_hits,
    countIf(gateway_cache IN ('exact', 'semantic') AND isNull(l.avoided_charge)) AS hits_without_price,
    {", ".join(f"sumIf(ifNull(l.{name}, 0), own) AS {name}" for name in (*BUCKETS, *METERS))},
    sum(l.token_cost) AS token_cost, sum(l.model_cost) AS model_cost, sum(l.policy_cost) AS policy_cost,
    sum(l.markup) AS markup, sum(l.cache_price) AS cache_price, sum(l.absorbed) AS absorbed, sum(l.charge) AS total,
    sum(l.retry_cost) AS retry_cost, sumIf(l.charge, usage_source = 'estimated') AS estimated_charge,
    sum(l.internal_policy_cost) AS internal_policy_cost,
    sum(l.avoided_provider_cost) AS platform_saving, sum(l.avoided_charge - l.charge) AS tenant_saving
FROM
(
    SELECT
        *,
        toStartOfMonth(toDate(usage_hour, 'UTC')) AS month,
        groupUniqArrayIf(currency, currency != '') OVER (PARTITION BY month, tenant_id) AS currencies
    FROM charge_lines
    WHERE ({{tenant:String}} = '' OR tenant_id = {{tenant:String}})
        AND ({{month:String}} = '' OR formatDateTime(usage_hour, '%Y-%m', 'UTC') = {{month:String}})
) AS l
GROUP BY month, tenant_id, in_currency
ORDER BY month, tenant_id, in_currency
"""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One month, tenant and currency. `counts` by `COUNTS`, `tokens` by bucket and meter, `pico` by `AMOUNTS`."""

    month: date
    tenant_id: str
    currency: str  # '' where nothing had a price
    counts: Mapping[str, int]
    tokens: Mapping[str, int]
    pico: Mapping[str, int]

    def parts(self) -> dict[str, int]:
        """The components that add up to `total`, `absorbed` as what it takes away."""
        components = {name: self.pico[name] for name in COMPONENTS}
        return components | {"absorbed": -self.pico["absorbed"]}

    def cents(self) -> dict[str, int]:
        """The components in the currency's smallest unit; they add up to `total` (absorbed is subtracted)."""
        parts = apportion(self.parts(), self.currency)
        return parts | {"absorbed": -parts["absorbed"], "total": sum(parts.values())}


def statement(client: Client, *, tenant: str = "", month: str = "") -> list[StatementLine]:
    """Lines by month, tenant, currency. `tenant` '' and `month` '' (else `YYYY-MM`): all.

    Raises `ValueError` for another form of month, `SinkUnavailable`, `SinkRefused`.
    """
    check_month(month)
    try:
        rows = client.query(_QUERY, {"tenant": tenant, "month": month}).named_results()
        return [_line(row) for row in rows]
    except FAILURES as error:
        raise sink_error("read the statement", error) from error


def check_month(month: str) -> None:
    """Raises `ValueError` unless `month` is `YYYY-MM` or ''."""
    try:
        good = not month or (len(month) == 7 and date.fromisoformat(f"{month}-01") is not None)
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"month: must be YYYY-MM, for example 2026-11, got {month!r}")


def _line(row: Mapping[str, Any]) -> StatementLine:
    return StatementLine(
        month=row["month"],
        tenant_id=row["tenant_id"],
        currency=row["in_currency"],
        counts={name: number(row[name]) for name in COUNTS},
        tokens={name: number(row[name]) for name in (*BUCKETS, *METERS)},
        pico={name: pico_of(row[name]) for name in AMOUNTS},
    )
