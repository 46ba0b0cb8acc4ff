"""What stands beside the amounts: adjustments with their runs, price sources, exceptions, reconciliation, disputes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.reports.money import number, pico_of
from gatemeter.sinks.rows import query_rows
from gatemeter.sinks.statements.lines import SETTINGS, BilledLine, asked
from gatemeter.sinks.terms.months import Month

MOST_EXCEPTIONS: Final = 1_000
"""Worst and latest first; how many there are is said beside them."""

# What takes back and what is put instead are entries of one seal for one attempt: both are of the run of the latter.
# A reconciliation has a reason for each of its causes; any other run has one.
# Most hours have neither: which ones have is asked first, of a few columns.
_ADJUSTMENTS: Final = """
SELECT posting_period, usage_period, cause, run, currency, min(why) AS reason,
    countIf(reverses = '') AS entries, countIf(reverses != '') AS reversals, sum(a.charge) AS charge,
    toUnixTimestamp64Micro(max(posted_hour)) AS posted_us
FROM
(
    SELECT posting_period, usage_period, cause, currency, reverses, charge, posted_hour,
        max(if(position(reference, ':') > 0, '', reference)) OVER same AS run, max(reason) OVER same AS why
    FROM ledger_entries
    WHERE tenant_id = {tenant:String} AND (posting_period = {period:String} OR usage_period = {period:String})
        AND posted_hour IN
        (
            SELECT posted_hour FROM ledger
            WHERE tenant_id = {tenant:String} AND posted_hour >= fromUnixTimestamp64Micro({start_us:Int64}, 'UTC')
                AND cause != 'usage' AND (cause != 'late' OR usage_period != posting_period)
        )
        AND cause != 'usage' AND (cause != 'late' OR usage_period != posting_period)
    WINDOW same AS (PARTITION BY seal_id, kind, gateway_id, request_id, decision_id, attempt,
        if(kind = 'correction', entry, 0))
) AS a
GROUP BY posting_period, usage_period, cause, run, currency, if(cause = 'reconciliation', why, '')
ORDER BY posting_period, usage_period, cause, run, currency, reason
"""
_CARDS: Final = """
SELECT card_id, toUnixTimestamp64Micro(effective_from) AS from_us, content_hash, source, currency
FROM rate_cards
WHERE card_id IN {cards:Array(String)} AND effective_from < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')
    AND (isNull(effective_to) OR effective_to > fromUnixTimestamp64Micro({start_us:Int64}, 'UTC'))
ORDER BY card_id, from_us
"""
_NAME: Final = """
SELECT name, cost_centre, business_unit, organisation, plan_id FROM tenants
WHERE tenant_id = {tenant:String} AND effective_from < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')
ORDER BY effective_from DESC LIMIT 1
"""
_OF_THE_TENANT: Final = " UNION ALL ".join(
    f"SELECT tenant_id FROM {table} WHERE tenant_id = {{tenant:String}} LIMIT 1"
    for table in ("tenants", "usage_facts", "policy_facts", "ledger")
)
_KNOWN: Final = f"SELECT count() AS known FROM ({_OF_THE_TENANT})"
_EXCEPTIONS: Final = """
SELECT exception_id, kind, severity, state, state_reason, app_id, workload_id, owner,
    toUnixTimestamp64Micro(toDateTime64(first_seen_at, 6, 'UTC')) AS first_seen_us,
    toUnixTimestamp64Micro(toDateTime64(last_seen_at, 6, 'UTC')) AS last_seen_us,
    seen, expected, request_ids, requests, cost, currency, count() OVER () AS all
FROM exception_list
WHERE tenant_id = {tenant:String} AND first_seen_at < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')
    AND last_seen_at >= fromUnixTimestamp64Micro({start_us:Int64}, 'UTC')
ORDER BY indexOf(['critical', 'high', 'medium', 'low', 'info'], toString(severity)), last_seen_us DESC, exception_id
LIMIT {most:UInt32}
"""
_RECONCILED: Final = """
SELECT run_id, provider, account, state, currency, provider_cost, invoiced, variance, explained, unexplained
FROM reconciliation_status
WHERE period = {period:String} AND state != 'superseded' AND provider IN {providers:Array(String)}
ORDER BY provider, account, currency, made_at, run_id
"""
# Of this month and of those before, while they are open; and what was resolved since the month began.
_DISPUTES: Final = """
SELECT dispute_id, period, gateway_id, request_id, state, toUnixTimestamp64Micro(opened_at) AS opened_us, opened_by,
    reason,
    toUnixTimestamp64Micro(resolved_at) AS resolved_us, resolution, correction_run_id
FROM disputes
WHERE tenant_id = {tenant:String} AND period <= {period:String}
    AND (period = {period:String} OR state = 'open' OR resolved_at >= fromUnixTimestamp64Micro({start_us:Int64}, 'UTC'))
ORDER BY opened_us, dispute_id
"""
# Of the prices of a card the plainest: no tier of service, class or region, the first tier of context.
_PRICES: Final = """
SELECT card_id, provider, model, priced, list_price, provider_price
FROM rate_lines
WHERE card_id IN {cards:Array(String)} AND effective_from < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')
ORDER BY service_tier != '', workload_class != 'any', region != '', input_tokens_above, card_from DESC,
    effective_from DESC
