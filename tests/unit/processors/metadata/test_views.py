"""Lookups of a view: effective dates, precedence, replacement, what stays unattributed or unpriced."""

from __future__ import annotations

import pytest

from gatemeter.processors.metadata.views import (
    UNATTRIBUTED_PLAN,
    Gateway,
    GatewayKey,
    LatencyThresholds,
    MetadataError,
    Parameters,
    PolicyPrice,
    PolicyPrices,
    RateLine,
    build_view,
    make_card,
)
from support.views import ViewBuilder

TEXT = "input_text_uncached"


def test_the_first_instant_belongs_to_an_entry_and_its_end_does_not() -> None:
    view = ViewBuilder().plan().tenant("acme", from_us=100, to_us=200).view()
    found = [view.attribution("acme", "app", at_us).attribution for at_us in (99, 100, 199, 200)]
    assert found == ["unattributed", "attributed", "attributed", "unattributed"]


def test_the_entry_with_the_latest_start_holds_and_the_earlier_one_again_after_its_end() -> None:
    builder = ViewBuilder().plan()
    builder.tenant("acme", cost_centre="old", from_us=0).tenant("acme", cost_centre="new", from_us=100, to_us=200)
    view = builder.view()
    assert [view.attribution("acme", "", at_us).cost_centre for at_us in (99, 100, 199, 200)] == [
        "old",
        "new",
        "new",
        "old",
    ]


def test_a_later_record_of_the_same_id_and_start_replaces() -> None:
    builder = ViewBuilder().plan(markup_ppm=1).tenant("acme", cost_centre="first", to_us=500)
    view = builder.plan(markup_ppm=2).tenant("acme", cost_centre="second").view()
    found = view.attribution("acme", "", 600)
    assert (found.cost_centre, found.plan.markup_ppm) == ("second", 2)
    assert view.boundaries == (0,)


@pytest.mark.parametrize(("tenant", "app"), [("nobody", "chat"), ("acme", "unknown-app"), ("planless", "chat")])
def test_unknown_tenant_app_or_plan_is_unattributed(tenant: str, app: str) -> None:
    view = ViewBuilder().plan().tenant("acme", apps=["chat"]).tenant("planless", "no-such-plan").view()
    found = view.attribution(tenant, app, 0)
    assert (found.tenant_id, found.app_id, found.attribution) == (tenant, app, "unattributed")
    assert (found.cost_centre, found.plan) == ("", UNATTRIBUTED_PLAN)


def test_a_tenant_without_listed_apps_has_any_app() -> None:
    view = ViewBuilder().plan().tenant("acme").view()
    assert view.attribution("acme", "anything", 0).attribution == "attributed"


def test_a_misspelt_service_tier_has_no_price() -> None:
    view = ViewBuilder().rate("openai", "m", {TEXT: 5}).rate("openai", "m", {TEXT: 9}, service_tier="flex").view()
    standard, flex = view.rate("openai", "m", "", "", "", 0), view.rate("openai", "m", "flex", "", "", 0)
    assert standard is not None and standard.tiers[0].provider_pico == {TEXT: 5}
    assert flex is not None and flex.tiers[0].provider_pico == {TEXT: 9}
    assert view.rate("openai", "m", "felx", "", "", 0) is None


def test_the_exact_workload_class_goes_before_any() -> None:
    view = ViewBuilder().rate("p", "m", {TEXT: 5}).rate("p", "m", {TEXT: 2}, workload_class="batch").view()
    prices = {
        workload: rate.tiers[0].provider_pico[TEXT]
        for workload in ("batch", "realtime", "")
        if (rate := view.rate("p", "m", "", workload, "", 0))
    }
    assert prices == {"batch": 2, "realtime": 5, "": 5}


def test_the_exact_region_goes_before_any_region_and_then_the_exact_class_before_any() -> None:
    view = (
        ViewBuilder()
        .rate("p", "m", {"images": 1})
        .rate("p", "m", {"images": 2}, workload_class="batch")
        .rate("p", "m", {"images": 3}, region="eu")
        .rate("p", "m", {"images": 4}, region="eu", workload_class="batch")
        .rate("p", "m", {"images": 5}, region="uk")
        .rate("p", "local", {"images": 6}, region="eu")
        .view()
    )

    def images(model: str, workload: str, region: str) -> int | None:
        found = view.rate("p", model, "", workload, region, 0)
        return None if found is None else found.tiers[0].list_pico["images"]

    assert [images("m", "realtime", region) for region in ("", "us", "eu", "EU")] == [1, 1, 3, 1]
    assert [images("m", "batch", region) for region in ("", "us", "eu", "uk")] == [2, 2, 4, 5]
    assert [images("local", "realtime", region) for region in ("", "us", "eu")] == [None, None, 6]


