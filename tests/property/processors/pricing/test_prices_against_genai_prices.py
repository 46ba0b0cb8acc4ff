"""Our cards price as genai-prices itself does, to the last digit, wherever the card has the price.

Exceptions, where we have no price and genai-prices gives one (each has a unit test): before the first start date,
prices by time of day, a service tier that the model lacks, buckets and meters without a price of their own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

from genai_prices import Usage
from genai_prices.data_snapshot import DataSnapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.views import RateTier, View, build_view, make_card
from gatemeter.processors.pricing.ratesfile import DEFAULT_PROVIDERS
from gatemeter.processors.pricing.snapshot import PROVIDERS, snapshot_lines
from gatemeter.schemas.tables import INPUT_BUCKETS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
FIRST_US = (FIRST - EPOCH) // timedelta(microseconds=1)
PICO = 10**12
BUCKETS = (
    "input_text_uncached",
    "input_text_cache_read",
    "input_text_cache_write_5m",
    "input_text_cache_write_1h",
    "output_text_visible",
    "output_text_reasoning",
)
TOKENS = st.integers(0, 5_000)
THRESHOLDS = (100_000, 128_000, 200_000, 256_000, 272_000)
"""Input tokens around these are drawn often: a tier starts *above* its threshold."""


@cache
def lines() -> list[RateLine]:
    return snapshot_lines(DEFAULT_PROVIDERS, FIRST_US, None).lines


@cache
def card() -> View:
    return build_view([make_card("all", lines(), effective_from_us=FIRST_US)])


@cache
def snapshot() -> DataSnapshot:
    return DataSnapshot(providers=list(PROVIDERS.values()), from_auto_update=False)


@st.composite
def usages(draw: st.DrawFn) -> tuple[RateLine, datetime, dict[str, int]]:
    line = draw(st.sampled_from(lines()))
    end = (
        timedelta(days=1_200)
        if line.effective_to_us is None
        else timedelta(microseconds=line.effective_to_us - FIRST_US)
    )
    start = timedelta(microseconds=line.effective_from_us - FIRST_US)
    edge = draw(st.sampled_from([timedelta(0), end - start - timedelta(microseconds=1), (end - start) / 2]))
    priced = [bucket for bucket in BUCKETS if bucket in line.list_pico]
    tokens = {bucket: draw(TOKENS) for bucket in priced}
    around = draw(st.sampled_from([0, *THRESHOLDS, *(line.input_tokens_above for _ in THRESHOLDS)]))
    if around and "input_text_uncached" in tokens:
        others = sum(tokens[bucket] for bucket in tokens if bucket.startswith("input") and "uncached" not in bucket)
        tokens["input_text_uncached"] = max(0, around + draw(st.integers(-1, 1)) - others)
    return line, FIRST + start + edge, tokens


def ours(tier: RateTier, tokens: dict[str, int]) -> Decimal:
    return Decimal(sum(tokens[name] * tier.list_pico[name] for name in tokens)) / PICO


def theirs(line: RateLine, at: datetime, tokens: dict[str, int]) -> Decimal:
    """genai-prices counts totals with their parts inside: input with cache, cache writes with those of 1 h."""
    of = {bucket: tokens.get(bucket, 0) for bucket in BUCKETS}
    writes = of["input_text_cache_write_5m"] + of["input_text_cache_write_1h"]
    usage = Usage(
        input_tokens=of["input_text_uncached"] + of["input_text_cache_read"] + writes,
        cache_read_tokens=of["input_text_cache_read"],
        cache_write_tokens=writes,
        cache_write_1h_tokens=of["input_text_cache_write_1h"],
        output_tokens=of["output_text_visible"] + of["output_text_reasoning"],
        output_reasoning_tokens=of["output_text_reasoning"],
    )
    context = {}
    if line.workload_class == "batch":
        context = {"processing": "batch"}
    elif line.service_tier:
        context = {"speed" if line.provider == "anthropic" else "service_tier": line.service_tier}
    result = snapshot().calc(usage, line.model, line.provider, None, at, context)
    requests = result.model_price.requests_kcount
    return result.total_price - (requests / 1_000 if isinstance(requests, Decimal) else 0)


@settings(max_examples=600, deadline=None)
@given(usages())
def test_prices_agree_to_the_last_digit(drawn: tuple[RateLine, datetime, dict[str, int]]) -> None:
    line, at, tokens = drawn
    at_us = (at - EPOCH) // timedelta(microseconds=1)
    rate = card().rate(line.provider, line.model, line.service_tier, line.workload_class, line.region, at_us)
    assert rate is not None
    total_input = sum(tokens.get(bucket, 0) for bucket in INPUT_BUCKETS)
    tier = [tier for tier in rate.tiers if tier.input_tokens_above == 0 or total_input > tier.input_tokens_above][-1]
    assert tier.list_pico.keys() >= tokens.keys()
    assert ours(tier, tokens) == theirs(line, at, tokens)
