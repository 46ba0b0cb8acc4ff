"""The rates file and its card: contract prices, fees, models, immutability, errors that name entry and range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Rate, View, build_view
from gatemeter.processors.metadata.yamlfiles import FileError
from gatemeter.processors.pricing.cards import CardHead, discounted, load_card, make_card_datum, raised, save_card
from gatemeter.processors.pricing.ratesfile import BuiltCard, build_card
from gatemeter.schemas.codec import Decoded

EXAMPLE = Path(__file__).parents[4] / "examples" / "rates.yaml"
HEAD = "card_id: c\neffective_from: 2026-10-15\nproviders: [openai]\n"
NOW_US = 1_793_000_000_000_000  # 2026-10-26


def build(tmp_path: Path, text: str, head: str = HEAD) -> BuiltCard:
    path = tmp_path / "rates.yaml"
    path.write_text(head + text, "utf-8")
    return build_card(path)


def view_of(card: BuiltCard) -> View:
    return build_view([entry_of(Decoded("RateCard", card.datum))])


def rate(view: View, provider: str, model: str, tier: str = "", workload: str = "realtime", region: str = "") -> Rate:
    found = view.rate(provider, model, tier, workload, region, NOW_US)
    assert found is not None
    return found


def both(found: Rate, name: str, position: int = 0) -> tuple[int, int]:
    return found.tiers[position].list_pico[name], found.tiers[position].provider_pico[name]


def test_a_discount_lowers_what_the_provider_charges_and_never_the_list_price(tmp_path: Path) -> None:
    view = view_of(build(tmp_path, "overrides: [{provider: openai, provider_discount_percent: 12.5}]"))
    assert both(rate(view, "openai", "gpt-4o"), "input_text_uncached") == (2_500_000, 2_187_500)
    assert both(rate(view, "openai", "gpt-4o", "", "batch"), "output_text_visible") == (5_000_000, 4_375_000)
    assert both(rate(view, "openai", "gpt-4o", "priority"), "output_text_visible") == (17_000_000, 14_875_000)


def test_explicit_prices_mean_the_standard_line_only_unless_named(tmp_path: Path) -> None:
    text = """
overrides:
  - {provider: openai, provider_discount_percent: 10}
  - {provider: openai, model: gpt-4o, prices: {input_text_uncached: 2}}
  - {provider: openai, model: gpt-4o, workload_class: batch, prices: {input_text_uncached: 0.9}}
"""
    view = view_of(build(tmp_path, text))
    assert both(rate(view, "openai", "gpt-4o"), "input_text_uncached") == (2_500_000, 2_000_000)
    assert both(rate(view, "openai", "gpt-4o"), "output_text_visible") == (10_000_000, 9_000_000)
    assert both(rate(view, "openai", "gpt-4o", "", "batch"), "input_text_uncached") == (1_250_000, 900_000)
    assert both(rate(view, "openai", "gpt-4o", "priority"), "input_text_uncached") == (4_250_000, 3_825_000)


def test_a_model_of_ones_own_with_tiers_and_contract_prices(tmp_path: Path) -> None:
    text = """
models:
  - {provider: internal, model: m, prices: {input_text_uncached: 1, request: 0.5, media_hours: 0.36}}
  - {provider: internal, model: m, input_tokens_above: 1000, prices: {input_text_uncached: 2},
     provider_prices: {input_text_uncached: 1.5}}
