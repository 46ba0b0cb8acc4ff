"""The parts of the fold against short oracles: intervals, rounding, prices, event rules, checkpoints, decoding."""

from __future__ import annotations

from dataclasses import asdict
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.admission import Authentic
from gatemeter.processors.admission import decode as decode_one
from gatemeter.processors.fold import checkpoint, decoding, intervals
from gatemeter.processors.fold.checkpoint import Position, Snapshot
from gatemeter.processors.fold.events import refusal
from gatemeter.processors.fold.partition_state import Refused
from gatemeter.processors.fold.settling import valid_events
from gatemeter.processors.fold.state import Clock, Decision, EpochState, Totals
from gatemeter.processors.fold.terms import Terms
from gatemeter.processors.fold.types import LogRecord
from gatemeter.processors.metadata.views import Attribution, Plan
from gatemeter.processors.pricing import columns, components
from gatemeter.schemas import codec, limits
from gatemeter.schemas.tables import BUCKETS, METERS
from support.generated_logs import Step, build_log, examples, programs
from support.logs import START_US, TOPIC, policy, request, response
from support.views import ViewBuilder

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=12)


@given(RANGES, st.integers(0, 45), st.integers(1, 6))
def test_intervals_are_a_set_of_numbers(ranges: list[tuple[int, int]], first: int, count: int) -> None:
    settled: intervals.Intervals = ()
    numbers: set[int] = set()
    for low, length in ranges:
        settled = intervals.add(settled, low, low + length)
        numbers |= set(range(low, low + length))
    asked = set(range(first, first + count))
    assert {n for low, high in settled for n in range(low, high)} == numbers
    assert all(a[1] < b[0] for a, b in pairwise(settled)), "sorted, disjoint, not touching"
    left = intervals.remove(settled, first, first + count)
    assert {n for low, high in left for n in range(low, high)} == numbers - asked
    assert intervals.add(left, first, first + count) == intervals.add(settled, first, first + count)
    assert intervals.contains(settled, first) == (first in numbers)
    assert intervals.overlaps(settled, first, first + count) == bool(asked & numbers)
    assert intervals.covers(settled, first, first + count) == (asked <= numbers)


@given(st.integers(0, 7 * 10**17), st.integers(0, limits.MAX_MARKUP_PPM))
def test_rounding_half_even_is_decimals(amount: int, ppm: int) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(amount) * ppm / 1_000_000
        expected = int(exact.to_integral_value(ROUND_HALF_EVEN))
    assert components.half_even(amount, ppm) == expected
    assert columns.half_even(np.array([amount]), np.array([ppm])).tolist() == [expected]


def quantities() -> st.SearchStrategy[dict[str, int | None]]:
    tokens = st.one_of(st.none(), st.sampled_from((0, 1, 199_999, 200_000, 200_001, 4_000_000)))
    meters = {name: st.one_of(st.none(), st.integers(0, highest)) for name, highest in limits.MAX_METER.items()}
    return st.fixed_dictionaries({**dict.fromkeys(BUCKETS, tokens), **meters})


def prices() -> st.SearchStrategy[dict[str, int]]:
    rates = dict.fromkeys(BUCKETS[1:], st.integers(0, limits.MAX_RATE_PICO_PER_TOKEN))
    fees = {name: st.integers(0, highest) for name, highest in limits.MAX_FEE_PICO.items()}
    return st.fixed_dictionaries({"input_text_uncached": st.just(7)}, optional={**rates, **fees})


@given(
    st.lists(quantities(), min_size=1, max_size=5),
    prices(),
    prices(),
    st.sampled_from(("none", "miss", "exact", "semantic")),
    st.sampled_from(("workload", "policy_evaluation")),
    st.sampled_from((0, 1, 33_333, limits.MAX_MARKUP_PPM)),
    st.sampled_from((0, 1, 333_333, limits.MAX_CACHE_PRICE_PPM)),
    st.sampled_from(("A", "B")),
    st.booleans(),
    st.sampled_from(("", "eu", "us")),
)
@examples(50)
def test_prices_by_columns_are_prices_by_event(
    usage: list[dict[str, int | None]],
    base: dict[str, int],
    above: dict[str, int],
    cache: str,
    purpose: str,
    ppm: int,
    cache_ppm: int,
    grade: str,
    known: bool,
    region: str,
) -> None:
    builder = ViewBuilder().rate("openai", "gpt", base).rate("openai", "gpt", above, above=200_000)
    if region:
        builder.rate("openai", "gpt", above, region="eu")
    view = builder.view()
    model = "gpt" if known else "other"
    events = [{**each, "gateway_cache": cache, "purpose": purpose, "request_started_at": START_US} for each in usage]
    attribution = Attribution("acme", "", "attributed", plan=Plan("plan", ppm, cache_price_ppm=cache_ppm))
    rate = view.rate("openai", model, "", "realtime", region, START_US)
    expected = [asdict(components.price_usage(event, rate, attribution, grade)) for event in events]
    terms = Terms(view)
    frame = pl.DataFrame(events, schema_overrides=dict.fromkeys((*BUCKETS, *METERS), pl.Int64)).with_columns(
        provider=pl.lit("openai"),
        priced_model=pl.lit(model),
        service_tier=pl.lit(""),
        workload_class=pl.lit("realtime"),
        region=pl.lit(region),
    )
    tiers = terms.prices(frame, terms.eras(frame["request_started_at"].to_numpy())).tier
    plan = columns.PlanTerms(
        np.full(len(events), components.is_charged(attribution, grade)),
        np.full(len(events), ppm, np.int64),
        np.full(len(events), cache_ppm, np.int64),
    )
    got = columns.price_usage(frame, tiers, terms.tier_tables(), plan)
    assert got.select(list(expected[0])).to_dicts() == expected