def test_the_newest_card_that_has_the_model_counts() -> None:
    old = make_card("old", [RateLine("p", "a", {TEXT: 1}, {TEXT: 1}), RateLine("p", "b", {TEXT: 1}, {TEXT: 1})])
    new = make_card("new", [RateLine("p", "a", {TEXT: 2}, {TEXT: 2})], effective_from_us=100, effective_to_us=200)
    for entries in ([old, new], [new, old]):
        view = build_view(entries)
        found = [rate.card_id for at_us in (99, 100, 199, 200) if (rate := view.rate("p", "a", "", "", "", at_us))]
        assert found == ["old", "new", "new", "old"]
        other = view.rate("p", "b", "", "", "", 150)
        assert other is not None and other.card_id == "old"


def test_tiers_rise_by_threshold_whatever_the_order_of_lines() -> None:
    builder = ViewBuilder().rate("p", "m", {TEXT: 20}, above=200_000).rate("p", "m", {TEXT: 10})
    rate = builder.view().rate("p", "m", "", "", "", 0)
    assert rate is not None
    assert [(tier.input_tokens_above, tier.list_pico[TEXT]) for tier in rate.tiers] == [(0, 10), (200_000, 20)]


def test_overlapping_lines_of_equal_rank_are_refused() -> None:
    lines = [RateLine("p", "m", {TEXT: 1}, {TEXT: 1}), RateLine("p", "m", {TEXT: 2}, {TEXT: 2}, effective_from_us=50)]
    with pytest.raises(MetadataError, match="provider 'p' model 'm': two lines above 0 overlap in time"):
        make_card("card", lines)


def test_a_tier_without_base_line_is_refused() -> None:
    with pytest.raises(MetadataError, match="a line above 200000 needs a base line above 0 at the same time"):
        make_card("card", [RateLine("p", "m", {TEXT: 1}, {TEXT: 1}, input_tokens_above=200_000)])


def test_the_policy_before_the_star() -> None:
    star, pii = PolicyPrice("list", "USD", 1, 0), PolicyPrice("list", "USD", 7, 3)
    view = build_view([PolicyPrices("list", {"*": star, "pii": pii}, effective_from_us=10)])
    assert view.policy_price("pii", 10) == pii
    assert view.policy_price("other", 10) == star
    assert view.policy_price("pii", 9) is None


def test_a_later_gateway_record_replaces_the_earlier_one_whole() -> None:
    first = Gateway("gw", {"k1": GatewayKey("gw", "api_gateway")})
    second = Gateway("gw", {"k2": GatewayKey("gw", "api_gateway", 10, 20)})
    keys = build_view([first, second]).keys
    assert list(keys) == ["k2"]
    assert [keys["k2"].valid_at(at_us) for at_us in (9, 10, 19, 20)] == [False, True, True, False]


def test_a_key_id_of_two_gateways_is_refused() -> None:
    both = [Gateway(name, {"k": GatewayKey(name, "api_gateway")}) for name in ("one", "two")]
    with pytest.raises(MetadataError, match="key id 'k' belongs to gateway 'one' already"):
        build_view(both)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("horizon_us", 119_999_999, "2 min to 24 h"),
        ("horizon_us", 86_400_000_001, "2 min to 24 h"),
        ("future_bound_us", 3_600_000_001, "0 to 3600000000"),
        ("orphan_timer_us", 59_999_999, "1 min"),
        ("orphan_timer_us", 900_000_001, "to horizon_us"),
        ("grace_us", -1, "7 days"),
        ("fold_release", 0, "1 to 32767"),
    ],
)
def test_parameters_out_of_range_are_named_with_the_range(field: str, value: int, accepted: str) -> None:
    with pytest.raises(MetadataError, match=rf"{field} must be .*{accepted}.*, got {value}"):
        Parameters(**{field: value})  # type: ignore[arg-type]


def test_latency_thresholds_must_rise() -> None:
    with pytest.raises(MetadataError, match="must rise"):
        LatencyThresholds(1, 5, 5, 9)


def test_an_empty_view_has_the_defaults() -> None:
    view = build_view([])
    assert view.parameters == Parameters(900_000_000, 300_000_000, 600_000_000, 1_800_000_000)
    assert view.boundaries == ()
    assert view.rate("p", "m", "", "", "", 0) is None
