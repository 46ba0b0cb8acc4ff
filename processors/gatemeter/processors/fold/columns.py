"""Rows of `usage_facts` and `policy_facts` for many events at once: `facts` as column operations.

`Events` carries, beside the decoded events, one row an event of what their records say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl

from gatemeter.processors.estimating.estimates import with_estimates
from gatemeter.processors.fold import facts
from gatemeter.processors.fold.clocks import Clocks
from gatemeter.processors.fold.decoding import Ints, Mask
from gatemeter.processors.fold.events import BATCH, IN_PROGRESS
from gatemeter.processors.fold.terms import Terms
from gatemeter.processors.fold.types import FOLD_RELEASE, HOUR_US
from gatemeter.processors.fold.windows import (
    AMOUNTS,
    CACHE_READ_BUCKETS,
    DECISION_AMOUNTS,
    DIMENSIONS,
    MEASURES,
    REASONING_BUCKETS,
)
from gatemeter.processors.metadata.attributing import VERIFIED
from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.views import LatencyThresholds, View
from gatemeter.processors.pricing import columns as money
from gatemeter.processors.pricing.components import CACHE_HITS
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS, OUTPUT_BUCKETS, TABLES, column_names

_USAGE_TEXTS: Final = (*facts.WHO_TEXTS, *facts.TEXTS)
_POLICY_TEXTS: Final = (*facts.WHO_TEXTS, "policy_version", "evaluator_request_id")
_SOURCE: Final = ("gateway_id", "gateway_kind", "kid", "epoch", "first_sequence", "offset", "recorded_at")
PART: Final = (
    *(name for name in DIMENSIONS if name not in ("window_start", "policy_id", "outcome")),
    *("request_started_at", "status", "fresh", "latency_us", "price_status"),
    *BUCKETS,
    *AMOUNTS,
)
"""Columns of a usage fact that its part in windows is computed from."""

_ECHO: Final = pl.format(
    "{{{}}}",
    pl.concat_str(
        [pl.format(f'"{name}":{{}}', name) for name in (*BUCKETS, *METERS)], separator=",", ignore_nulls=True
    ),
)
"""`facts.echo` of each event."""

Grouping = Callable[[pl.DataFrame, Ints], pl.DataFrame]
"""Facts and the slice of each → sums by slice and dimensions."""


@dataclass(frozen=True, slots=True)
class Events:
    """`frame`: decoded events with gateway_id; `records`: columns of `_SOURCE`, a row a record."""

    frame: pl.DataFrame
    records: pl.DataFrame
    record_of: Ints
    index_of: Ints

    def take(self, which: Mask | Ints) -> Events:
        """Some of them, in order."""
        rows = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return Events(self.frame[rows], self.records, self.record_of[rows], self.index_of[rows])

    def source(self) -> pl.DataFrame:
        """Columns of `_SOURCE`, a row an event."""
        return self.records[self.record_of]


@dataclass(frozen=True, slots=True)
class Context:
    """What the facts of one stretch have in common."""

    topic: str
    partition: int
    view: View
    terms: Terms
    clocks: Clocks

    def common(self, events: Events, used_at: Ints) -> list[pl.Series | pl.Expr]:
        """Posting, usage hour and provenance; `used_at`: to which instant each event's usage belongs."""
        record_of, index_of = events.record_of, events.index_of
        return [
            pl.Series("posted_hour", self.clocks.posted_hours(record_of, used_at)),
            pl.Series("usage_hour", used_at - used_at % HOUR_US),
            pl.Series("event_index", index_of),
            (pl.col("first_sequence") + pl.Series(index_of)).alias("sequence"),
            pl.lit(self.topic).alias("topic"),
            pl.lit(self.partition, pl.Int64).alias("partition"),
            pl.lit(self.view.offset, pl.Int64).alias("metadata_offset"),
            pl.lit(FOLD_RELEASE, pl.UInt16).alias("fold_release"),
            pl.when(pl.col("identity_source").is_in(list(VERIFIED)))
            .then(pl.lit("A"))
            .otherwise(pl.lit("B"))
            .alias("evidence_grade"),
        ]

    def fresh(self, events: Events) -> Mask:
        """`Clock.is_fresh` of each event."""
        occurred = events.frame["occurred_at"].to_numpy()
        return occurred - self.clocks.future_bound_us >= self.clocks.memory_floor[events.record_of]


def _versions(has_response: bool, offsets: Ints, paired: Mask) -> pl.Series:
    """`facts.version` of revision 0."""
    low = ((facts.OFFSET_MASK - offsets) << 16 | paired.astype(np.int64) << 15 | FOLD_RELEASE).astype(np.uint64)
    return pl.Series("version", low | np.uint64(int(has_response) << 63))


def _charged(grade_a: Mask, attributed: Mask, accepts_claims: Mask) -> Mask:
    return attributed & (grade_a | accepts_claims)


def _used_at(frame: pl.DataFrame) -> Ints:
    """`facts.usage_at_us` of each event."""
    started = frame["request_started_at"].to_numpy()
    batch = (frame["workload_class"] == BATCH).to_numpy()
    if not batch.any():
        return started
    of_state = batch & (frame["kind"] == "RESPONSE").to_numpy()
    return np.where(of_state, frame["occurred_at"].to_numpy(), started)


