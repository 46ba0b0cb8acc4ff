"""What nobody bears yet: usage and decisions of tenants, apps and identities that are not registered, and its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import number, pico_of
from gatemeter.sinks.reports.statement import check_month

_QUERY: Final = """
SELECT
    tenant_id, app_id, workload_id, credential_fingerprint, attribution_note, u.currency AS currency,
    toUnixTimestamp64Micro(min(request_started_at)) AS first_seen,
    toUnixTimestamp64Micro(max(request_started_at)) AS last_seen,
    countIf(kind = 'usage') AS attempts, countIf(kind = 'decision') AS decisions,
    sum(u.tokens) AS tokens, sumIf(u.tokens, price_status = 'unpriced') AS unpriced_tokens,
    sum(u.provider_cost) AS provider_cost
FROM
(
    SELECT 'usage' AS kind, tenant_id, app_id, workload_id, credential_fingerprint, attribution_note, currency,
        usage_hour, request_started_at, toInt64(input_tokens + output_tokens) AS tokens, price_status, provider_cost
    FROM attempts WHERE attribution = 'unattributed'
    UNION ALL
    SELECT 'decision', tenant_id, app_id, workload_id, credential_fingerprint, attribution_note, currency, usage_hour,
        request_started_at, toInt64(0), price_status, provider_cost
    FROM decisions WHERE attribution = 'unattributed'
) AS u
WHERE ({month:String} = '' OR formatDateTime(usage_hour, '%Y-%m', 'UTC') = {month:String})
GROUP BY tenant_id, app_id, workload_id, credential_fingerprint, attribution_note, currency
ORDER BY tenant_id, app_id, workload_id, credential_fingerprint, attribution_note, currency
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits, and why (see `attribution_note` in docs/metadata.md). Times in microseconds UTC, cost in 10⁻¹²."""

    tenant_id: str
    app_id: str
    workload_id: str
    credential_fingerprint: str
    note: str
    currency: str
    first_seen_us: int
    last_seen_us: int
    attempts: int
    decisions: int
    tokens: int
    unpriced_tokens: int
    provider_pico: int


def unattributed(client: Client, *, month: str = "") -> list[Waiting]:
    """By tenant, app, workload, credential, note and currency. `month` '' (else `YYYY-MM`, of usage): all.

    Raises `ValueError` for another form of month, `SinkUnavailable`, `SinkRefused`.
    """
    check_month(month)
    try:
        rows = client.query(_QUERY, {"month": month}).result_rows
    except FAILURES as error:
        raise sink_error("look for what is unattributed", error) from error
    return [Waiting(*row[:8], *map(number, row[8:12]), pico_of(row[12])) for row in rows]  # type: ignore[call-arg]
