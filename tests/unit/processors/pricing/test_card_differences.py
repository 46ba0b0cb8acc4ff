"""What two cards say differently: by line, price and time, also where the cards follow each other."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gatemeter.cli.operator_options import console
from gatemeter.cli.rates_diff import rates_diff
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.pricing.carddiff import CardDiff, diff_cards, percent
from gatemeter.processors.pricing.cards import CardHead, make_card_datum, save_card
from gatemeter.processors.pricing.ratesfile import shown_price

DAY = 86_400_000_000
IN, OUT = "input_text_uncached", "output_text_visible"


def line(model: str, price: int, contract: int | None = None, **more: Any) -> RateLine:
    return RateLine("p", model, {IN: price}, {IN: price if contract is None else contract}, **more)


def card(*lines: RateLine, start: int = 0, end: int | None = None, card_id: str = "c", currency: str = "USD") -> Any:
    return make_card_datum(CardHead(card_id, start, end, currency, "test"), lines)


def said(found: CardDiff) -> list[tuple[Any, ...]]:
    return [
        (
            change.how,
            change.key[0][1],
            change.from_us,
            change.to_us,
            [(p.name, p.before, p.after) for p in change.prices],
        )
        for change in found.lines
    ]


def test_cards_with_the_same_prices_are_equal_whatever_their_name() -> None:
    assert diff_cards(card(line("m", 5)), card(line("m", 5), card_id="other")).equal


def test_lines_are_added_removed_and_changed_by_price() -> None:
    before = card(line("changed", 100, 80), line("removed", 1), line("same", 7))
    after = card(line("changed", 110, 80), line("added", 2), line("same", 7))
    assert said(diff_cards(before, after)) == [
        ("added", "added", None, None, [(IN, None, (2, 2))]),
        ("changed", "changed", None, None, [(IN, (100, 80), (110, 80))]),
        ("removed", "removed", None, None, [(IN, (1, 1), None)]),
    ]


def test_a_bucket_that_gets_a_price_is_a_change_of_its_line() -> None:
    prices = {IN: 5, OUT: 9}
    found = diff_cards(card(line("m", 5)), card(RateLine("p", "m", prices, prices)))
    assert said(found) == [("changed", "m", None, None, [(OUT, None, (9, 9))])]
    assert found.lines[0].prices[0].percent == (None, None)


def test_lines_differ_by_tier_class_region_and_context_bound() -> None:
    base = line("m", 5)
    others = [
        line("m", 6, service_tier="flex"),
        line("m", 6, workload_class="batch"),
        line("m", 6, input_tokens_above=9),
        line("m", 6, region="eu"),
    ]
    found = diff_cards(card(base), card(base, *others))
    assert [(change.how, change.key) for change in found.lines] == [
        ("added", (("p", "m", "", "any", ""), 9)),
        ("added", (("p", "m", "", "any", "eu"), 0)),
        ("added", (("p", "m", "", "batch", ""), 0)),
        ("added", (("p", "m", "flex", "any", ""), 0)),
    ]


def test_a_price_with_dates_differs_in_the_time_in_which_it_does() -> None:
    before = card(line("m", 5))
    after = card(
        line("m", 5, effective_to_us=3 * DAY),
        line("m", 4, effective_from_us=3 * DAY, effective_to_us=5 * DAY),
        line("m", 5, effective_from_us=5 * DAY),
    )
    assert said(diff_cards(before, after)) == [("changed", "m", 3 * DAY, 5 * DAY, [(IN, (5, 5), (4, 4))])]
    moved = diff_cards(after, card(line("m", 5), start=DAY, end=4 * DAY))
    assert moved.head == (("effective_from", 0, DAY), ("effective_to", None, 4 * DAY))
    assert said(moved) == [("changed", "m", 3 * DAY, None, [(IN, (4, 4), (5, 5))])]


def test_cut_lines_that_say_the_same_are_no_difference() -> None:
    cut = card(line("m", 5, effective_to_us=2 * DAY), line("m", 5, effective_from_us=2 * DAY))
    assert diff_cards(card(line("m", 5)), cut).equal
    assert said(diff_cards(cut, card(line("m", 6)))) == [("changed", "m", None, None, [(IN, (5, 5), (6, 6))])]


def test_cards_that_follow_each_other_are_compared_at_the_change() -> None:
    first = card(
        line("m", 9, effective_to_us=DAY), line("m", 5, effective_from_us=DAY, effective_to_us=2 * DAY), end=2 * DAY
    )
    second = card(line("m", 6, effective_from_us=2 * DAY), start=2 * DAY)
    assert said(diff_cards(first, second)) == [("changed", "m", None, None, [(IN, (5, 5), (6, 6))])]
    assert said(diff_cards(second, first)) == [("changed", "m", None, None, [(IN, (6, 6), (5, 5))])]


def test_filters_leave_the_other_lines_out() -> None:
    before = card(line("a", 1), line("b", 1), RateLine("q", "a", {IN: 1}, {IN: 1}))
    after = card(line("a", 2), line("b", 2), RateLine("q", "a", {IN: 2}, {IN: 2}))
    names = [(change.key[0][0], change.key[0][1]) for change in diff_cards(before, after, provider="p").lines]
    assert names == [("p", "a"), ("p", "b")]
    found = diff_cards(before, after, provider="q", model="a")
    assert [change.key[0][:2] for change in found.lines] == [("q", "a")]
    assert diff_cards(before, after, model="none").equal


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (200, 220, Decimal(10)),
        (3, 2, Decimal("-33.3333")),
        (0, 5, None),
        (8, 8, Decimal(0)),
        (800_000, 800_001, Decimal("0.0001")),
    ],
)
def test_per_cent_is_exact_to_four_decimals(before: int, after: int, expected: Decimal | None) -> None:
    assert percent(before, after) == expected


@pytest.mark.parametrize(
    ("name", "pico", "shown"),
    [
        (IN, 2_500_000, (IN, "2.5")),
        (IN, 1, (IN, "0.000001")),
        ("request", 10**17, ("request", "100000")),
        ("media_ms", 100_000, ("media_hours", "0.36")),
        ("images", 0, ("images", "0")),
    ],
)
def test_prices_are_shown_in_the_units_of_the_rates_file(name: str, pico: int, shown: tuple[str, str]) -> None:
    assert shown_price(name, pico) == shown


app = typer.Typer()
app.command()(rates_diff)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables do not break, however wide the terminal of whoever runs the tests is."""
    monkeypatch.setattr(console, "width", 400)