"""
    found = rate(view_of(build(tmp_path, text)), "internal", "m")
    assert [tier.input_tokens_above for tier in found.tiers] == [0, 1000]
    assert both(found, "input_text_uncached") == (1_000_000, 1_000_000)
    assert both(found, "input_text_uncached", 1) == (2_000_000, 1_500_000)
    assert both(found, "request") == (500_000_000_000, 500_000_000_000)
    assert both(found, "media_ms") == (100_000, 100_000)


def test_a_fee_is_added_to_all_prices_of_a_model(tmp_path: Path) -> None:
    view = view_of(build(tmp_path, "fees: [{provider: openai, model: gpt-4o, prices: {tool_calls: 0.001}}]"))
    for found in (rate(view, "openai", "gpt-4o"), rate(view, "openai", "gpt-4o", "", "batch")):
        assert both(found, "tool_calls") == (1_000_000_000, 1_000_000_000)
    assert "tool_calls" not in rate(view, "openai", "gpt-4.1").tiers[0].list_pico


def test_model_ids_of_ones_own_have_the_prices_of_what_they_are_like(tmp_path: Path) -> None:
    head = HEAD.replace("[openai]", "[openai, azure, anthropic]")
    text = """
model_ids:
  - {provider: azure, model: our-deployment, like: gpt-4o}
  - {provider: anthropic, model: claude-sonnet-4-5-20250929}
"""
    view = view_of(build(tmp_path, text, head))
    assert both(rate(view, "azure", "our-deployment"), "input_text_uncached") == (2_500_000, 2_500_000)
    assert (
        rate(view, "anthropic", "claude-sonnet-4-5-20250929").tiers
        == rate(view, "anthropic", "claude-sonnet-4-5").tiers
    )


SURCHARGE = """
overrides: [{provider: openai, provider_discount_percent: 20}]
fees: [{provider: openai, model: gpt-4o, prices: {request: 0.5}}]
surcharges:
  - {provider: openai, region: eu, percent: 10}
  - {provider: openai, model: gpt-4.1, region: eu, percent: 2.5}
  - {provider: openai, model: gpt-4o, region: uk, percent: 100}
"""


def test_a_surcharge_raises_token_prices_of_calls_in_its_region_alone(tmp_path: Path) -> None:
    view = view_of(build(tmp_path, SURCHARGE))
    assert both(rate(view, "openai", "gpt-4o"), "input_text_uncached") == (2_500_000, 2_000_000)
    assert rate(view, "openai", "gpt-4o", region="us") == rate(view, "openai", "gpt-4o")
    regional = rate(view, "openai", "gpt-4o", region="eu")
    assert both(regional, "input_text_uncached") == (2_750_000, 2_200_000)
    assert both(regional, "request") == (500_000_000_000, 500_000_000_000), "fees stay"
    assert both(rate(view, "openai", "gpt-4o", region="uk"), "input_text_uncached") == (5_000_000, 4_000_000)
    assert both(rate(view, "openai", "gpt-4.1", region="eu"), "input_text_uncached") == (2_050_000, 1_640_000)
    assert both(rate(view, "openai", "gpt-4o-mini", region="eu"), "input_text_uncached") == (165_000, 132_000)


def test_a_surcharge_holds_in_every_tier_class_and_context(tmp_path: Path) -> None:
    head = HEAD.replace("[openai]", "[openai, google]")
    text = "surcharges: [{provider: openai, region: eu, percent: 10}, {provider: google, region: eu, percent: 10}]"
    view = view_of(build(tmp_path, text, head))
    batch = both(rate(view, "openai", "gpt-4o", "", "batch", "eu"), "input_text_uncached")
    assert batch == (1_375_000, 1_375_000)
    assert both(rate(view, "openai", "gpt-4o", "priority", region="eu"), "input_text_uncached") == (
        4_675_000,
        4_675_000,
    )
    base, regional = rate(view, "google", "gemini-2.5-pro"), rate(view, "google", "gemini-2.5-pro", region="eu")
    assert [tier.input_tokens_above for tier in regional.tiers] == [0, 200_000]
    for plain, dear in zip(base.tiers, regional.tiers, strict=True):
        assert {name: pico * 11 // 10 for name, pico in plain.list_pico.items() if "_text_" in name} == {
            name: pico for name, pico in dear.list_pico.items() if "_text_" in name
        }


def test_a_line_of_ones_own_for_a_region_stays_as_it_is(tmp_path: Path) -> None:
    text = """
