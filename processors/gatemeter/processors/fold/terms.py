"""Attribution and prices of many events: each distinct combination is looked up in the view once, then gathered.

Every lookup of a view is constant between two of its `boundaries`, so (what is looked up, era) is the whole key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from gatemeter.processors.fold.decoding import Ints, Mask
from gatemeter.processors.metadata.attributing import VERIFIED
from gatemeter.processors.metadata.cards import ANY_REGION
from gatemeter.processors.metadata.views import Rate, View, Who
from gatemeter.processors.pricing.columns import TierTables
from gatemeter.processors.pricing.components import DECISION_QUANTITIES
from gatemeter.schemas.tables import BUCKETS, METERS

PRICED: Final = (*BUCKETS, *METERS, "request")
NO_PRICE: Final = -1
_POLICY_PRICE: Final = {
    **dict.fromkeys(("currency", "prices_id", "billed_by"), pl.String()),
    **dict.fromkeys(("pico_per_decision", *DECISION_QUANTITIES.values()), pl.Int64()),
}
"""What the price of a decision says, by the names of `PolicyPrice`."""
_ATTRIBUTED: Final = (
    *("tenant_id", "app_id", "attribution", "attribution_path", "attribution_note"),
    *("cost_centre", "business_unit", "organisation", "plan_id", "retry_rule", "retry_cost_centre"),
    *("ppm", "cache_ppm", "claims"),
)
MAX_COMBINATIONS: Final = 100_000
"""Distinct combinations that are remembered; beyond it the memory starts anew."""


class Combinations:
    """Numbers distinct combinations of key columns (and era) from 0, and calls `resolve` once for each new one."""

    def __init__(self, names: tuple[str, ...], resolve: Callable[..., None]) -> None:
        self._names = (*names, "era")
        self._resolve = resolve
        self._known: pl.DataFrame | None = None
        self.count = 0

    def numbers(self, keys: pl.DataFrame, instants: Ints) -> Ints:
        """Number of each row's combination; `instants` is a time in the row's era."""
        found = self._lookup(keys)
        if found is None or found.null_count():
            self._learn(keys, instants, found)
            found = self._lookup(keys)
        if found is None:
            raise AssertionError("combinations were not learnt")
        return found.to_numpy().astype(np.int64, copy=False)

    def _lookup(self, keys: pl.DataFrame) -> pl.Series | None:
        if self._known is None:
            return None
        return keys.join(self._known, on=self._names, how="left", maintain_order="left")["number"]

    def _learn(self, keys: pl.DataFrame, instants: Ints, found: pl.Series | None) -> None:
        unknown = keys.with_columns(pl.Series("instant", instants))
        if found is not None:
            unknown = unknown.filter(found.is_null())
        unknown = unknown.unique(subset=self._names, keep="first", maintain_order=True)
        for row in unknown.iter_rows(named=True):
            self._resolve(*(row[name] for name in self._names[:-1]), row["instant"])
        new = unknown.select(self._names).with_columns(
            pl.Series("number", range(self.count, self.count + unknown.height), dtype=pl.Int64)
        )
        self.count += unknown.height
        self._known = new if self._known is None else pl.concat([self._known, new])


@dataclass(frozen=True, slots=True)
class Attributions:
    """Of each event: text columns as a frame, and what prices need. `replaced`: of the event's columns those that
    `texts` has too, because a registered identity says whose the event is."""

    texts: pl.DataFrame
    replaced: tuple[str, ...]
    markup_ppm: Ints
    cache_price_ppm: Ints
    attributed: Mask
    accepts_claims: Mask


@dataclass(frozen=True, slots=True)
class Prices:
    """Of each event: index of the rate's first tier in the price tables (-1: no rate), and text columns."""

    tier: Ints
    texts: pl.DataFrame


