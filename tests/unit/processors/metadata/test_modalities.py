"""Modalities at the price of text: a card says it once a line, and every price comes back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.modalities import gathered, spread
from gatemeter.processors.metadata.records import line_of
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from gatemeter.schemas.codec import decode, encode
from gatemeter.schemas.tables import BUCKETS

PRICES = st.dictionaries(st.sampled_from((*BUCKETS, "request", "images")), st.integers(0, 2), max_size=16)
TEXT = {"input_text_uncached": 5, "input_text_cache_read": 1, "output_text_visible": 9}


def test_modalities_without_a_price_take_that_of_text_in_their_class() -> None:
    assert spread({**TEXT, "input_audio_uncached": 7, "searches": 3}) == {
        **TEXT,
        "input_audio_uncached": 7,
        "input_audio_cache_read": 1,
        "input_image_uncached": 5,
        "input_image_cache_read": 1,
        "output_audio_visible": 9,
        "output_image_visible": 9,
        "searches": 3,
    }
    assert spread({"input_audio_uncached": 7, "images": 2}) == {"input_audio_uncached": 7, "images": 2}


def test_a_line_that_has_them_at_the_price_of_text_says_it_in_one_word() -> None:
    contract = {name: pico * 2 for name, pico in TEXT.items()}
    said = gathered(spread(TEXT), spread(contract))
    assert said == {"list_pico": TEXT, "provider_pico": contract, "text_prices_all": True}


def test_what_has_text_prices_alone_gains_none() -> None:
    assert gathered(TEXT, TEXT) == {"list_pico": TEXT, "provider_pico": TEXT, "text_prices_all": False}
    some = {**TEXT, "input_image_uncached": 5}
    assert gathered(some, some) == {"list_pico": some, "provider_pico": some, "text_prices_all": False}


def test_a_contract_price_of_text_leaves_the_public_one_of_images() -> None:
    public = spread(TEXT)
    contract = {**public, "input_text_uncached": 4}
    said = gathered(public, contract)
    assert (spread(said["list_pico"]), spread(said["provider_pico"])) == (public, contract)
    assert said["provider_pico"]["input_image_uncached"] == said["list_pico"]["input_image_uncached"] == 5


@given(PRICES, st.data())
def test_a_line_comes_back_from_a_card_with_exactly_its_prices(prices: dict[str, int], data: st.DataObject) -> None:
    contract = {name: data.draw(st.sampled_from((pico, pico, 3))) for name, pico in prices.items()}
    for listed, provided in ((prices, contract), (spread(prices), spread(contract))):
        if set(listed) != set(provided):
            continue
        datum = make_card_datum(CardHead("c", 0, None, "USD", "test"), [RateLine("p", "m", listed, provided)])
        (rate,) = decode(encode("RateCard", datum)).datum["rates"]
        line = line_of(rate)
        assert (line.list_pico, line.provider_pico) == (listed, provided)
