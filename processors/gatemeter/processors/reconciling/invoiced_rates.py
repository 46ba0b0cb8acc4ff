"""The prices of an invoice as a rates file, of the models whose prices differ: what a repricing starts from."""

from __future__ import annotations

from collections import defaultdict
from decimal import Context, Decimal
from typing import Any, Final

import yaml
from clickhouse_connect.driver.client import Client

from gatemeter.processors.reconciling.kept import KeptRun
from gatemeter.processors.reconciling.settings import ReconcileError
from gatemeter.schemas.tables import BUCKETS
from gatemeter.sinks.rows import query_rows

_PRICES: Final = """
SELECT model, service_tier, workload_class, token_type, invoiced_cost AS cost, invoiced_quantity AS quantity
FROM (SELECT * FROM reconciliation_lines FINAL)
WHERE run_id = {run:String} AND token_type IN {buckets:Array(String)} AND invoiced_cost > 0 AND invoiced_quantity > 0
    AND (model, service_tier, workload_class) IN
    (
        SELECT model, service_tier, workload_class FROM reconciliation_findings
        WHERE run_id = {run:String} AND cause = 'price_difference'
    )
ORDER BY model, service_tier, workload_class, token_type, billing_day
"""
_SAME_PRICE: Final = {"output_text_visible": "output_text_reasoning"}
"""A bucket that providers bill in another one, where they do not tell it apart."""

_PER_MILLION: Final = Decimal(10) ** 6
_EXACT: Final = Context(prec=40)


def rates_file(client: Client, run: KeptRun, card_id: str) -> str:
    """YAML for `gatemeter rates build`: by model, tier and class the invoice's price of each bucket, the middle of
    its days.

    Raises `ReconcileError` where no price of a bucket differs.
    """
    asked = {"run": run.run_id, "buckets": list(BUCKETS)}
    seen: dict[tuple[str, str, str], dict[str, list[Decimal]]] = defaultdict(lambda: defaultdict(list))
    for row in query_rows(client, "read the invoice's prices", _PRICES, asked):
        price = _EXACT.divide(row["cost"], row["quantity"])
        seen[row["model"], row["service_tier"], row["workload_class"]][row["token_type"]].append(price)
    if not seen:
        raise ReconcileError(f"run {run.run_id} found no price of a token that differs")
    card = {
        "card_id": card_id,
        "effective_from": f"{run.period}-01",
        "currency": run.currency,
        "providers": [],
        "models": [_model(run.provider, *place, prices) for place, prices in seen.items()],
    }
    head = f"# Prices of {run.provider}'s invoice of {run.period}, by reconciliation {run.run_id}. Review before use.\n"
    return head + yaml.safe_dump(card, sort_keys=False)


def _model(
    provider: str, model: str, tier: str, workload_class: str, prices: dict[str, list[Decimal]]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"provider": provider, "model": model}
    if tier:
        entry["service_tier"] = tier
    if workload_class == "batch":
        entry["workload_class"] = workload_class
    found = {bucket: _per_million(each) for bucket, each in prices.items()}
    for bucket, same in _SAME_PRICE.items():
        if bucket in found:
            found.setdefault(same, found[bucket])
    return {**entry, "prices": found}


def _per_million(prices: list[Decimal]) -> str:
    """The middle one of prices a token as the price of a million tokens, to six digits after the point."""
    middle = sorted(prices)[len(prices) // 2]
    return f"{(middle * _PER_MILLION).quantize(Decimal('0.000001')).normalize():f}"