NUMBERS = st.one_of(st.none(), st.sampled_from((-1, 0, 1, 999, 1_000, limits.MAX_TOKENS_PER_EVENT, 1 << 62)))
IDS = st.sampled_from(("", "a", "é" * 256, "é" * 257))


@given(
    st.lists(
        st.tuples(
            st.sampled_from((request, response)),
            st.fixed_dictionaries(
                {},
                optional={
                    "request_id": IDS,
                    "attempt": st.sampled_from((-1, 0, 1, 65_535, 65_536)),
                    "usage_revision": st.sampled_from((-1, 0, 127, 128)),
                    "status": st.sampled_from((None, "ok")),
                    "latency_us": NUMBERS,
                    "ttft_us": NUMBERS,
                    "http_status": st.sampled_from((None, -1, 0, 999, 1000)),
                    "input_text_uncached": NUMBERS,
                    "output_audio_visible": NUMBERS,
                    "searches": NUMBERS,
                    "occurred_at": st.sampled_from((0, START_US + 300_000_000, START_US + 300_000_001, (1 << 63) - 1)),
                    "request_started_at": st.sampled_from(
                        (-(1 << 63), -1, 0, START_US - limits.MAX_REQUEST_AGE_US - 1)
                    ),
                    "kind": st.just("POLICY"),
                    "decision_id": st.one_of(st.none(), IDS),
                    "policy_id": st.one_of(st.none(), IDS),
                    "outcome": st.sampled_from((None, "deny")),
                    "units": NUMBERS,
                    "scanned_tokens": NUMBERS,
                },
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
@examples(50)
def test_the_column_rule_of_valid_events_is_the_rule_for_one(drawn: list[tuple[Any, dict[str, Any]]]) -> None:
    events = []
    for make, fields in drawn:
        base = policy("r1", 0, "d1") if fields.get("kind") == "POLICY" else make("r1", 0)
        events.append({**dict.fromkeys(decoding.EVENT_SCHEMA), "content_hash": bytes(16), **base, **fields})
    frame = pl.DataFrame(events, schema=decoding.EVENT_SCHEMA)
    got = valid_events(frame, np.full(len(events), START_US, np.int64), 300_000_000)
    assert got.tolist() == [refusal(event, START_US, 300_000_000) is None for event in events]


@given(
    st.lists(st.integers(0, 1 << 62), min_size=4, max_size=4),
    st.dictionaries(st.tuples(st.text(max_size=5), st.text(max_size=5)), st.tuples(RANGES, st.integers(0)), max_size=3),
    st.lists(st.builds(Decision, st.integers(5, 9), st.integers(-1, 9), st.integers(0, 9), st.sampled_from("ab"))),
)
def test_a_checkpoint_gives_back_what_it_was_given(
    clock: list[int], epochs: dict[tuple[str, str], tuple[list[tuple[int, int]], int]], decisions: list[Decision]
) -> None:
    states = {key: EpochState(tuple(ranges), min(heard, 1 << 62)) for key, (ranges, heard) in epochs.items()}
    at = Snapshot(5, Clock(*clock), 3, states)
    record = LogRecord(9, 1, b"k", b"v", (("h", b"x"),))
    position = Position(2, 10, record, Clock(*clock), 4, Totals(records=10, orphans=1))
    row = checkpoint.row("t", 0, 6, "w", position, at, decisions)
    back = checkpoint.read(row)
    assert back.at == at
    assert sorted(back.decisions, key=str) == sorted(decisions, key=str)
    assert (back.next_offset, back.partitions) == (10, 6)
    assert back.totals == position.totals
    assert back.last_digest == checkpoint.record_digest(record)


@given(programs(30, 5))
@examples(30)
def test_decoding_at_once_is_decoding_one_by_one(program: list[Step]) -> None:
    log, _ = build_log(program)
    prefix = codec.CURRENT["GatewayBatch"].prefix
    items = [
        Authentic(record, "a-1", "gw-a", "inference_proxy")
        for record in log.records
        if record.value.startswith(prefix) and record.headers
    ]
    decoded = decoding.decode(items, TOPIC, 0)
    rows = decoded.events.to_dicts()
    for number, item in enumerate(items):
        expected = decode_one(item, TOPIC, 0)
        mine = [row for row, record in zip(rows, decoded.record_of.tolist(), strict=True) if record == number]
        if isinstance(expected, Refused):
            assert decoded.refused[number] == expected
            assert mine == []
        else:
            assert number not in decoded.refused
            assert mine == expected.events
            assert decoded.envelopes.epoch[number] == expected.envelope["epoch"]
            assert int(decoded.envelopes.first_sequence[number]) == expected.envelope["first_sequence"]
