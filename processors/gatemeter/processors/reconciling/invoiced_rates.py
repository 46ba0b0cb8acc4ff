"""The prices of an invoice as a rates file, of the models whose prices differ: what a repricing starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from typing import Any, Final

import yaml
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION
from gatemeter.processors.metadata.views import Rate, RateTier
from gatemeter.processors.pricing.ratesfile import shown_price
from gatemeter.processors.reconciling.grain import OUTPUT_TOTAL, grain_of
from gatemeter.processors.reconciling.kept import KeptRun
from gatemeter.processors.reconciling.prices import published_prices
from gatemeter.processors.reconciling.settings import ReconcileError
from gatemeter.schemas.tables import BUCKETS
from gatemeter.sinks.rows import query_rows
from gatemeter.sinks.terms.months import month_of

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
_PER_MILLION: Final = Decimal(10) ** 6
_EXACT: Final = Context(prec=40)


_BOUGHT_AS: Final = {OUTPUT_TOTAL: "output_text_visible"}
"""The bucket whose price the price of a total is, where all that is in it costs the same."""


def rates_file(client: Client, run: KeptRun, card_id: str) -> str:
    """YAML for `gatemeter rates build`: of each model whose prices differ all that the rate card has of it, with the
    invoice's price of a bucket, the middle of its days, where the invoice tells one: a card without a price of
    something used would make its usage unpriced.

    Raises `ReconcileError` where no price of a bucket differs.
    """
    asked = {"run": run.run_id, "buckets": [*BUCKETS, OUTPUT_TOTAL]}
    seen: dict[str, dict[tuple[str, str], dict[str, list[Decimal]]]] = {}
    for row in query_rows(client, "read the invoice's prices", _PRICES, asked):
        price = _EXACT.divide(row["cost"], row["quantity"])
        places = seen.setdefault(row["model"], {})
        places.setdefault((row["service_tier"], row["workload_class"]), {}).setdefault(row["token_type"], []).append(
            price
        )
    if not seen:
        raise ReconcileError(f"run {run.run_id} found no price of a token that differs")
    published, month = published_prices(client), month_of(run.period)
    models = []
    for model, places in seen.items():
        known = published.of_model(run.provider, model, month.end_us - 1)
        known = known or published.of_model(run.provider, model, month.start_us)
        told = {
            place: {bought: _per_million(each) for bought, each in found.items()} for place, found in places.items()
        }
        models += [{"provider": run.provider, "model": model, **entry} for entry in _entries(known, told)]
    card = {
        "card_id": card_id,
        "effective_from": f"{run.period}-01",
        "currency": run.currency,
        "providers": [],
        "models": models,
    }
    head = f"# Prices of {run.provider}'s invoice of {run.period}, by reconciliation {run.run_id}. Review before use.\n"
    return head + yaml.safe_dump(card, sort_keys=False)


def _entries(
    known: Mapping[tuple[str, str, str], Rate], told: Mapping[tuple[str, str], Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """Entries of one model: the card's, and those that only the invoice has. What it tells replaces the card's prices
    of any region and of requests of any size."""
    found = set()
    for (tier, workload_class, region), rate in known.items():
        place = (tier, "realtime" if workload_class == ANY_CLASS else workload_class)
        for each in rate.tiers:
            is_plain = region == ANY_REGION and each.input_tokens_above == 0
            if is_plain:
                found.add(place)
            yield _entry(tier, workload_class, region, each, told.get(place, {}) if is_plain else {})
    for (tier, workload_class), theirs in told.items():
        if (tier, workload_class) not in found:
            chosen = ANY_CLASS if workload_class == "realtime" else workload_class
            yield _entry(tier, chosen, ANY_REGION, RateTier(0, {}, {}), theirs)


def _entry(tier: str, workload_class: str, region: str, ours: RateTier, theirs: Mapping[str, str]) -> dict[str, Any]:
    said = {"service_tier": tier, "workload_class": workload_class if workload_class != ANY_CLASS else ""}
    said["region"] = region
    entry: dict[str, Any] = {name: value for name, value in said.items() if value}
    if ours.input_tokens_above:
        entry["input_tokens_above"] = ours.input_tokens_above
    listed = dict(shown_price(name, pico) for name, pico in ours.list_pico.items())
    prices = dict(shown_price(name, pico) for name, pico in ours.provider_pico.items())
    prices |= _replaced(ours.provider_pico, theirs)
    return {**entry, "prices": {**prices, **listed}, "provider_prices": prices}


def _replaced(ours: Mapping[str, int], theirs: Mapping[str, str]) -> dict[str, str]:
    """The invoice's price of each bucket: its own, or of what the invoice counts it in, where both cost us the same."""
    grain, found = grain_of((), theirs), {}
    for bucket in BUCKETS:
        counted = grain.token_type(bucket)
        same = _BOUGHT_AS.get(counted, counted)
        if counted in theirs and (bucket in (counted, same) or (bucket in ours and ours[bucket] == ours.get(same))):
            found[bucket] = theirs[counted]
    if "output_text_visible" in found and "output_text_reasoning" not in ours:
        found.setdefault("output_text_reasoning", found["output_text_visible"])
    return found


def _per_million(prices: list[Decimal]) -> str:
    """The middle one of prices a token as the price of a million tokens, to six digits after the point."""
    middle = sorted(prices)[len(prices) // 2]
    return f"{(middle * _PER_MILLION).quantize(Decimal('0.000001')).normalize():f}"
