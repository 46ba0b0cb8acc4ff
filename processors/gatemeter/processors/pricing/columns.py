"""The money of many attempts at once, as columns: the same rules as `components`, held equal by tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.pricing.components import CACHE_HITS, DECISION_QUANTITIES, PPM, UNALLOCATED
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS

QUANTITIES: Final = (*BUCKETS, *METERS)
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TierTables:
    """All tiers of the rates: bounds, whether another tier follows, and prices by (tier, quantity), -1 where none."""

    above: Ints
    follows: Mask
    list_prices: Ints
    provider_prices: Ints
    missing: Mask = field(init=False)
    """Whether a quantity lacks a price on either side."""
    list_cost: Ints = field(init=False)
    cost: Ints = field(init=False)
    """Prices with 0 for those that are missing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", (self.provider_prices < 0) | (self.list_prices < 0))
        object.__setattr__(self, "list_cost", np.maximum(self.list_prices, 0))
        object.__setattr__(self, "cost", np.maximum(self.provider_prices, 0))


def half_even(amounts: Ints, ppm: Ints) -> Ints:
    """`amounts × ppm / 10⁶`, rounded half-even; exact in 64 bits within `limits`."""
    whole, part = np.divmod(amounts, PPM)
    quotient, rest = np.divmod(part * ppm, PPM)
    quotient += whole * ppm
    rounded: Ints = quotient + ((rest * 2 > PPM) | ((rest * 2 == PPM) & (quotient % 2 == 1)))
    return rounded


def _tiers_of(first: Ints, input_tokens: Ints, tables: TierTables) -> Ints:
    """Tier of each event, from the first tier of its rate: the last whose bound its input tokens exceed."""
    chosen = np.where(first < 0, 0, first)
    step = chosen.copy()
    while True:
        more = (first >= 0) & tables.follows[step]
        if not more.any():
            return chosen
        step = np.where(more, step + 1, step)
        chosen = np.where(more & (input_tokens > tables.above[step]), step, chosen)
        first = np.where(more, first, -1)


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """Of each event: whether the tenant pays, and the shares of its plan in millionths."""

    charged: Mask
    markup_ppm: Ints
    cache_price_ppm: Ints