class Terms:
    """Lookups of one view, remembered."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._boundaries: Ints = np.array(view.boundaries, np.int64)
        names = ("provider", "priced_model", "service_tier", "workload_class")
        self._rate_key = (*names, "region") if view.by_region else names
        """What a rate is looked up by; the region only where a price hangs on it, since each column costs."""
        registered = {"workload_id": view.workloads, "credential_fingerprint": view.credentials}
        self._registered = {name: pl.Series(sorted(ids)) for name, ids in registered.items() if ids}
        """Columns of identities of which any is registered: only then do they say who pays."""
        self._who_key = ("tenant_id", "app_id", *self._registered, *(("verified",) if self._registered else ()))
        self._reset()

    def _reset(self) -> None:
        self._who = Combinations(self._who_key, self._learn_attribution)
        self._attributions: list[tuple[Any, ...]] = []
        self._rates = Combinations(self._rate_key, self._learn_rate)
        self._rate_texts: list[tuple[str, str, str]] = []
        self._first_tier: list[int] = []
        self._tiers: list[tuple[int, bool, list[int], list[int]]] = []
        self._tables: TierTables | None = None
        self._sides = Combinations(("gateway_id", "route"), self._learn_authority)
        self._authorities: list[str] = []
        self._policies = Combinations(("policy_id",), self._learn_policy)
        self._policy_prices: list[tuple[Any, ...]] = []

    def eras(self, instants: Ints) -> Ints:
        """Era of each instant; all instants of an era have the same answers."""
        return np.searchsorted(self._boundaries, instants, side="right").astype(np.int64)

    def _bounded(self) -> None:
        if max(each.count for each in (self._who, self._rates, self._sides, self._policies)) > MAX_COMBINATIONS:
            self._reset()

    # -- attribution

    def _learn_attribution(self, *key: Any) -> None:
        *values, instant_us = key
        said = dict(zip(self._who_key, values, strict=True))
        who = Who(
            said["tenant_id"],
            said["app_id"],
            said.get("workload_id", ""),
            said.get("credential_fingerprint", ""),
            said.get("verified", False),
        )
        found = self._view.attribution_of(who, instant_us)
        plan = found.plan
        above = (found.cost_centre, found.business_unit, found.organisation)
        texts = (found.tenant_id, found.app_id, found.attribution, found.path, found.note, *above)
        named = (plan.plan_id, plan.retry_rule, plan.retry_cost_centre)
        self._attributions.append((*texts, *named, plan.markup_ppm, plan.cache_price_ppm, plan.accept_claimed_identity))

    def attributions(self, events: pl.DataFrame, eras: Ints) -> Attributions:
        """`events` has who it was (no nulls), identity_source and request_started_at."""
        self._bounded()
        keys = events.select(*self._who_columns(), pl.Series("era", eras))
        numbers = self._who.numbers(keys, events["request_started_at"].to_numpy())
        gathered = pl.DataFrame(self._attributions, schema=_ATTRIBUTED, orient="row")[numbers]
        replaced = ("tenant_id", "app_id") if self._registered else ()
        return Attributions(
            texts=gathered.select(*replaced, *_ATTRIBUTED[2:-3]),
            replaced=replaced,
            markup_ppm=gathered["ppm"].cast(pl.Int64).to_numpy(),
            cache_price_ppm=gathered["cache_ppm"].cast(pl.Int64).to_numpy(),
            attributed=(gathered["attribution"] == "attributed").to_numpy(),
            accepts_claims=gathered["claims"].cast(pl.Boolean).to_numpy(),
        )

    def _who_columns(self) -> list[pl.Expr]:
        """What attribution is looked up by; identities that nobody registered are all alike."""
        columns = [pl.col("tenant_id", "app_id")]
        for name, registered in self._registered.items():
            columns.append(
                pl.when(pl.col(name).is_in(registered.implode())).then(name).otherwise(pl.lit("")).alias(name)
            )
        if self._registered:
            columns.append(pl.col("identity_source").is_in(list(VERIFIED)).alias("verified"))
        return columns

    # -- rates

    def _learn_rate(self, provider: str, model: str, tier: str, workload_class: str, *place: Any) -> None:
        *region, instant_us = place
        rate = self._view.rate(provider, model, tier, workload_class, region[0] if region else ANY_REGION, instant_us)
        if rate is None:
            self._first_tier.append(NO_PRICE)
            self._rate_texts.append((self._view.currency(instant_us), "", ""))
            return
        self._first_tier.append(len(self._tiers))
        self._rate_texts.append((rate.currency, rate.card_id, rate.card_hash))
        self._tiers += _tier_rows(rate)

    def prices(self, events: pl.DataFrame, eras: Ints) -> Prices:
        """`events` has provider, priced_model, service_tier, workload_class, region (no nulls), request_started_at."""
        self._bounded()
        keys = events.select(*self._rate_key, pl.Series("era", eras))
        numbers = self._rates.numbers(keys, events["request_started_at"].to_numpy())
        names = ("currency", "rate_card_id", "rate_card_hash")
        texts = pl.DataFrame(self._rate_texts, schema=dict.fromkeys(names, pl.String), orient="row")[numbers]
        return Prices(np.array(self._first_tier, np.int64)[numbers], texts)

    def tier_tables(self) -> TierTables:
        """All tiers that `Prices.tier` may point to."""
        if self._tables is not None and len(self._tables.above) == len(self._tiers):
            return self._tables
        above = np.array([tier[0] for tier in self._tiers], np.int64)
        follows = np.array([tier[1] for tier in self._tiers], np.bool_)
        shape = (len(self._tiers), len(PRICED))
        list_prices = np.array([tier[2] for tier in self._tiers], np.int64).reshape(shape)
        provider_prices = np.array([tier[3] for tier in self._tiers], np.int64).reshape(shape)
        self._tables = TierTables(above, follows, list_prices, provider_prices)
        return self._tables

    # -- authorities

    def _learn_authority(self, gateway_id: str, route: str, instant_us: int) -> None:
        self._authorities.append(self._view.authority(gateway_id, route, instant_us))

    def authorities(self, events: pl.DataFrame, eras: Ints) -> npt.NDArray[np.object_]:
        """`View.authority` of each event. `events` has gateway_id, route (no nulls) and request_started_at."""
        self._bounded()
        keys = events.select("gateway_id", "route", pl.Series("era", eras))
        numbers = self._sides.numbers(keys, events["request_started_at"].to_numpy())
        return np.array(self._authorities, object)[numbers]

    # -- policies

    def _learn_policy(self, policy_id: str, instant_us: int) -> None:
        price = self._view.policy_price(policy_id, instant_us)
        if price is None:
            self._policy_prices.append((self._view.currency(instant_us), "", "", NO_PRICE, 0, 0))
        else:
            self._policy_prices.append(tuple(getattr(price, name) for name in _POLICY_PRICE))

    def policy_prices(self, events: pl.DataFrame, eras: Ints) -> pl.DataFrame:
        """Columns of `_POLICY_PRICE`, a row an event; `pico_per_decision` is `NO_PRICE` where there is none."""
        self._bounded()
        keys = events.select("policy_id", pl.Series("era", eras))
        numbers = self._policies.numbers(keys, events["request_started_at"].to_numpy())
        return pl.DataFrame(self._policy_prices, schema=_POLICY_PRICE, orient="row")[numbers]


def _tier_rows(rate: Rate) -> list[tuple[int, bool, list[int], list[int]]]:
    last = len(rate.tiers) - 1
    return [
        (
            tier.input_tokens_above,
            at < last,
            [tier.list_pico.get(name, NO_PRICE) for name in PRICED],
            [tier.provider_pico.get(name, NO_PRICE) for name in PRICED],
        )
        for at, tier in enumerate(rate.tiers)
    ]
