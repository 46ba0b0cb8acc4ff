"""Whatever two cards say: at each instant while both hold, a line is named as changed exactly if its prices differ."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.metadata.cards import RateLine, make_card
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.records import line_of
from gatemeter.processors.pricing.carddiff import LineKey, Prices, diff_cards
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from support.generated_logs import examples

IN, OUT = "input_text_uncached", "output_text_visible"
LAST = 16
"""Cards and lines begin and end below it."""

SPANS = st.tuples(st.integers(0, 10), st.one_of(st.none(), st.integers(1, 5))).map(
    lambda span: (span[0], None if span[1] is None else span[0] + span[1])
)


@st.composite
def lines(draw: st.DrawFn) -> RateLine:
    prices = draw(st.dictionaries(st.sampled_from((IN, OUT)), st.integers(0, 2), min_size=1))
    contract = {name: draw(st.integers(0, 2)) for name in prices}
    place = draw(st.sampled_from((("", "any", ""), ("flex", "any", ""), ("", "batch", ""), ("", "any", "eu"))))
    start, end = draw(SPANS)
    above = draw(st.sampled_from((0, 0, 0, 100)))
    model = draw(st.sampled_from(("a", "b")))
    dates = {"effective_from_us": start, "effective_to_us": end}
    return RateLine("p", model, prices, contract, place[0], place[1], above, place[2], **dates)


@st.composite
def cards(draw: st.DrawFn) -> dict[str, Any]:
    chosen: list[RateLine] = []
    for line in draw(st.lists(lines(), max_size=6)):
        try:
            make_card("x", [*chosen, line])
        except MetadataError:
            continue
        chosen.append(line)
    return make_card_datum(CardHead("c", *draw(SPANS), "USD", "test"), chosen)


def prices_at(card: dict[str, Any], at_us: int) -> dict[LineKey, Prices]:
    """By line what a card says at an instant, by a plain search."""
    found = {}
    for rate in card["rates"]:
        end = rate["effective_to"]
        if rate["effective_from"] <= at_us and (end is None or at_us < end):
            key = (rate["provider"], rate["model"], rate["service_tier"] or "", rate["workload_class"])
            line = line_of(rate)
            sides = {name: (pico, line.provider_pico[name]) for name, pico in line.list_pico.items()}
            found[(*key, rate["region"] or ""), rate["input_tokens_above"]] = sides
    return found


@given(cards(), cards())
@examples(100)
def test_the_changes_are_what_differs_while_both_hold(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = diff_cards(before, after).lines
    start = max(before["effective_from"], after["effective_from"])
    ends = [card["effective_to"] for card in (before, after) if card["effective_to"] is not None]
    for at_us in range(start, min(ends, default=LAST)):
        then, now = prices_at(before, at_us), prices_at(after, at_us)
        covering = [
            change
            for change in changes
            if (change.from_us is None or change.from_us <= at_us) and (change.to_us is None or at_us < change.to_us)
        ]
        named = {change.key: (change.how, {price.name for price in change.prices}) for change in covering}
        assert len(named) == len(covering), "one change of a line at a time"
        expected = {}
        for key in {*then, *now}:
            was, is_ = then.get(key, {}), now.get(key, {})
            if was != is_:
                how = "added" if key not in then else "removed" if key not in now else "changed"
                expected[key] = (how, {name for name in {*was, *is_} if was.get(name) != is_.get(name)})
        assert named == expected


@given(cards())
@examples(30)
def test_a_card_does_not_differ_from_itself(card: dict[str, Any]) -> None:
    assert diff_cards(card, card).equal