def price_usage(events: pl.DataFrame, first_tier: Ints, tables: TierTables, terms: PlanTerms) -> pl.DataFrame:
    """Columns of `components.Amounts`, a row an event."""
    # most quantities are said by no event of a stretch: what is null everywhere costs nothing and is not looked at
    said = [at for at, name in enumerate(QUANTITIES) if events[name].null_count() < events.height]
    quantities = events.select([QUANTITIES[at] for at in said])
    known: Mask = np.zeros(events.height, np.bool_)
    for column in quantities:
        known |= column.is_not_null().to_numpy()
    cached = events["gateway_cache"].is_in(list(CACHE_HITS)).to_numpy()
    amounts = np.zeros((events.height, len(said)), np.int64)
    for at, column in enumerate(quantities):
        amounts[:, at] = column.fill_null(0).to_numpy()
    tokens = fees = listed = np.zeros(events.height, np.int64)
    missing: Mask = np.zeros(events.height, np.bool_)
    if len(tables.above):
        inputs = sum(1 for at in said if at < len(INPUT_BUCKETS))
        tier = _tiers_of(first_tier, amounts[:, :inputs].sum(axis=1), tables)
        buckets = sum(1 for at in said if at < len(BUCKETS))
        cost, list_cost = tables.cost[:, said][tier], tables.list_cost[:, said][tier]
        missing = np.logical_or.reduce((amounts > 0) & tables.missing[:, said][tier], axis=1)
        tokens = (amounts[:, :buckets] * cost[:, :buckets]).sum(axis=1)
        fees = (amounts[:, buckets:] * cost[:, buckets:]).sum(axis=1) + tables.cost[tier, -1]
        listed = (amounts * list_cost).sum(axis=1) + tables.list_cost[tier, -1]
    unpriced = known & ((first_tier < 0) | missing)
    priced = known & ~unpriced
    policy = (events["purpose"] == "policy_evaluation").to_numpy()
    lines = _Lines(tokens, fees, listed, priced, policy)
    if cached.any():
        return _with_hits(lines, cached, np.where(known, "unpriced", "no_usage"), terms)
    status = np.select([~known, unpriced], ["no_usage", "unpriced"], "priced")
    return _amounts(status, lines, np.zeros(events.height, np.bool_), terms).with_columns(*_NOTHING_AVOIDED)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Of each event the cost of its tokens and fees, the list cost, whether all has a price, whether it is policy."""

    tokens: Ints
    fees: Ints
    listed: Ints
    priced: Mask
    policy: Mask


_NOTHING_AVOIDED: Final = tuple(
    pl.lit(None, pl.Int64).alias(name) for name in ("avoided_provider_cost", "avoided_charge")
)


def _with_hits(lines: _Lines, cached: Mask, why_not: npt.NDArray[np.str_], terms: PlanTerms) -> pl.DataFrame:
    """Amounts where some events are hits of a cache: what they echo is avoided, not bought."""
    cost = lines.tokens + lines.fees
    ppm = np.where(terms.charged, terms.markup_ppm, 0)
    charge = np.where(terms.charged, cost + half_even(lines.tokens, ppm) + half_even(lines.fees, ppm), 0)
    share = np.where(terms.charged & cached, terms.cache_price_ppm, 0)
    free = cached & (share == 0)
    tokens, fees, listed = (np.where(cached, 0, each) for each in (lines.tokens, lines.fees, lines.listed))
    bought = _Lines(tokens, fees, listed, lines.priced & ~free, lines.policy)
    status = np.select([free, ~lines.priced], ["free", why_not], "priced")
    is_known = pl.Series(cached & lines.priced)
    return _amounts(status, bought, free, terms, half_even(charge, share)).with_columns(
        pl.when(is_known).then(pl.Series(values)).alias(name)
        for name, values in (("avoided_provider_cost", cost), ("avoided_charge", charge))
    )


def price_decisions(events: pl.DataFrame, prices: pl.DataFrame, terms: PlanTerms) -> pl.DataFrame:
    """Columns of `components.Amounts` and billed_by, a row a decision. `prices`: those of `fold.terms`."""
    free = (events["evaluator_request_id"].fill_null("") != "").to_numpy()
    cost = prices["pico_per_decision"].to_numpy()
    unpriced = cost < 0
    cost = np.maximum(cost, 0)
    for name, price_name in DECISION_QUANTITIES.items():
        each = prices[price_name].to_numpy()
        if each.any():
            unpriced |= events[name].is_null().to_numpy() & (each > 0)
            cost = cost + events[name].fill_null(0).to_numpy() * each
    unpriced &= ~free
    status = np.select([free, unpriced], ["free", "unpriced"], "priced")
    zero, policy = np.zeros(len(cost), np.int64), np.ones(len(cost), np.bool_)
    amounts = _amounts(status, _Lines(cost, zero, cost, ~free & ~unpriced, policy), free, terms)
    billed_by = pl.when(pl.Series(free)).then(pl.lit("")).otherwise(prices["billed_by"]).alias("billed_by")
    bills_itself = (prices["billed_by"] == INTERNAL) & (amounts["price_status"] == "priced")
    return amounts.with_columns(
        billed_by,
        *(pl.when(bills_itself).then(0).otherwise(name).alias(name) for name in ("list_cost", "provider_cost")),
        *_NOTHING_AVOIDED,
    )


def _amounts(
    status: npt.NDArray[np.str_], lines: _Lines, free: Mask, terms: PlanTerms, cache_price: Ints | None = None
) -> pl.DataFrame:
    tokens, fees, priced, policy, charged = lines.tokens, lines.fees, lines.priced, lines.policy, terms.charged
    provider = tokens + fees
    ppm = np.where(charged, terms.markup_ppm, 0)
    markup = half_even(tokens, ppm) + half_even(fees, ppm)
    pays = priced & charged
    columns = {
        "list_cost": lines.listed,
        "provider_cost": provider,
        "token_cost": np.where(policy, 0, tokens),
        "model_cost": np.where(policy, 0, fees),
        "policy_cost": np.where(policy, provider, 0),
        "markup": markup,
        "absorbed": np.where(charged, 0, provider),
        "charge": np.where(charged, provider + markup, 0),
    }
    if cache_price is not None:
        columns |= {"cache_price": cache_price, "charge": columns["charge"] + cache_price}
    is_null = pl.Series(~(priced | free))
    is_priced = pl.Series(priced)
    frame = pl.DataFrame({name: values.astype(np.int64, copy=False) for name, values in columns.items()})
    absorbed_to = np.where(priced & ~pays, UNALLOCATED, "")
    amounts = [pl.when(is_null).then(None).when(is_priced).then(pl.all()).otherwise(0).name.keep()]
    if cache_price is None:
        amounts.append(pl.when(is_null).then(None).otherwise(pl.lit(0, pl.Int64)).alias("cache_price"))
    return frame.select(amounts).with_columns(pl.Series("price_status", status), pl.Series("absorbed_to", absorbed_to))
