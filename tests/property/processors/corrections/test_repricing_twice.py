"""Whatever is priced again, with other cards or other plans: a second time changes nothing, and amounts add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.corrections.pricing import Plans, Priced, Pricer
from gatemeter.processors.corrections.rows import RowKey
from gatemeter.processors.corrections.truths import Truth
from gatemeter.processors.metadata.cards import RateLine, make_card
from gatemeter.processors.metadata.views import DatedPlan, Plan
from support.depth import depth
from support.explained import Explained
from support.logs import policy, response

PRICES = st.integers(0, 10**9)
BUCKETS = ("input_text_uncached", "output_text_visible", "request")
TOKENS = st.none() | st.integers(0, 10**6)
CACHES = ("none", "miss", "exact", "semantic")


@st.composite
def cards(draw: st.DrawFn) -> list[Any]:
    prices = {name: draw(PRICES) for name in draw(st.sets(st.sampled_from(BUCKETS), min_size=1))}
    lines = [RateLine("openai", "gpt", prices, {name: price // 2 for name, price in prices.items()})]
    return [make_card("other", lines)]


plans = st.builds(
    lambda ppm, cache_ppm, claims: Plans([DatedPlan(Plan("standard", ppm, "final_only", "free", claims, cache_ppm))]),
    st.integers(0, 10**7),
    st.sampled_from((0, 1, 333_333, 1_000_000)),
    st.booleans(),
)


def usage_truth(row: Mapping[str, Any]) -> Truth:
    return Truth(RowKey("usage", "gw-a", row["request_id"], row["attempt"], row["response_hash"]), row)


def decision_truth(row: Mapping[str, Any]) -> Truth:
    return Truth(RowKey("decision", "gw-a", row["decision_id"], 0, row["content_hash"]), row)


def corrected(truth: Truth, priced: Priced) -> Truth:
    row = truth.replaced("run", 0, "reprice", "again", amounts=priced.amounts, terms=priced.terms)
    return Truth(truth.key, truth.fact, row)


def assert_adds_up(money: Mapping[str, int | None], internal: int) -> None:
    if money["charge"] is None:
        return
    known = {name: value for name, value in money.items() if value is not None}
    parts = known["token_cost"] + known["model_cost"] + known["policy_cost"]
    assert parts == known["provider_cost"] + internal
    assert known["charge"] == parts + known["markup"] + known["cache_price"] - known["absorbed"]
    margin = known["markup"] + internal + known["cache_price"] - known["absorbed"]
    assert known["charge"] - known["provider_cost"] == margin


@given(
    other=st.none() | cards(),
    terms=st.none() | plans,
    tokens=st.tuples(TOKENS, TOKENS),
    cache=st.sampled_from(CACHES),
    fields=st.fixed_dictionaries(
        {
            "tenant_id": st.sampled_from(("acme", "hits", "globex", "nobody")),
            "model": st.sampled_from(("gpt", "gpt", "unknown")),
            "identity_source": st.sampled_from(("mtls", "header_claim")),
            "purpose": st.sampled_from(("workload", "policy_evaluation")),
        }
    ),
)
@settings(max_examples=depth(75, 750), deadline=None)
def test_an_attempt_priced_twice_is_an_attempt_priced_once(
    other: list[Any] | None, terms: Plans | None, tokens: tuple[int, int], cache: str, fields: dict[str, Any]
) -> None:
    world = Explained()
    truth = usage_truth(world.response(response("r", 0, tokens=tokens, gateway_cache=cache, **fields)))
    pricer = Pricer(world.log, other, terms)
    once = pricer.usage(truth)
    if once is None:
        return
    assert_adds_up(once.amounts, 0)
    if cache in ("exact", "semantic") and once.amounts["charge"] is not None:
        assert once.amounts["provider_cost"] == 0
        assert once.amounts["charge"] == once.amounts["cache_price"]
    again = pricer.usage(corrected(truth, once))
    assert again is not None
    if other is not None or cache in ("none", "miss"):
        assert again.same_as(corrected(truth, once))
    assert_adds_up(again.amounts, 0)
    thrice = pricer.usage(corrected(truth, again))
    assert thrice is not None and thrice.same_as(corrected(truth, again))


@given(
    terms=plans,
    fields=st.fixed_dictionaries(
        {
            "tenant_id": st.sampled_from(("acme", "hits", "nobody")),
            "policy_id": st.sampled_from(("pii", "flat", "scanned", "other")),
            "units": TOKENS,
            "scanned_tokens": TOKENS,
            "evaluator_request_id": st.sampled_from((None, None, "guard")),
        }
    ),
)
@settings(max_examples=depth(50, 500), deadline=None)
def test_a_decision_priced_twice_is_a_decision_priced_once(terms: Plans, fields: dict[str, Any]) -> None:
    world = Explained()
    row = world.policy(policy("r", 0, "d", **fields))
    truth = decision_truth(row)
    pricer = Pricer(world.log, None, terms)
    once = pricer.decision(truth)
    internal = row["policy_cost"] or 0 if row["billed_by"] == "internal" else 0
    assert_adds_up(once.amounts, internal)
    assert once.amounts["policy_cost"] == row["policy_cost"], "a plan changes no cost"
    assert pricer.decision(corrected(truth, once)).same_as(corrected(truth, once))