def run(folder: Path, *arguments: str, exit_code: int) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"TERM": "dumb"})
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result.output


def test_the_command_says_by_its_exit_code_whether_cards_differ(tmp_path: Path) -> None:
    a, b, same = (str(tmp_path / name) for name in ("a.json", "b.json", "same.json"))
    save_card(Path(a), card(line("m", 2_000_000, 1_900_000)))
    save_card(Path(b), card(line("m", 2_500_000, 1_900_000), card_id="d"))
    save_card(Path(same), card(line("m", 2_000_000, 1_900_000), card_id="e"))
    assert run(tmp_path, a, same, exit_code=0).splitlines()[-1] == "equal"
    shown = run(tmp_path, a, b, exit_code=1)
    assert "2 → 2.5 (+25 %)" in shown and "1.9" in shown
    assert shown.splitlines()[-1] == "1 lines changed"
    done = json.loads(run(tmp_path, a, b, "--json", exit_code=1))
    assert done["equal"] is False
    (changed,) = done["lines"]
    assert changed["prices"] == [
        {
            "price": IN,
            "list_before": "2",
            "list_after": "2.5",
            "list_percent": "25.0000",
            "provider_before": "1.9",
            "provider_after": "1.9",
            "provider_percent": "0.0000",
        }
    ]
    assert "no line differs" not in shown


def test_a_misspelt_filter_does_not_look_like_equal_cards(tmp_path: Path) -> None:
    a, b = (str(tmp_path / name) for name in ("a.json", "b.json"))
    save_card(Path(a), card(line("gpt-4o", 2), line("m", 2)))
    save_card(Path(b), card(line("gpt-4o", 3), line("m", 2), card_id="d"))
    assert "equal" in run(tmp_path, a, b, "--model", "m", exit_code=0)
    said = run(tmp_path, a, b, "--model", "gtp-4o", exit_code=2)
    assert said == "error: --model: no line of either card has model 'gtp-4o'; near it: gpt-4o\n"
    assert "none of 1 is like it" in run(tmp_path, a, b, "--provider", "nobody", exit_code=2)


def test_a_line_stands_in_80_columns_without_breaking_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 80)
    a, b = (str(tmp_path / name) for name in ("a.json", "b.json"))
    save_card(Path(a), card(line("gpt-4o", 2_500_000, 2_200_000)))
    save_card(Path(b), card(line("gpt-4o", 2_500_000, 2_000_000), card_id="d"))
    words = " ".join(run(tmp_path, a, b, exit_code=1).split())
    assert f"gpt-4o {IN} 2.5 2.2 → 2 (-9.0909 %)" in words


def test_dates_and_currency_of_cards_are_differences_too(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    save_card(Path(a), card(line("m", 2)))
    save_card(Path(b), card(line("m", 2), start=DAY, currency="EUR"))
    shown = run(tmp_path, a, b, exit_code=1).splitlines()
    assert shown[2:] == ["currency: USD → EUR", "effective_from: 1970-01-01 → 1970-01-02", "no line differs"]


@pytest.mark.parametrize(
    ("content", "says"),
    [("{}", "must be a card that"), ("no: card", "build one from a rates file with: gatemeter rates build bad.json")],
)
def test_a_file_that_is_no_card_is_an_error_and_no_difference(tmp_path: Path, content: str, says: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    save_card(good, card(line("m", 2)))
    bad.write_text(content)
    shown = run(tmp_path, str(good), str(bad), exit_code=2)
    assert says in shown and len(shown.splitlines()) == 1


def test_a_name_that_is_no_file_needs_the_keys_of_the_operators(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    save_card(good, card(line("m", 2)))
    keys = str(tmp_path / "none.json")
    shown = run(tmp_path, str(good), "published", "--operator-keys", keys, exit_code=2)
    assert shown == "error: B is no file, and --operator-keys is needed for a published card: got 'published'\n"
