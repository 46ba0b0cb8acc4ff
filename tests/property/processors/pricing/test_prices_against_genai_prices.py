"""Our cards price as genai-prices itself does, to the last digit, wherever the card has the price.

Exceptions, where we have no price and genai-prices gives one (each has a unit test, and stands with its reason in
docs/pricing.md): before the first start date, prices by time of day, a service tier that the model lacks, a cache class
without a price.
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
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
FIRST_US = (FIRST - EPOCH) // timedelta(microseconds=1)
PICO = 10**12
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

    def total(*parts: str) -> int:
        return sum(count for name, count in tokens.items() if all(part in name for part in parts))

    usage = Usage(
        input_tokens=total("input"),
        input_text_tokens=total("input_text"),
        input_audio_tokens=total("input_audio"),
        input_image_tokens=total("input_image"),
        cache_read_tokens=total("cache_read"),
        cache_text_read_tokens=total("text_cache_read"),
        cache_audio_read_tokens=total("audio_cache_read"),
        cache_image_read_tokens=total("image_cache_read"),
        cache_write_tokens=total("cache_write"),
        cache_text_write_tokens=total("cache_write"),
        cache_write_1h_tokens=total("cache_write_1h"),
        cache_text_write_1h_tokens=total("cache_write_1h"),
        output_tokens=total("output"),
        output_text_tokens=total("output_text"),
        output_reasoning_tokens=total("reasoning"),
        output_text_reasoning_tokens=total("reasoning"),
        output_audio_tokens=total("output_audio"),
        output_image_tokens=total("output_image"),
    )
    context = {}
    if line.workload_class == "batch":
        context = {"processing": "batch"}
    elif line.service_tier:
        context = {"speed" if line.provider == "anthropic" else "service_tier": line.service_tier}
    result = snapshot().calc(usage, line.model, line.provider, None, at, context)
    requests = result.model_price.requests_kcount
    return result.total_price - (requests / 1_000 if isinstance(requests, Decimal) else 0)


def agrees(line: RateLine, at: datetime, tokens: dict[str, int]) -> bool:
    """Whether our card prices the usage as genai-prices does, to the last digit."""
    at_us = (at - EPOCH) // timedelta(microseconds=1)
    rate = card().rate(line.provider, line.model, line.service_tier, line.workload_class, line.region, at_us)
    assert rate is not None
    total_input = sum(tokens.get(bucket, 0) for bucket in INPUT_BUCKETS)
    tier = [tier for tier in rate.tiers if tier.input_tokens_above == 0 or total_input > tier.input_tokens_above][-1]
    assert tier.list_pico.keys() >= tokens.keys()
    return ours(tier, tokens) == theirs(line, at, tokens)


@settings(max_examples=600, deadline=None)
@given(usages())
def test_prices_agree_to_the_last_digit(drawn: tuple[RateLine, datetime, dict[str, int]]) -> None:
    assert agrees(*drawn)


def cases() -> list[tuple[RateLine, datetime, dict[str, int]]]:
    """One usage of each line, every priced bucket of every modality in it, at its first or last instant in turn."""
    made = []
    for number, line in enumerate(lines()):
        last_us = line.effective_from_us if line.effective_to_us is None else line.effective_to_us - 1
        at_us = last_us if number % 2 else line.effective_from_us
        priced = (bucket for bucket in BUCKETS if bucket in line.list_pico)
        tokens = {bucket: (number * 7_919 + place * 104_729) % 5_000 for place, bucket in enumerate(priced)}
        if "input_text_uncached" in tokens:
            tokens["input_text_uncached"] += line.input_tokens_above
        made.append((line, EPOCH + timedelta(microseconds=at_us), tokens))
    return made


def test_one_usage_of_every_public_price_agrees_the_same_cases_each_run() -> None:
    compared = cases()
    assert len(compared) >= 2_000
    assert [(line.provider, line.model) for line, at, tokens in compared if not agrees(line, at, tokens)] == []
    images = [tokens for line, _, tokens in compared if "input_image_uncached" in tokens and "gemini" in line.model]
    assert len(images) >= 50