models: [{provider: openai, model: gpt-4o, region: eu, prices: {input_text_uncached: 9}}]
surcharges: [{provider: openai, region: eu, percent: 10}]
"""
    view = view_of(build(tmp_path, text))
    assert both(rate(view, "openai", "gpt-4o", region="eu"), "input_text_uncached") == (9_000_000, 9_000_000)
    assert both(rate(view, "openai", "gpt-4o-mini", region="eu"), "input_text_uncached") == (165_000, 165_000)
    override = text.replace(
        "surcharges:",
        "overrides: [{provider: openai, model: gpt-4o, region: eu, prices: {input_text_uncached: 8}}]\nsurcharges:",
    )
    view = view_of(build(tmp_path, override))
    assert both(rate(view, "openai", "gpt-4o", region="eu"), "input_text_uncached") == (9_000_000, 8_000_000)
    assert both(rate(view, "openai", "gpt-4o"), "input_text_uncached") == (2_500_000, 2_500_000)


@pytest.mark.parametrize(("pico", "ppm", "expected"), [(1, 500_000, 2), (5, 100_000, 6), (15, 100_000, 16), (7, 0, 7)])
def test_a_surcharge_is_rounded_half_even(pico: int, ppm: int, expected: int) -> None:
    assert raised(pico, ppm) == expected


@pytest.mark.parametrize(("pico", "ppm", "expected"), [(1, 500_000, 0), (3, 500_000, 2), (5, 500_000, 2), (7, 1, 7)])
def test_a_discounted_price_is_rounded_half_even(pico: int, ppm: int, expected: int) -> None:
    assert discounted(pico, ppm) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "overrides:\n - {provider: openai, provider_discount_percent: 5}\n"
            " - {provider: openai, provider_discount_percent: 5}\n"
            " - {provider: openai, provider_discount_percent: 120}",
            "rates.yaml: override 3: provider_discount_percent must be 0 to 100, got 120",
        ),
        (
            "overrides: [{provider: openai, model: gpt-9000, provider_discount_percent: 5}]",
            "rates.yaml: override 1: no price of the card has provider 'openai' and model 'gpt-9000' "
            "in this tier and class",
        ),
        (
            "overrides: [{provider: openai}]",
            "rates.yaml: override 1: exactly one of provider_discount_percent and prices must be given",
        ),
        (
            "overrides: [{provider: openai, prices: {input_text: 1}}]",
            "rates.yaml: override 1: prices: 'input_text' is no bucket or fee; known are input_text_uncached, ",
        ),
        (
            "overrides: [{provider: openai, prices: {input_text_uncached: 5001}}]",
            "rates.yaml: override 1: prices: input_text_uncached: price of input_text_uncached must be "
            "0 to 5000000000 pico a token, got 5001000000",
        ),
        (
            "overrides: [{provider: openai, prices: {input_text_uncached: -1}}]",
            "rates.yaml: override 1: prices: input_text_uncached: price of input_text_uncached must be "
            "0 to 5000000000 pico a token, got -1000000",
        ),
        (
            "overrides: [{provider: openai, prices: {input_text_uncached: 0.0000001}}]",
            "rates.yaml: override 1: prices: input_text_uncached must be a whole number of 10^-12 a unit, got 1E-7",
        ),
        (
            "overrides: [{provider: openai, prices: {input_text_uncached: cheap}}]",
            "rates.yaml: override 1: prices: input_text_uncached must be a price, got 'cheap'",
        ),
        (
            "fees: [{provider: openai, prices: {input_text_uncached: 1}}]",
            "rates.yaml: fee 1: prices must map fee names (request, images, media_ms, searches, tool_calls, "
            "media_hours)",
        ),
        ("models: [{provider: x, model: m}]", "rates.yaml: model 1: prices is missing"),
        (
            "models: [{provider: x, model: m, prices: {images: 1}, provider_prices: {searches: 1}}]",
            "rates.yaml: model 1: provider_prices must have the same names as prices",
        ),
        (
            "models: [{provider: openai, model: gpt-4o, prices: {images: 1}}]",
            "rates.yaml: provider 'openai' model 'gpt-4o': two lines above 0 overlap in time",
        ),
        (
            "models: [{provider: x, model: m, input_tokens_above: 5, prices: {images: 1}}]",
            "rates.yaml: provider 'x' model 'm': a line above 5 needs a base line above 0 at the same time",
        ),
        (
            "model_ids: [{provider: openai, model: our-bot}]",
            "rates.yaml: genai-prices 0.2.3 knows no model 'our-bot' of provider 'openai'",
        ),
        (
            "currency: EUR",
            "rates.yaml: currency must be USD, the currency of genai-prices 0.2.3, or providers must be []",
        ),
        ("effective_to: 2026-10-15", "rates.yaml: effective_to must be after effective_from"),
        (
            "surcharges: [{provider: openai, region: eu, percent: 1001}]",
            "rates.yaml: surcharge 1: percent must be 0 to 1000, got 1001",
        ),
        ("surcharges: [{provider: openai, percent: 5}]", "rates.yaml: surcharge 1: region is missing; it must be "),
        ("surcharges: [{provider: openai, region: eu}]", "rates.yaml: surcharge 1: percent is missing; it must be "),
        (
            "surcharges: [{provider: openai, region: any, percent: 5}]",
            "rates.yaml: surcharge 1: region must be the region that costs more, got 'any'",
        ),
        (
            "surcharges: [{provider: openia, region: eu, percent: 5}]",
            "rates.yaml: surcharge 1: no price of the card has provider 'openia' in this tier and class",
        ),
        ("discount: 5", "rates.yaml: discount is not known; known are effective_from, "),
    ],
)
def test_an_error_names_file_entry_field_and_range(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(FileError) as raised:
        build(tmp_path, text)
    assert str(raised.value).startswith(error)


def test_a_provider_that_is_not_in_the_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileError, match=r"rates\.yaml: provider 'opanai' is not in genai-prices .*; known are anthropic,"
    ):
        build(tmp_path, "", HEAD.replace("openai", "opanai"))


def test_a_card_that_does_not_fit_into_a_kafka_record_says_what_to_do(tmp_path: Path) -> None:
    many = "[openai, azure, anthropic, google, aws, openrouter, novita, together]"
    with pytest.raises(FileError, match=r"must have at most 900000 bytes: name fewer providers, or make several cards"):
        build(tmp_path, "", HEAD.replace("[openai]", many).replace("2026-10-15", "2024-01-01"))


def test_the_example_builds_the_same_card_each_time(tmp_path: Path) -> None:
    first, second = build_card(EXAMPLE), build_card(EXAMPLE)
    assert first.datum == second.datum
    frozen = "1916549d99f9701241d3dec11fc56d5fc7b89c064014ab239493558ec5f594ff"
    assert first.datum["content_hash"] == frozen, "prices of a released card changed: give the card another card_id"
    save_card(tmp_path / "card.json", first.datum)
    assert load_card(tmp_path / "card.json") == Draft("RateCard", first.datum)


def test_a_card_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    save_card(path, build(tmp_path, "").datum)
    card: dict[str, Any] = json.loads(path.read_text())
    card["rates"][0]["provider_pico"]["input_text_uncached"] = 1
    path.write_text(json.dumps(card))
    with pytest.raises(FileError, match=r"card\.json: content_hash must be .* cards are immutable"):
        load_card(path)
    path.write_text("[]")
    with pytest.raises(FileError, match="must be a card that `gatemeter rates build` wrote"):
        load_card(path)


def test_prices_out_of_range_never_reach_a_card() -> None:
    line = RateLine("p", "m", {"request": 10**17 + 1}, {"request": 1})
    with pytest.raises(MetadataError, match="provider 'p' model 'm': price of request must be 0 to 100000000000000000"):
        make_card_datum(CardHead("c", 0, None, "USD", "test"), [line])
