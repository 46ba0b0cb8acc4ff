"""For any usage, rate, plan and evidence: the lines of an explanation add up to every amount that the fold gives."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.corrections.rows import AMOUNTS, AVOIDED
from gatemeter.processors.explaining.explanation import Explanation
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from gatemeter.schemas.limits import MAX_FEE_PICO, MAX_MARKUP_PPM, MAX_METER, MAX_RATE_PICO_PER_TOKEN
from gatemeter.schemas.tables import BUCKETS, METERS
from support.explained import Explained, metadata_log
from support.logs import policy, response

TOKENS = st.none() | st.integers(0, 3) | st.integers(0, 300_000)
PRICED = ("input_text_uncached", "input_text_cache_read", "output_text_visible", "searches", "request")


def prices(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, int]]:
    high = {**dict.fromkeys(BUCKETS, MAX_RATE_PICO_PER_TOKEN), **MAX_FEE_PICO}
    return st.fixed_dictionaries({name: st.integers(0, 5) | st.integers(0, high[name]) for name in names})


@st.composite
def cards(draw: st.DrawFn) -> Draft:
    """A card with a model of one or two context tiers; either side may lack nothing that the other has."""
    lines = []
    for above in draw(st.sampled_from([(0,), (0, 200_000), (0, 2)])):
        names = tuple(draw(st.sets(st.sampled_from(PRICED), min_size=1)))
        sides = draw(prices(names)), draw(prices(names))
        lines.append(RateLine("openai", "gpt", *sides, input_tokens_above=above))
    return Draft("RateCard", make_card_datum(CardHead("card", 0, None, "USD", "drawn"), lines))


plans = st.builds(
    lambda ppm, rule, cache_ppm, claims: Draft(
        "ChargePlan",
        {
            "plan_id": "standard",
            "effective_from": 0,
            "effective_to": None,
            "markup_ppm": ppm,
            "retry_rule": rule,
            "retry_cost_centre": "cc-retries",
            "cache_rule": "percent_of_avoided",
            "cache_price_ppm": cache_ppm,
            "accept_claimed_identity": claims,
        },
    ),
    st.integers(0, MAX_MARKUP_PPM) | st.sampled_from([1, 333_333, 500_000]),
    st.sampled_from(["all_provider_charged", "final_only"]),
    st.sampled_from([0, 1, 333_333, 1_000_000]),
    st.booleans(),
)
usages = st.fixed_dictionaries(
    {
        **dict.fromkeys(("input_text_uncached", "input_text_cache_read", "output_text_visible"), TOKENS),
        "output_text_reasoning": st.none() | st.integers(0, 1),
        "searches": st.none() | st.integers(0, MAX_METER["searches"]),
        "gateway_cache": st.sampled_from(["none", "none", "none", "miss", "exact", "exact"]),
        "purpose": st.sampled_from(["workload", "workload", "policy_evaluation"]),
        "identity_source": st.sampled_from(["mtls", "header_claim"]),
        "tenant_id": st.sampled_from(["acme", "acme", "nobody"]),
        "status": st.sampled_from(["ok", "error", "cancelled"]),
        "model": st.sampled_from(["gpt", "gpt", "gpt", "other"]),
    }
)
decisions = st.fixed_dictionaries(
    {
        "units": st.none() | st.integers(0, 10**6),
        "scanned_tokens": st.none() | st.integers(0, 10**6),
        "policy_id": st.sampled_from(["pii", "flat", "scanned", "other"]),
        "identity_source": st.sampled_from(["mtls", "header_claim"]),
        "evaluator_request_id": st.sampled_from([None, None, "guard"]),
    }
)


def assert_explained(explanation: Explanation) -> None:
    assert explanation.problems == ()
    for item in (*explanation.attempts, *explanation.decisions):
        assert item.reckoned is not None
        money, lines = item.recorded, item.reckoned.lines
        assert item.reckoned.reckoned == money
        if item.reckoned.price_status != "priced":
            billed = {money[name] for name in AMOUNTS if name not in AVOIDED}
            assert billed == {0 if item.reckoned.price_status == "free" else None}
            continue
        for component in ("token_cost", "model_cost", "policy_cost"):
            assert money[component] == sum(line.provider_pico or 0 for line in lines if line.component == component)
        known = {name: value for name, value in money.items() if value is not None}
        internal = known["policy_cost"] if item.fact.get("billed_by") == "internal" else 0
        assert known["list_cost"] == sum(line.list_pico or 0 for line in lines if not internal)
        assert known["markup"] == sum(each.pico for each in item.reckoned.markups)
        made = known["token_cost"] + known["model_cost"] + known["policy_cost"] + known["markup"]
        assert made + known["cache_price"] - known["absorbed"] == known["charge"]
        margin = known["markup"] + internal + known["cache_price"] - known["absorbed"]
        assert known["charge"] - known["provider_cost"] == margin
    assert all(total.parts == total.money["charge"] for total in explanation.totals)


@given(
    card=cards(), plan=plans, attempts=st.lists(usages, min_size=1, max_size=3), judged=st.lists(decisions, max_size=2)
)
@settings(max_examples=150, deadline=None)
def test_lines_add_up_to_every_amount_of_every_fact(
    card: Draft, plan: Draft, attempts: list[dict[str, Any]], judged: list[dict[str, Any]]
) -> None:
    world = Explained(metadata_log(card, plan))
    for number, usage in enumerate(attempts, start=1):
        world.response(response("r", number, attempt=number, tokens=None, delivered=None, **usage))
    for number, decision in enumerate(judged):
        world.policy(policy("r", 9, f"d{number}", **decision))
    assert_explained(world.explain())


@given(usage=usages, column=st.sampled_from([*AMOUNTS, *BUCKETS, *METERS]), by=st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_an_amount_or_quantity_that_was_changed_is_always_told(usage: dict[str, Any], column: str, by: int) -> None:
    world = Explained()
    row = world.response(response("r", 0, tokens=None, **usage))
    before = row["price_status"]
    row[column] = (row[column] or 0) + by
    explanation = world.explain()
    if column in AMOUNTS or before == "priced":
        assert not explanation.adds_up
