"""How many requests each workload made, and which of them cost the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.money import number, pico_of
from gatemeter.sinks.statements.lines import SETTINGS, asked
from gatemeter.sinks.terms.months import Month

TOP: Final = 10

# A request is its app's and workload's that is first in the alphabet, where attempts differ in that.
_COUNTED: Final = """
SELECT in_currency, app_id, workload_id, countIf(own > 0) AS requests,
    groupArraySorted({top})((-r.charge, gateway_id, request_id)) AS dearest
FROM
(
    SELECT l.gateway_id AS gateway_id, l.request_id AS request_id,
        if(l.currency = '', {{only:String}}, l.currency) AS in_currency,
        min(l.app_id) AS app_id, min(l.workload_id) AS workload_id,
        sumIf(side, l.kind = 'usage' AND l.purpose != 'policy_evaluation') AS own,
        sum(ifNull(l.charge, toDecimal128(0, 12))) AS charge
    FROM ({billed}) AS l
    WHERE l.request_id != ''
    GROUP BY gateway_id, request_id, in_currency
) AS r
GROUP BY in_currency, app_id, workload_id
"""
_DETAILS: Final = """
SELECT l.gateway_id AS gateway_id, l.request_id AS request_id,
    if(l.currency = '', {{only:String}}, l.currency) AS in_currency,
    toUnixTimestamp64Micro(min(l.usage_hour)) AS hour_us, min(l.app_id) AS app_id, min(l.workload_id) AS workload_id,
    arraySort(groupUniqArrayIf(l.model, l.model != '')) AS models,
    sumIf(side, l.kind = 'usage' AND l.status != 'denied') AS attempts,
    sumIf(side, l.kind = 'decision') AS decisions,
    sum(l.input_tokens) AS input_tokens, sum(l.output_tokens) AS output_tokens, sum(l.charge) AS charge
FROM ({billed}) AS l
WHERE (l.gateway_id, l.request_id) IN {{requests:Array(Tuple(String, String))}}
GROUP BY gateway_id, request_id, in_currency
"""


@dataclass(frozen=True, slots=True)
class TopRequest:
    """A request that cost much. `hour_us`: the hour in which it began; `pico`: what it is charged."""

    currency: str
    gateway_id: str
    request_id: str
    hour_us: int
    app_id: str
    workload_id: str
    models: tuple[str, ...]
    attempts: int
    decisions: int
    input_tokens: int
    output_tokens: int
    pico: int


@dataclass(frozen=True, slots=True)
class Requests:
    """`counts` by (currency, app, workload); `top`: by currency the dearest first, ties by gateway and id."""

    counts: Mapping[tuple[str, str, str], int]
    top: Mapping[str, Sequence[TopRequest]]

    def of(self, currency: str, app_id: str | None = None, workload_id: str | None = None) -> int:
        """How many there are of a currency, an app, a workload."""
        return sum(
            count
            for (in_currency, app, workload), count in self.counts.items()
            if in_currency == currency and app_id in (None, app) and workload_id in (None, workload)
        )


def requests_of(client: Client, tenant: str, month: Month, billed: str, only: str) -> Requests:
    """Of the lines `billed` (of `billed_sql`). `only`: the currency that lines without any join.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    parameters = {**asked(tenant, month), "only": only}
    try:
        found = client.query(_COUNTED.format(top=TOP, billed=billed), parameters, settings=SETTINGS)
        rows = list(found.named_results())
        dearest: dict[str, list[tuple[Any, str, str]]] = {}
        for row in rows:
            dearest.setdefault(row["in_currency"], []).extend(each for each in row["dearest"] if each[0] < 0)
        chosen = {currency: sorted(each)[:TOP] for currency, each in dearest.items()}
        ids = sorted({(gateway, request) for each in chosen.values() for _, gateway, request in each})
        details = {}
        if ids:
            found = client.query(_DETAILS.format(billed=billed), {**parameters, "requests": ids}, settings=SETTINGS)
            details = {(row["in_currency"], row["gateway_id"], row["request_id"]): row for row in found.named_results()}
    except FAILURES as error:
        raise sink_error("read the requests of the statement", error) from error
    counts = {(row["in_currency"], row["app_id"], row["workload_id"]): number(row["requests"]) for row in rows}
    top = {
        currency: [_top(details[currency, gateway, request]) for _, gateway, request in each]
        for currency, each in chosen.items()
    }
    return Requests(counts, top)


def _top(row: Mapping[str, Any]) -> TopRequest:
    return TopRequest(
        currency=row["in_currency"],
        gateway_id=row["gateway_id"],
        request_id=row["request_id"],
        hour_us=row["hour_us"],
        app_id=row["app_id"],
        workload_id=row["workload_id"],
        models=tuple(row["models"]),
        attempts=number(row["attempts"]),
        decisions=number(row["decisions"]),
        input_tokens=number(row["input_tokens"]),
        output_tokens=number(row["output_tokens"]),
        pico=pico_of(row["charge"]),
    )