LIMIT 1 BY card_id, provider, model, priced
"""
_SHARES: Final = """
SELECT count() AS rules FROM allocations
WHERE effective_from < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')
    AND (isNull(effective_to) OR effective_to > fromUnixTimestamp64Micro({start_us:Int64}, 'UTC'))
"""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Entries of one run (or cause) that changed what was booked. `charge_pico`: what they add, after reversals."""

    posting_period: str
    usage_period: str
    cause: str
    run: str
    currency: str
    reason: str
    entries: int
    reversals: int
    charge_pico: int
    posted_us: int


@dataclass(frozen=True, slots=True)
class PriceSource:
    """A price list that lines were priced with. `versions`: (hash, source) of those in force in the month, none for
    policy prices and lists that are not published any more."""

    card_id: str
    currency: str
    charge_pico: int
    attempts: int
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who is billed; all '' where the tenant is not registered."""

    tenant_id: str
    name: str
    cost_centre: str
    business_unit: str
    organisation: str
    plan_id: str


def tenant_of(client: Client, tenant: str, month: Month) -> Tenant:
    """As registered at the end of the month. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = _rows(client, "read the tenant", _NAME, asked(tenant, month))
    said = rows[0] if rows else dict.fromkeys(("name", "cost_centre", "business_unit", "organisation", "plan_id"), "")
    return Tenant(tenant, **said)


def is_known(client: Client, tenant: str) -> bool:
    """Whether it was ever registered, or anything was ever metered or booked of it. Raises `SinkUnavailable`,
    `SinkRefused`."""
    (row,) = _rows(client, "look for the tenant", _KNOWN, {"tenant": tenant})
    return bool(row["known"])


def adjustments(client: Client, tenant: str, month: Month) -> list[Adjustment]:
    """Those booked in the month, and those of its usage booked later. Raises `SinkUnavailable`, `SinkRefused`."""
    return [
        Adjustment(
            **{name: row[name] for name in ("posting_period", "usage_period", "cause", "run", "currency", "reason")},
            entries=number(row["entries"]),
            reversals=number(row["reversals"]),
            charge_pico=pico_of(row["charge"]),
            posted_us=row["posted_us"],
        )
        for row in _rows(client, "read adjustments", _ADJUSTMENTS, asked(tenant, month))
    ]


def price_sources(client: Client, lines: Iterable[BilledLine], month: Month) -> list[PriceSource]:
    """By price list and currency. Raises `SinkUnavailable`, `SinkRefused`."""
    sums: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        if line.rate_card_id:
            of = sums.setdefault((line.rate_card_id, line.currency), [0, 0])
            of[0] += line.total
            of[1] += line.counts["attempts"] + line.counts["decisions"]
    parameters = {"cards": sorted({card for card, _ in sums}), "start_us": month.start_us, "end_us": month.end_us}
    versions: dict[str, list[tuple[str, str]]] = {}
    for row in _rows(client, "read rate cards", _CARDS, parameters) if sums else ():
        versions.setdefault(row["card_id"], []).append((row["content_hash"], row["source"]))
    return [
        PriceSource(card, currency, charge, attempts, tuple(versions.get(card, ())))
        for (card, currency), (charge, attempts) in sorted(sums.items())
    ]


def token_prices(
    client: Client, lines: Iterable[BilledLine], month: Month
) -> dict[tuple[str, str, str, str], tuple[Fraction, Fraction]]:
    """(list, contract) price of a token in 10⁻¹² by (rate card, provider, model, bucket), of the cards of some lines.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    cards = sorted({line.rate_card_id for line in lines if line.rate_card_id})
    rows = _rows(client, "read prices", _PRICES, {"cards": cards, "end_us": month.end_us}) if cards else ()
    return {
        (row["card_id"], row["provider"], row["model"], row["priced"]): (
            Fraction(row["list_price"] or 0) * 10**12,
            Fraction(row["provider_price"] or 0) * 10**12,
        )
        for row in rows
    }


def exceptions(client: Client, tenant: str, month: Month) -> list[Mapping[str, Any]]:
    """Rows of `exception_list` that were seen in the month. Raises `SinkUnavailable`, `SinkRefused`."""
    return _rows(client, "read exceptions", _EXCEPTIONS, {**asked(tenant, month), "most": MOST_EXCEPTIONS})


def reconciliation(client: Client, lines: Sequence[BilledLine], month: Month) -> list[Mapping[str, Any]]:
    """Runs of the providers that the lines are of. Raises `SinkUnavailable`, `SinkRefused`."""
    providers = sorted({line.provider for line in lines if line.provider})
    return _rows(client, "read reconciliations", _RECONCILED, {"period": month.period, "providers": providers})


def disputes(client: Client, tenant: str, month: Month) -> list[Mapping[str, Any]]:
    """What a statement lists. Raises `SinkUnavailable`, `SinkRefused`."""
    return _rows(client, "read disputes", _DISPUTES, asked(tenant, month))


def shares_costs(client: Client, month: Month) -> bool:
    """Whether a rule of allocation is in force in the month. Raises `SinkUnavailable`, `SinkRefused`."""
    (row,) = _rows(client, "look for allocations", _SHARES, {"start_us": month.start_us, "end_us": month.end_us})
    return bool(row["rules"])


def _rows(client: Client, doing: str, query: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(query_rows(client, doing, query, parameters, SETTINGS))
