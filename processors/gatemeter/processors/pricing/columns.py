"""The money of many attempts at once, as columns: the same rules as `components`, held equal by tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from gatemeter.processors.pricing.components import CACHE_HITS, PPM, UNALLOCATED
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


def price_usage(
    events: pl.DataFrame, first_tier: Ints, tables: TierTables, charged: Mask, markup_ppm: Ints
) -> pl.DataFrame:
    """Columns of `components.Amounts`, a row an event. `charged`: whether the tenant pays."""
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
    unpriced = known & ~cached & ((first_tier < 0) | missing)
    priced = known & ~cached & ~unpriced
    status = np.select([cached, ~known, unpriced], ["free", "no_usage", "unpriced"], "priced")
    policy = (events["purpose"] == "policy_evaluation").to_numpy()
    return _amounts(status, priced, cached, (tokens, fees, listed), charged, markup_ppm, policy)


def price_decisions(
    events: pl.DataFrame, per_decision: Ints, per_unit: Ints, charged: Mask, markup_ppm: Ints
) -> pl.DataFrame:
    """Columns of `components.Amounts`, a row a decision."""
    free = (events["evaluator_request_id"].fill_null("") != "").to_numpy()
    no_units = events["units"].is_null().to_numpy() & (per_unit > 0)
    unpriced = ~free & ((per_decision < 0) | no_units)
    priced = ~free & ~unpriced
    cost = np.maximum(per_decision, 0) + events["units"].fill_null(0).to_numpy() * per_unit
    status = np.select([free, unpriced], ["free", "unpriced"], "priced")
    zero, policy = np.zeros(len(cost), np.int64), np.ones(len(cost), np.bool_)
    return _amounts(status, priced, free, (cost, zero, cost), charged, markup_ppm, policy)


def _amounts(
    status: npt.NDArray[np.str_],
    priced: Mask,
    free: Mask,
    lines: tuple[Ints, Ints, Ints],
    charged: Mask,
    markup_ppm: Ints,
    policy: Mask,
) -> pl.DataFrame:
    tokens, fees, listed = lines
    provider = tokens + fees
    ppm = np.where(charged, markup_ppm, 0)
    markup = half_even(tokens, ppm) + half_even(fees, ppm)
    pays = priced & charged
    columns = {
        "list_cost": listed,
        "provider_cost": provider,
        "token_cost": np.where(policy, 0, tokens),
        "model_cost": np.where(policy, 0, fees),
        "policy_cost": np.where(policy, provider, 0),
        "markup": markup,
        "absorbed": np.where(charged, 0, provider),
        "charge": np.where(charged, provider + markup, 0),
    }
    is_null = pl.Series(~(priced | free))
    is_priced = pl.Series(priced)
    frame = pl.DataFrame({name: values.astype(np.int64, copy=False) for name, values in columns.items()})
    absorbed_to = np.where(priced & ~pays, UNALLOCATED, "")
    return frame.select(
        pl.when(is_null).then(None).when(is_priced).then(pl.all()).otherwise(0).name.keep()
    ).with_columns(pl.Series("price_status", status), pl.Series("absorbed_to", absorbed_to))
