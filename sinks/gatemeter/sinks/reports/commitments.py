"""Commitments against use: what was paid for, what was used of it, and what was not, a month and commitment.

Use is the provider cost of each attempt as it stands, corrections included, and of each policy decision that the
provider bills (it names no model, tier or region). Free corrections name no provider, so they are in no commitment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.terms.commitments import Commitment, Settlement, Use, covered_providers, settle
from gatemeter.sinks.terms.months import HOUR_US, Month, month_at, month_of
from gatemeter.sinks.terms.published import commitments

_QUERY: Final = """
SELECT
    toUnixTimestamp64Micro(usage_hour) AS hour_us, provider, model, served_model, service_tier, region, currency,
    sum(a.provider_cost) AS cost, count() AS attempts, countIf(price_status = 'unpriced') AS unpriced_attempts
FROM
(
    SELECT
        usage_hour, provider, model, served_model, service_tier, region, currency, provider_cost, price_status
    FROM attempts
    WHERE status != 'denied'
    UNION ALL
    SELECT
        usage_hour, billed_by AS provider, '' AS model, '' AS served_model, '' AS service_tier, '' AS region, currency,
        provider_cost, price_status
    FROM decisions
) AS a
WHERE provider IN {providers:Array(String)}
    AND usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')
    AND usage_hour < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
GROUP BY hour_us, provider, model, served_model, service_tier, region, currency
"""


def settlements(client: Client, period: str, now_us: int) -> list[Settlement]:
    """A month's settlements by commitment; `period` '' all months since the first commitment began.

    A month that runs is settled up to the end of the hour that runs. Raises `ValueError` for another form of month,
    `SinkUnavailable`, `SinkRefused`.
    """
    known = commitments(client)
    months = [month_of(period)] if period else _months(known, now_us)
    until_us = min(months[-1].end_us, now_us // HOUR_US * HOUR_US + HOUR_US)
    chosen = [each for each in known if _reaches(each, months[0].start_us, until_us)]
    if not chosen:
        return []
    uses = _uses(client, chosen, months[0].start_us, until_us)
    return [line for month in months for line in settle(chosen, month, min(month.end_us, until_us), uses)]


def _reaches(commitment: Commitment, from_us: int, until_us: int) -> bool:
    ends_us = until_us if commitment.effective_to_us is None else commitment.effective_to_us
    return commitment.effective_from_us < until_us and ends_us > from_us


def _uses(client: Client, chosen: Sequence[Commitment], from_us: int, until_us: int) -> list[Use]:
    asked = {"providers": covered_providers(chosen), "from": from_us, "to": until_us}
    try:
        return [_use(row) for row in client.query(_QUERY, asked).named_results()]
    except FAILURES as error:
        raise sink_error("read what was used of commitments", error) from error


def _use(row: Mapping[str, Any]) -> Use:
    kind = {name: value for name, value in row.items() if name != "cost"}
    return Use(**kind, cost_pico=pico_of(row["cost"]))


def _months(known: Sequence[Commitment], now_us: int) -> list[Month]:
    first_us = min((commitment.effective_from_us for commitment in known), default=now_us)
    months = [month_at(min(first_us, now_us))]
    while months[-1].end_us <= now_us:
        months.append(months[-1].next())
    return months