def usage_facts(context: Context, events: Events, paired: Mask) -> pl.DataFrame:
    """All columns of `usage_facts` for RESPONSEs of revision 0 that are the first of their attempt in memory."""
    terms = context.terms
    frame = pl.concat([events.frame.drop("gateway_id"), events.source()], how="horizontal").with_columns(
        pl.col(*_USAGE_TEXTS).fill_null("")
    )
    frame = frame.with_columns(
        pl.when(pl.col("served_model") == "").then("model").otherwise("served_model").alias("priced_model")
    )
    frame = with_estimates(frame)
    eras = terms.eras(frame["request_started_at"].to_numpy())
    who = terms.attributions(frame, eras)
    prices = terms.prices(frame, eras)
    grade_a = frame["identity_source"].is_in(list(VERIFIED)).to_numpy()
    charged = _charged(grade_a, who.attributed, who.accepts_claims)
    shares = money.PlanTerms(charged, who.markup_ppm, who.cache_price_ppm)
    amounts = money.price_usage(frame, prices.tier, terms.tier_tables(), shares)
    fresh = context.fresh(events)
    frame = pl.concat([frame.drop(who.replaced), who.texts, prices.texts, amounts], how="horizontal")
    frame = frame.with_columns(
        *context.common(events, _used_at(events.frame)),
        *_usage_columns(context.view.parameters.latency),
        _versions(True, frame["offset"].to_numpy(), paired),
        pl.Series("paired", paired),
        pl.Series("fresh", fresh),
    )
    frame = frame.with_columns(
        pl.when("fresh").then(_sum(BUCKETS)).otherwise(0).alias("window_tokens"),
        pl.when("fresh").then(pl.col("charge").fill_null(0)).otherwise(0).alias("window_cost"),
    )
    return frame.select(column_names("usage_facts"))


def running_facts(context: Context, events: Events) -> pl.DataFrame:
    """All columns of `usage_facts` for REQUESTs of batch jobs, as `facts.running_fact`: no answer is known."""
    none = np.zeros(events.frame.height, np.bool_)
    started = events.frame["request_started_at"].to_numpy()
    eras, first = np.unique(context.terms.eras(started), return_index=True)
    currencies = {int(era): context.view.currency(int(started[at])) for era, at in zip(eras, first, strict=True)}
    currency = pl.Series("currency", [currencies[int(era)] for era in context.terms.eras(started)], pl.String)
    frame = usage_facts(context, events, none)
    return frame.with_columns(
        *_UNANSWERED,
        _versions(False, events.records["offset"].to_numpy()[events.record_of], none),
        currency,
    ).select(column_names("usage_facts"))


_NOTHING: Final = {
    **{name: None for name, kind in TABLES["usage_facts"] if kind == "pico?"},
    **dict.fromkeys((*BUCKETS, *METERS, "avoided_input_tokens", "avoided_output_tokens")),
    **dict.fromkeys(("delivered", "http_status", "latency_us", "ttft_us")),
    **dict.fromkeys(("response_hash", "absorbed_to", "rate_card_id", "rate_card_hash", "avoided_usage"), ""),
    **dict.fromkeys(("usage_consistency", "estimated_with"), ""),
    **{"status": IN_PROGRESS, "latency_class": "unknown", "usage_source": "missing", "price_status": "no_usage"},
    **{"has_response": False, "fresh": False, "usage_revision": 0, "window_tokens": 0, "window_cost": 0},
}
_UNANSWERED: Final = tuple(pl.lit(value).alias(name) for name, value in _NOTHING.items())


def _sum(names: tuple[str, ...]) -> pl.Expr:
    return pl.sum_horizontal(pl.col(name).fill_null(0) for name in names)


def _known_sum(names: tuple[str, ...]) -> pl.Expr:
    return pl.when(pl.any_horizontal(pl.col(name).is_not_null() for name in names)).then(_sum(names))


@lru_cache(maxsize=16)
def _usage_columns(thresholds: LatencyThresholds) -> tuple[pl.Expr, ...]:
    """Columns that hang on nothing but the event and the thresholds in force."""
    latency = pl.col("latency_us")
    cached = pl.col("gateway_cache").is_in(list(CACHE_HITS))
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in (*BUCKETS, *METERS))
    return (
        pl.col("content_hash").bin.encode("hex").alias("response_hash"),
        pl.lit(True).alias("has_response"),
        pl.lit(thresholds.version, pl.UInt16).alias("latency_thresholds_version"),
        pl.when(latency.is_null())
        .then(pl.lit("unknown"))
        .when(latency < thresholds.fast_below_us)
        .then(pl.lit("fast"))
        .when(latency < thresholds.normal_below_us)
        .then(pl.lit("normal"))
        .when(latency < thresholds.slow_below_us)
        .then(pl.lit("slow"))
        .otherwise(pl.lit("very_slow"))
        .alias("latency_class"),
        pl.when(known)
        .then(pl.col("usage_source").fill_null("reported"))
        .otherwise(pl.lit("missing"))
        .alias("usage_source"),
        pl.when(cached).then(_known_sum(INPUT_BUCKETS)).alias("avoided_input_tokens"),
        pl.when(cached).then(_known_sum(OUTPUT_BUCKETS)).alias("avoided_output_tokens"),
        pl.when(cached).then(_ECHO).otherwise(pl.lit("")).alias("avoided_usage"),
        *(pl.when(~cached).then(pl.col(name)).alias(name) for name in (*BUCKETS, *METERS)),
    )


