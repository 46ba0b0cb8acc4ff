"""Public prices of the snapshot as lines: units, tiers, dates, variants, model ids, and what is left out."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import pytest
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.pricing import snapshot
from gatemeter.processors.pricing.snapshot import UnknownModel, snapshot_lines
from gatemeter.schemas.tables import BUCKETS

DAY_US = 86_400_000_000
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
FEBRUARY = StartDateConstraint(start_date=date(2026, 2, 1))
FEBRUARY_US = START_US + 31 * DAY_US
OFF_PEAK = TimeOfDateConstraint(start_time=time(1), end_time=time(5))


def price(**values: str) -> ModelPrice:
    return ModelPrice(**{key: Decimal(value) for key, value in values.items()})


def lines_of(
    monkeypatch: pytest.MonkeyPatch, prices: Any, *, match: Any = None, to_us: int | None = None, **more: Any
) -> tuple[list[RateLine], list[str]]:
    model = ModelInfo(id="m", match=match or ClauseEquals(equals="m"), prices=prices, **more)
    provider = Provider(id="p", name="P", api_pattern="p", models=[model])
    monkeypatch.setattr(snapshot, "PROVIDERS", {"p": provider})
    found = snapshot_lines(["p"], START_US, to_us)
    return found.lines, sorted(entry.why for entry in found.left_out)


def test_the_snapshot_is_the_pinned_one() -> None:
    assert version("genai-prices") == "0.2.3"
    assert snapshot.SOURCE == "genai-prices 0.2.3"
    assert sum(len(provider.models) for provider in snapshot.PROVIDERS.values()) == 2_330


def test_prices_are_exact_integers_of_pico_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = price(
        input_mtok="0.15",
        cache_read_mtok="0.075",
        cache_write_mtok="0.1875",
        cache_write_1h_mtok="0.3",
        output_mtok="0.6",
        input_audio_mtok="10",
        cache_audio_read_mtok="2.5",
        output_audio_mtok="20",
        input_image_mtok="5",
        cache_image_read_mtok="1.25",
        output_image_mtok="40",
        web_searches_kcount="10",
        requests_kcount="5",
        audio_hours="0.36",
    )
    (line,), left_out = lines_of(monkeypatch, values)
    assert left_out == []
    assert (
        line.list_pico
        == line.provider_pico
        == {
            "input_text_uncached": 150_000,
            "input_text_cache_read": 75_000,
            "input_text_cache_write_5m": 187_500,
            "input_text_cache_write_1h": 300_000,
            "input_audio_uncached": 10_000_000,
            "input_audio_cache_read": 2_500_000,
            "input_image_uncached": 5_000_000,
            "input_image_cache_read": 1_250_000,
            "output_text_visible": 600_000,
            "output_text_reasoning": 600_000,
            "output_audio_visible": 20_000_000,
            "output_image_visible": 40_000_000,
            "media_ms": 100_000,
            "searches": 10_000_000_000,
            "request": 5_000_000_000,
        }
    )


def test_a_cache_class_without_a_price_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,), _ = lines_of(monkeypatch, price(input_mtok="1", output_mtok="2", cache_write_mtok="1.25"))
    assert {name for name in BUCKETS if name not in line.list_pico} == {
        *("input_text_cache_read", "input_audio_cache_read", "input_image_cache_read"),
        "input_text_cache_write_1h",
    }


def test_a_price_of_all_tokens_holds_for_modalities_without_one_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    values = price(input_mtok="1", input_text_mtok="0.9", input_audio_mtok="3", cache_read_mtok="0.1", output_mtok="2")
    (line,), _ = lines_of(monkeypatch, values)
    assert {name: pico for name, pico in line.list_pico.items() if "text" not in name} == {
        "input_audio_uncached": 3_000_000,
        "input_image_uncached": 1_000_000,
        "input_audio_cache_read": 100_000,
        "input_image_cache_read": 100_000,
        "output_audio_visible": 2_000_000,
        "output_image_visible": 2_000_000,
    }


def test_a_price_of_text_alone_is_not_one_of_other_modalities(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,), _ = lines_of(monkeypatch, price(input_text_mtok="1", output_text_mtok="2"))
    assert set(line.list_pico) == {"input_text_uncached", "output_text_visible", "output_text_reasoning"}


def test_reasoning_of_its_own_price_goes_before_output(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,), _ = lines_of(monkeypatch, price(output_mtok="2", output_reasoning_mtok="3"))
    assert (line.list_pico["output_text_visible"], line.list_pico["output_text_reasoning"]) == (2_000_000, 3_000_000)


def test_tiers_are_lines_above_their_threshold_with_all_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    tiered = TieredPrices(base=Decimal(1), tiers=[Tier(start=200_000, price=Decimal(2)), Tier(100, Decimal("1.5"))])
    lines, _ = lines_of(monkeypatch, ModelPrice(input_mtok=tiered, output_mtok=Decimal(8)))
    assert [(line.input_tokens_above, line.list_pico["input_text_uncached"]) for line in lines] == [
        (0, 1_000_000),
        (100, 1_500_000),
        (200_000, 2_000_000),
    ]
    assert {line.list_pico["output_text_visible"] for line in lines} == {8_000_000}


def test_a_start_date_is_midnight_utc_and_the_card_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    old = StartDateConstraint(start_date=date(2025, 1, 1))
    prices = [
        ConditionalPrice(prices=price(input_mtok="9")),
        ConditionalPrice(constraint=old, prices=price(input_mtok="3")),
        ConditionalPrice(constraint=FEBRUARY, prices=price(input_mtok="2")),
    ]
    lines, _ = lines_of(monkeypatch, prices, to_us=FEBRUARY_US + 1)
    assert [
        (line.effective_from_us, line.effective_to_us, line.list_pico["input_text_uncached"]) for line in lines
    ] == [
        (START_US, FEBRUARY_US, 3_000_000),
        (FEBRUARY_US, FEBRUARY_US + 1, 2_000_000),
    ]
    assert len(lines_of(monkeypatch, prices, to_us=FEBRUARY_US)[0]) == 1


def test_a_date_before_the_first_price_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = [ConditionalPrice(constraint=FEBRUARY, prices=price(input_mtok="2"))]
    lines, left_out = lines_of(monkeypatch, prices)
    assert [line.effective_from_us for line in lines] == [FEBRUARY_US]
    assert left_out == ["it has no price before its first start date"]


def test_a_price_by_time_of_day_is_left_out_while_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = [
        ConditionalPrice(prices=price(input_mtok="2")),
        ConditionalPrice(constraint=OFF_PEAK, prices=price(input_mtok="1")),
        ConditionalPrice(constraint=FEBRUARY, prices=price(input_mtok="3")),
    ]
    lines, left_out = lines_of(monkeypatch, prices)
    assert [(line.effective_from_us, line.list_pico["input_text_uncached"]) for line in lines] == [
        (FEBRUARY_US, 3_000_000)
    ]
    assert left_out == ["its price depends on the time of day"]


def test_variants_are_service_tiers_and_batch_and_take_the_rest_from_the_standard_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variants = [
        PriceVariant(when={"service_tier": "default"}, prices=ModelPrice()),
        PriceVariant(when={"service_tier": "flex"}, prices=price(input_mtok="1")),
        PriceVariant(when={"processing": "batch"}, prices=price(input_mtok="0.5"), constraint=FEBRUARY),
        PriceVariant(when={"route": "eu"}, prices=price(input_mtok="7")),
    ]
    lines, left_out = lines_of(monkeypatch, price(input_mtok="2", output_mtok="4"), price_variants=variants)
    assert [
        (line.service_tier, line.workload_class, line.effective_from_us, line.list_pico["input_text_uncached"])
        for line in lines
    ] == [
        ("", "any", START_US, 2_000_000),
        ("flex", "any", START_US, 1_000_000),
        ("", "batch", FEBRUARY_US, 500_000),
    ]
    assert {line.list_pico["output_text_visible"] for line in lines} == {4_000_000}
    assert left_out == ["variant {'route': 'eu'}: no service tier or workload class of ours"]


def test_a_price_that_is_no_whole_pico_is_left_out_and_never_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,), left_out = lines_of(monkeypatch, price(input_mtok="1", output_mtok="0.1234567", audio_hours="0.111"))
    assert set(line.list_pico) == {"input_text_uncached", "input_audio_uncached", "input_image_uncached"}
    assert left_out == [
        "audio_hours: 0.111 is no whole number of 10^-12 a unit",
        "output_mtok: 0.1234567 is no whole number of 10^-12 a unit",
    ]


def test_units_that_we_do_not_meter_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, left_out = lines_of(monkeypatch, price(input_mtok="1", input_document_kpages="3"))
    assert left_out == ["input_document_kpages: no bucket or meter of ours"]


def test_model_ids_are_those_that_the_snapshot_itself_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    clauses = [ClauseEquals(equals="m-2026"), ClauseStartsWith(starts_with="m-mini"), ClauseContains(contains="xyz")]
    lines, _ = lines_of(monkeypatch, price(input_mtok="1"), match=ClauseOr(or_=clauses))
    assert sorted(line.model for line in lines) == ["m-2026", "m-mini"]


def test_a_reseller_has_the_models_of_others_at_their_standard_price() -> None:
    lines = snapshot_lines(["azure"], START_US, None).lines
    found = [line for line in lines if line.model == "gpt-4o-2024-11-20"]
    assert [(line.service_tier, line.workload_class) for line in found] == [("", "any")]
    assert found[0].list_pico["input_text_uncached"] == 2_500_000


def test_an_unknown_provider_is_named() -> None:
    with pytest.raises(UnknownModel, match=r"provider 'nobody' is not in genai-prices 0\.2\.3; known are anthropic, "):
        snapshot_lines(["nobody"], START_US, None)
