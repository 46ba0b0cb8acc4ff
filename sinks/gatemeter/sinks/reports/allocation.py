"""The statement after allocation: of each tenant or cost centre its own charge, what went out, what came in.

Facts, ledger and the statement itself stay as they are; the total over all lines is that of the statement, in 10⁻¹²
and in cents. Rules hold by the usage hour; one that starts within an hour holds from the next one on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.allocating import Allocated, Party, Rule, Used, allocate, bounds_of
from gatemeter.sinks.reports.cents import PICO_DIGITS, minor_digits, round_half_even
from gatemeter.sinks.reports.money import number, pico_of
from gatemeter.sinks.reports.statement import check_month

_RULES: Final = """
SELECT
    allocation_id,
    toUnixTimestamp64Micro(effective_from) AS from_us, toUnixTimestamp64Micro(effective_to) AS to_us,
    tenant_id, app_id, provider, model, method,
    arrayMap(r -> if(ifNull(r.1, '') = '', 'cost_centre', 'tenant'), receivers) AS kinds,
    arrayMap(r -> if(ifNull(r.1, '') = '', ifNull(r.2, ''), ifNull(r.1, '')), receivers) AS ids,
    arrayMap(r -> ifNull(r.3, 0), receivers) AS shares
FROM allocations
ORDER BY allocation_id, effective_from
"""
# A request counts once, with the model of its last attempt. Lines without a currency have no charge.
_USED: Final = """
SELECT
    month,
    arrayCount(bound -> toUnixTimestamp64Micro(usage_hour) >= bound, {bounds:Array(Int64)}) AS span,
    tenant_id, cost_centre, app_id, provider, priced_model AS model, currency,
    sum(l.charge) AS charge,
    sumIf(l.input_tokens + l.output_tokens, own) AS tokens,
    countIf(own AND place = 1) AS requests,
    sumIf(l.input_tokens + l.output_tokens, price_status = 'unpriced') AS unpriced_tokens
FROM
(
    SELECT
        *,
        kind = 'usage' AND purpose != 'policy_evaluation' AS own,
        if(served_model = '', model, served_model) AS priced_model,
        toStartOfMonth(toDate(usage_hour, 'UTC')) AS month,
        row_number() OVER (PARTITION BY gateway_id, request_id ORDER BY own DESC, attempt DESC) AS place
    FROM charge_lines
    WHERE ({month:String} = '' OR formatDateTime(usage_hour, '%Y-%m', 'UTC') = {month:String})
) AS l
GROUP BY month, span, tenant_id, cost_centre, app_id, provider, model, currency
ORDER BY month, span, tenant_id, cost_centre, app_id, provider, model, currency
"""


@dataclass(slots=True)
class AllocatedLine:
    """One party of a month and currency; amounts in 10⁻¹² units and, in `cents`, in the currency's smallest unit."""

    month: date
    party: Party
    currency: str
    pico: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("own", "out", "in"), 0))
    cents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("own", "out", "in"), 0))

    def total(self, amounts: Mapping[str, int]) -> int:
        """`own - out + in`."""
        return amounts["own"] - amounts["out"] + amounts["in"]


def allocation(client: Client, *, month: str = "") -> tuple[list[AllocatedLine], Allocated]:
    """Lines by month, currency and party, and the shares behind them. `month` '' (else `YYYY-MM`): all.

    Raises `ValueError` for another form of month, `SinkUnavailable`, `SinkRefused`.
    """
    check_month(month)
    try:
        rules = [_rule(row) for row in client.query(_RULES).named_results()]
        asked: dict[str, Any] = {"bounds": bounds_of(rules), "month": month}
        used = [_used(row) for row in client.query(_USED, asked).named_results()]
    except FAILURES as error:
        raise sink_error("read what is shared", error) from error
    allocated = allocate(used, rules)
    return lines_of(used, allocated), allocated


def lines_of(used: Sequence[Used], allocated: Allocated) -> list[AllocatedLine]:
    """The parties of some months: all that used anything, and all that receive."""
    lines: dict[tuple[date, str, Party], AllocatedLine] = {}

    def line(month: date, currency: str, party: Party) -> AllocatedLine:
        return lines.setdefault((month, currency, party), AllocatedLine(month, party, currency))

    for each in used:
        line(each.month, each.currency, Party("tenant", each.tenant_id)).pico["own"] += each.charge
    for own in lines.values():
        unit_pico: int = 10 ** (PICO_DIGITS - minor_digits(own.currency))
        own.cents["own"] = round_half_even(own.pico["own"], unit_pico)
    for share in allocated.shares:
        for party, side in ((Party("tenant", share.owner), "out"), (share.receiver, "in")):
            moved = line(share.month, share.currency, party)
            moved.pico[side] += share.pico
            moved.cents[side] += share.cents
    return [lines[key] for key in sorted(lines)]


def _rule(row: Mapping[str, Any]) -> Rule:
    names = ("allocation_id", "from_us", "to_us", "tenant_id", "app_id", "provider", "model", "method")
    receivers = tuple(Party(*each) for each in zip(row["kinds"], row["ids"], strict=True))
    said: dict[str, Any] = {name: row[name] for name in names}
    return Rule(**said, receivers=receivers, shares_ppm=tuple(row["shares"]))


def _used(row: Mapping[str, Any]) -> Used:
    names = ("month", "span", "tenant_id", "cost_centre", "app_id", "provider", "model", "currency")
    counts: dict[str, Any] = {name: number(row[name]) for name in ("tokens", "requests", "unpriced_tokens")}
    return Used(**{name: row[name] for name in names}, charge=pico_of(row["charge"]), **counts)