def policy_facts(context: Context, events: Events) -> pl.DataFrame:
    """All columns of `policy_facts` for POLICYs that are new."""
    terms = context.terms
    frame = pl.concat([events.frame.drop("gateway_id"), events.source()], how="horizontal").with_columns(
        pl.col(*_POLICY_TEXTS).fill_null("")
    )
    eras = terms.eras(frame["request_started_at"].to_numpy())
    who = terms.attributions(frame, eras)
    prices = terms.policy_prices(frame, eras)
    grade_a = frame["identity_source"].is_in(list(VERIFIED)).to_numpy()
    charged = _charged(grade_a, who.attributed, who.accepts_claims)
    amounts = money.price_decisions(frame, prices, money.PlanTerms(charged, who.markup_ppm, who.cache_price_ppm))
    none_paired = np.zeros(frame.height, np.bool_)
    frame = pl.concat(
        [frame.drop(who.replaced), who.texts, prices.select("currency", "prices_id"), amounts], how="horizontal"
    ).with_columns(
        *context.common(events, events.frame["request_started_at"].to_numpy()),
        pl.col("content_hash").bin.encode("hex"),
        pl.col("gateway_id").alias("sender_gateway_id"),
        pl.when(pl.col("subject_gateway_id").fill_null("") == "")
        .then("gateway_id")
        .otherwise("subject_gateway_id")
        .alias("gateway_id"),
        _versions(False, frame["offset"].to_numpy(), none_paired),
        pl.Series("fresh", context.fresh(events)),
    )
    return frame.with_columns(
        pl.when("fresh").then(pl.col("charge").fill_null(0)).otherwise(0).alias("window_cost")
    ).select(column_names("policy_facts"))


def usage_windows(frame: pl.DataFrame, slices: Ints) -> pl.DataFrame:
    """Sums of fresh usage facts by slice and dimensions; measures are Int128, with first and last offset."""
    measures = {
        "attempts": pl.len(),
        "decisions": pl.lit(0),
        "input_tokens": pl.col("_in").sum(),
        "cache_read_tokens": pl.col("_cached").sum(),
        "output_tokens": pl.col("_out").sum(),
        "reasoning_tokens": pl.col("_reasoning").sum(),
        "unpriced_tokens": pl.col("_unpriced").sum(),
        "latency_us": pl.col("latency_us").sum(),
        **{name: pl.col(name).cast(pl.Int128).sum() for name in AMOUNTS},
    }
    prepared = frame.with_columns(
        _sum(INPUT_BUCKETS).alias("_in"),
        _sum(OUTPUT_BUCKETS).alias("_out"),
        _sum(CACHE_READ_BUCKETS).alias("_cached"),
        _sum(REASONING_BUCKETS).alias("_reasoning"),
        pl.lit("").alias("policy_id"),
        pl.col("status").alias("outcome"),
    ).with_columns(
        pl.when(pl.col("price_status") == "unpriced")
        .then(pl.col("_in") + pl.col("_out"))
        .otherwise(0)
        .alias("_unpriced")
    )
    return _grouped(prepared, slices, measures)


def policy_windows(frame: pl.DataFrame, slices: Ints) -> pl.DataFrame:
    """Sums of fresh policy facts, as `usage_windows`."""
    measures: dict[str, pl.Expr] = dict.fromkeys(MEASURES, pl.lit(0))
    measures |= {
        "decisions": pl.len(),
        "latency_us": pl.col("latency_us").sum(),
        **{name: pl.col(name).cast(pl.Int128).sum() for name in DECISION_AMOUNTS},
    }
    empty = {name: pl.lit("") for name in ("model", "usage_source")}
    billed = pl.col("billed_by")
    provider = pl.when(billed == INTERNAL).then(pl.lit("")).otherwise(billed)
    prepared = frame.with_columns(purpose=pl.lit("policy_evaluation"), provider=provider, **empty)
    return _grouped(prepared, slices, measures)


def _grouped(prepared: pl.DataFrame, slices: Ints, measures: dict[str, pl.Expr]) -> pl.DataFrame:
    minute = pl.col("request_started_at")
    return (
        prepared.with_columns(pl.Series("slice", slices), (minute - minute % 60_000_000).alias("window_start"))
        .group_by("slice", *DIMENSIONS)
        .agg(
            pl.col("offset").max().alias("last_offset"),
            pl.col("offset").min().alias("first_offset"),
            *(expression.alias(f"m_{name}") for name, expression in measures.items()),
        )
    )
