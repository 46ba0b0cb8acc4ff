"""Every rule that can apply to one attempt or decision: its lines, its words, and that it adds up."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.corrections.rows import AMOUNTS
from gatemeter.processors.explaining.explanation import Explanation, Item
from gatemeter.processors.explaining.reckoning import PolicySource, Reckoned
from gatemeter.processors.explaining.terms import RateSource
from support.explained import Explained, by_name, card, metadata_log
from support.logs import START_US, policy, request, response


def explained(event: dict[str, Any]) -> tuple[Item, Reckoned]:
    """The only attempt of a request that is one RESPONSE."""
    world = Explained()
    world.response(event)
    return only(world.explain())


def only(explanation: Explanation) -> tuple[Item, Reckoned]:
    assert explanation.problems == ()
    (item,) = explanation.attempts or explanation.decisions
    assert item.reckoned is not None
    return item, item.reckoned


def said(item: Item) -> str:
    return "\n".join(item.rules)


def test_a_priced_attempt_is_quantity_times_price_line_by_line() -> None:
    item, reckoned = explained(response("r", 0, input_text_cache_read=40, searches=2, input_audio_uncached=0))
    assert by_name(reckoned.lines) == {
        "input_text_uncached": (100, 250_000_000, 220_000_000),
        "input_text_cache_read": (40, 50_000_000, 44_000_000),
        "output_text_visible": (20, 200_000_000, 176_000_000),
        "searches": (2, 20_000_000_000, 18_000_000_000),
        "request": (1, 11, 7),
    }
    tokens, fees = 440_000_000, 18_000_000_007
    markup = 66_000_000 + 2_700_000_001  # 2,700,000,001.05 rounds down
    assert reckoned.reckoned == item.recorded
    assert reckoned.reckoned == {
        "list_cost": 20_500_000_011,
        "provider_cost": tokens + fees,
        "token_cost": tokens,
        "model_cost": fees,
        "policy_cost": 0,
        "markup": markup,
        "cache_price": 0,
        "charge": tokens + fees + markup,
        "avoided_provider_cost": None,
        "avoided_charge": None,
        "absorbed": 0,
    }
    assert [(each.of, each.base_pico, each.ppm, each.pico) for each in reckoned.markups] == [
        ("tokens", tokens, 150_000, 66_000_000),
        ("fees", fees, 150_000, 2_700_000_001),
    ]
    assert "plan 'standard' adds 15 %: 150,000 millionths, rounded half-even to 10⁻¹²" in said(item)


def test_the_source_of_a_price_is_the_line_of_the_published_card() -> None:
    _, reckoned = explained(response("r", 0))
    source = reckoned.source
    assert isinstance(source, RateSource)
    draft = card()
    assert (source.card_id, source.content_hash) == ("card-1", draft.datum["content_hash"])
    assert (source.source, source.published_by, source.metadata_offset) == ("contract of 2026-01", "ops", 9)
    assert (source.effective_from_us, source.effective_to_us, source.workload_class) == (0, None, "any")


def test_the_served_model_has_the_price_else_the_one_asked_for() -> None:
    served, reckoned = explained(response("r", 0, model="alias", served_model="gpt"))
    assert reckoned.matched_model == "served_model"
    assert "the served model 'gpt' has the price (asked for: 'alias')" in said(served)
    asked, reckoned = explained(response("r", 0))
    assert reckoned.matched_model == "model"
    assert "the model asked for, 'gpt', has the price" in said(asked)


BASE = "200,000 input tokens are not above 200,000, so all tokens pay the base prices"
ABOVE = "200,001 input tokens are above 200,000, so all tokens pay the prices above 200,000"


@pytest.mark.parametrize(
    ("uncached", "cached", "list_cost", "words"),
    [
        (200_000, 0, 200_000 * 1_000_000 + 3_000_000, BASE),
        (199_999, 1, 199_999 * 1_000_000 + 500_000 + 3_000_000, BASE),
        (200_001, 0, 200_001 * 2_000_000 + 4_000_000, ABOVE),
        (200_000, 1, 200_000 * 2_000_000 + 900_000 + 4_000_000, ABOVE),
    ],
)
def test_the_context_tier_is_a_cliff_and_cached_tokens_count(
    uncached: int, cached: int, list_cost: int, words: str
) -> None:
    event = response("r", 0, tokens=(uncached, 1), provider="google", model="long", input_text_cache_read=cached)
    item, reckoned = explained(event)
    assert reckoned.tier is not None and reckoned.tier.bounds == (0, 200_000)
    assert reckoned.reckoned["list_cost"] == list_cost
    assert words in said(item)


def test_batch_and_a_service_tier_have_prices_of_their_own() -> None:
    batch, reckoned = explained(response("r", 0, workload_class="batch"))
    assert by_name(reckoned.lines)["input_text_uncached"] == (100, 125_000_000, 110_000_000)
    assert isinstance(reckoned.source, RateSource) and reckoned.source.workload_class == "batch"
    assert "workload class 'batch' has prices of its own" in said(batch)
    flex, reckoned = explained(response("r", 0, service_tier="flex"))
    assert by_name(reckoned.lines)["output_text_visible"] == (20, 100_000_000, 100_000_000)
    assert "service tier 'flex' has prices of its own" in said(flex)
    assert "request" not in by_name(reckoned.lines), "this line has no fee"


def test_a_region_has_prices_of_its_own() -> None:
    item, reckoned = explained(response("r", 0, model="local", region="eu", tokens=(10, 0)))
    assert by_name(reckoned.lines) == {"input_text_uncached": (10, 30, 20)}
    assert isinstance(reckoned.source, RateSource) and reckoned.source.region == "eu"
    assert "region 'eu' has prices of its own" in said(item)


def test_a_cache_hit_is_free_and_says_what_it_saved() -> None:
    item, reckoned = explained(response("r", 0, gateway_cache="exact"))
    assert (reckoned.lines, reckoned.reckoned["charge"], reckoned.price_status) == ((), 0, "free")
    saved = reckoned.savings
    assert saved is not None
    assert (saved.input_tokens, saved.output_tokens) == (100, 20)
    assert (saved.list_pico, saved.provider_pico) == (450_000_011, 396_000_007)
    assert "answered from the gateway's cache (exact): no provider was called; it is free" in said(item)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokens": None}, "the gateway did not say what it avoided"),
        ({"model": "unknown"}, "no card in force (card-1) has the model 'unknown' of 'openai'"),
        (
            {"model": "nightly", "workload_class": "batch"},
            "card 'card-1' has no price for output_text_visible (20): a part of a price is none",
        ),
    ],
)
def test_savings_that_cannot_be_priced_are_unknown_and_say_why(fields: dict[str, Any], reason: str) -> None:
    _, reckoned = explained(response("r", 0, gateway_cache="semantic", **fields))
    assert reckoned.savings is not None
    assert (reckoned.savings.list_pico, reckoned.savings.provider_pico) == (None, None)
    assert reckoned.savings.reason == reason


def test_a_hit_that_has_a_price_is_a_share_of_the_charge_that_it_avoided() -> None:
    item, reckoned = explained(response("r", 0, tenant_id="hits", gateway_cache="exact"))
    assert (reckoned.lines, reckoned.price_status) == ((), "priced")
    cost = 396_000_007
    charge = cost + 59_400_000 + 1  # 15 % of 396,000,000; of the fee 1.05 → 1
    price = 91_080_002  # 20 % of 455,400,008 is 91,080,001.6
    assert reckoned.reckoned == dict.fromkeys(AMOUNTS, 0) | {
        "avoided_provider_cost": cost,
        "avoided_charge": charge,
        "cache_price": price,
        "charge": price,
    }
    words = said(item)
    assert "no provider was called; the plan has a price for it" in words
    assert "prices a hit at 20 %: 200,000 millionths of the charge that it avoided" in words


def test_a_hit_that_has_a_price_is_unpriced_where_what_it_avoided_is() -> None:
    item, reckoned = explained(response("r", 0, tenant_id="hits", gateway_cache="exact", model="unknown"))
    assert (reckoned.price_status, reckoned.reckoned["charge"]) == ("unpriced", None)
    assert "has no price (no card in force (card-1) has the model 'unknown' of 'openai')" in said(item)
    item, reckoned = explained(response("r", 0, tenant_id="hits", gateway_cache="exact", tokens=None))
    assert (reckoned.price_status, reckoned.reckoned["charge"]) == ("no_usage", None)
    assert "the gateway did not say what it avoided" in said(item)


def test_an_echo_that_does_not_give_the_avoided_tokens_is_a_problem() -> None:
    world = Explained()
    row = world.response(response("r", 0, gateway_cache="exact"))
    row["avoided_input_tokens"] = 101
    assert "avoided_input_tokens is 101, the echo of the hit gives 100" in world.explain().problems[0]


def test_a_denied_request_costs_nothing_and_an_orphan_is_not_known() -> None:
    world = Explained()
    world.unanswered(request("r", 0), denied=True)
    denied, reckoned = only(world.explain())
    assert (reckoned.price_status, reckoned.reckoned["charge"]) == ("free", 0)
    assert said(denied).startswith("denied: a policy refused the request before a provider was called")
    world = Explained()
    world.unanswered(request("r", 0))
    orphan, reckoned = only(world.explain())
    assert (reckoned.price_status, reckoned.reckoned["charge"], reckoned.source) == ("no_usage", None, None)
    assert said(orphan).startswith("orphan: no response came in time")


def test_an_answer_without_usage_is_unknown_and_an_explicit_zero_is_priced() -> None:
    item, reckoned = explained(response("r", 0, tokens=None))
    assert (reckoned.price_status, reckoned.reckoned["provider_cost"]) == ("no_usage", None)
    assert "NULL is not zero" in said(item)
    _, reckoned = explained(response("r", 0, tokens=(0, 0)))
    assert (reckoned.price_status, reckoned.reckoned["provider_cost"]) == ("priced", 7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"provider": "nobody"}, "no card in force (card-1) has the provider 'nobody'"),
        ({"model": "gpt-9"}, "no card in force (card-1) has the model 'gpt-9' of 'openai'"),
        (
            {"service_tier": "prioritty"},
            "no card in force (card-1) has the service tier 'prioritty' of 'gpt'; it has flex, standard",
        ),
        (
            {"model": "nightly"},
            "no card in force (card-1) has the workload class 'realtime' of 'nightly'; it has batch",
        ),
        (
            {"model": "local", "region": "us"},
            "no card in force (card-1) has the region 'us' of 'local'; it has eu",
        ),
        (
            {"model": "retired"},
            "has a price of 'retired' at 2026-05-28T20:00:00Z; it has one [1970-01-01T00:00:00Z, 2020-01-01T00:00:00Z)",
        ),
        (
            {"input_audio_uncached": 12, "images": 1},
            "card 'card-1' has no price for images (1), input_audio_uncached (12): a part of a price is none",
        ),
    ],
)
def test_what_is_unpriced_says_what_had_no_price(fields: dict[str, Any], reason: str) -> None:
    item, reckoned = explained(response("r", 0, **fields))
    assert (reckoned.price_status, reckoned.reckoned["charge"], item.fact["charge"]) == ("unpriced", None, None)
    assert reason in said(item)
    assert "it is in no total" in said(item)
    assert reckoned.lines, "what was used is shown all the same"


def test_before_any_card_nothing_has_a_price() -> None:
    world = Explained(metadata_log(card(effective_from_us=START_US + 86_400_000_000)))
    world.response(response("r", 0))
    item, _ = only(world.explain())
    assert "unpriced: no rate card was in force at 2026-05-28T20:00:00Z" in said(item)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tenant_id": "nobody"}, "unattributed: no tenant 'nobody' was in force at"),
        ({"app_id": "other"}, "unattributed: app 'other' is not one of tenant 'acme'"),
        ({"tenant_id": "lapsed"}, "unattributed: plan 'past' of tenant 'lapsed' was not in force at"),
        (
            {"identity_source": "header_claim"},
            "the identity is only claimed (grade B) and plan 'standard' does not accept that",
        ),
    ],
)
def test_who_does_not_pay_posts_to_unallocated(fields: dict[str, Any], reason: str) -> None:
    item, reckoned = explained(response("r", 0, **fields))
    provider = 396_000_007
    amounts = reckoned.reckoned
    assert (amounts["charge"], amounts["markup"], amounts["absorbed"]) == (0, 0, provider)
    assert (reckoned.plan.charged, item.standing.counted.absorbed_to) == (False, "unallocated")
    assert reason in said(item)
    assert "the charge is 0, the provider cost posts to 'unallocated'" in said(item)


def test_a_claimed_identity_is_charged_where_the_plan_accepts_it() -> None:
    item, reckoned = explained(response("r", 0, tenant_id="globex", identity_source="header_claim"))
    assert reckoned.reckoned["charge"] == 396_000_007 + 13_199_868  # 3.3333 % of 396,000,000; of the fee 0.23 → 0
    assert "grade B); plan 'claims' accepts that" in said(item)
    assert "plan 'claims' adds 3.3333 %" in said(item)


def test_a_model_call_that_evaluates_a_policy_is_all_policy_cost() -> None:
    item, reckoned = explained(response("r", 0, purpose="policy_evaluation", searches=1))
    amounts = reckoned.reckoned
    assert (amounts["token_cost"], amounts["model_cost"]) == (0, 0)
    assert amounts["policy_cost"] == amounts["provider_cost"] == 396_000_000 + 9_000_000_007
    assert {line.component for line in reckoned.lines} == {"policy_cost"}
    assert [each.of for each in reckoned.markups] == ["tokens", "fees"], "as elsewhere it is rounded twice"
    assert "a model call that evaluates a policy: all of it is policy cost" in said(item)


def test_an_estimate_and_a_revision_say_so() -> None:
    item, _ = explained(response("r", 0, usage_source="estimated", usage_revision=2))
    assert "the usage is an estimate, because the provider reported none" in said(item)
    assert "reported none: the gateway's own" in said(item)
    assert "usage revision 2: the highest revision of an attempt counts" in said(item)


def test_usage_counted_from_text_says_which_sides_and_how() -> None:
    cut = response("r", 0, tokens=None, usage_source="missing", uncounted_prompt="a b c", uncounted_completion="d e")
    item, reckoned = explained(cut)
    assert "reported none: gatemeter counted the text of input and output with o200k_base" in said(item)
    assert by_name(reckoned.lines)["input_text_uncached"][0] == 3
    item, _ = explained(cut | {"input_text_uncached": 9})
    assert "gatemeter counted the text of output with o200k_base" in said(item)


def test_usage_that_does_not_add_up_says_so_and_is_priced_as_its_buckets_say() -> None:
    item, reckoned = explained(response("r", 0, usage_consistency="mismatch", usage_mismatches="usage.total_tokens: …"))
    assert "the usage does not add up to the provider's own total" in said(item)
    assert by_name(reckoned.lines).keys() == {"input_text_uncached", "output_text_visible", "request"}
    item, _ = explained(response("r", 0, usage_consistency="consistent"))
    assert "add up to the provider" not in said(item)


def decided(event: dict[str, Any]) -> tuple[Item, Reckoned]:
    world = Explained()
    world.policy(event)
    return only(world.explain())


def test_a_decision_is_its_price_and_its_units() -> None:
    item, reckoned = decided(policy("r", 0, "d", units=3))
    assert by_name(reckoned.lines) == {"decision": (1, 3_000_000, 3_000_000), "units": (3, 21_000, 21_000)}
    assert item.recorded["charge"] == 3_021_000 + 453_150
    assert isinstance(reckoned.source, PolicySource)
    assert (reckoned.source.prices_id, reckoned.source.pico_per_unit) == ("guards", 7_000)
    assert [(each.of, each.pico) for each in reckoned.markups] == [("decision", 453_150)]


def test_a_decision_that_a_provider_bills_is_provider_cost_and_its_scanned_tokens_are_a_line() -> None:
    item, reckoned = decided(policy("r", 0, "d", policy_id="scanned", units=None, scanned_tokens=2_000))
    cost = 300_000_000_000  # 0.15 a thousand
    assert by_name(reckoned.lines)["scanned_tokens"] == (2_000, cost, cost)
    assert (item.recorded["provider_cost"], item.recorded["policy_cost"]) == (cost, cost)
    assert item.recorded["charge"] == cost + 45_000_000_000
    assert "billed by bedrock: provider cost, on its invoice" in said(item)


def test_the_platforms_own_guardrail_has_no_provider_cost() -> None:
    item, _ = decided(policy("r", 0, "d", units=3))
    assert (item.recorded["list_cost"], item.recorded["provider_cost"]) == (0, 0)
    assert (item.recorded["policy_cost"], item.recorded["charge"]) == (3_021_000, 3_021_000 + 453_150)
    assert "internal policy cost, on no provider's invoice" in said(item)


def test_a_price_without_units_has_one_line() -> None:
    _, reckoned = decided(policy("r", 0, "d", policy_id="flat", units=9))
    assert by_name(reckoned.lines) == {"decision": (1, 10**9, 10**9)}


def test_a_decision_of_a_metered_model_is_priced_there() -> None:
    item, reckoned = decided(policy("r", 0, "d", evaluator_request_id="guard-1"))
    assert (reckoned.lines, reckoned.price_status, item.recorded["charge"]) == ((), "free", 0)
    assert "a metered model call made it: it is priced once, in request guard-1" in said(item)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"policy_id": "other"}, "no price list in force at 2026-05-28T20:00:00Z has the policy 'other' or '*'"),
        ({"units": None}, "list 'guards' has a price a unit, and the decision says no units"),
        (
            {"policy_id": "scanned"},
            "list 'guards' has a price a scanned token, and the decision says no scanned tokens",
        ),
    ],
)
def test_an_unpriced_decision_says_why(fields: dict[str, Any], reason: str) -> None:
    item, reckoned = decided(policy("r", 0, "d", **fields))
    assert (reckoned.price_status, item.recorded["charge"]) == ("unpriced", None)
    assert reason in said(item)
