"""Which exchange rate holds, and statements in another currency."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from gatemeter.sinks.reports.converted import Converter
from gatemeter.sinks.reports.statement import AMOUNTS, COMPONENTS, COUNTS, StatementLine
from gatemeter.sinks.terms.commitments import commitment_of, settle
from gatemeter.sinks.terms.dated import TermError
from gatemeter.sinks.terms.exchange import Exchange, NoRate, fx_rate_of
from gatemeter.sinks.terms.months import DAY_US
from support.terms import OCTOBER, commitment_datum, rate_datum

LATER_US = OCTOBER.end_us + DAY_US
DURING_US = OCTOBER.start_us + 10 * DAY_US
CENT = 10**10


def exchange(*datums: dict[str, Any]) -> Exchange:
    return Exchange(fx_rate_of(datum) for datum in datums)


def line(tenant: str, currency: str = "USD", **pico: int) -> StatementLine:
    amounts = dict.fromkeys(AMOUNTS, 0) | pico
    parts = sum(amounts[name] for name in COMPONENTS) - amounts["absorbed"]
    return StatementLine(date(2026, 10, 1), tenant, currency, dict.fromkeys(COUNTS, 0), {}, amounts | {"total": parts})


def test_a_month_that_is_over_has_the_rate_at_its_end() -> None:
    rates = exchange(
        rate_datum(rate="0.8"),
        rate_datum(rate="0.9", effective_from=OCTOBER.end_us - 1),
        rate_datum(rate="0.7", effective_from=OCTOBER.end_us),
    )
    found = rates.at_end_of(OCTOBER, "USD", "EUR", LATER_US)
    assert (found.factor, found.text) == (
        Fraction(9, 10),
        "1 USD = 0.9 EUR, in force from 2026-10-31T23:59:59.999999Z, source: bank",
    )


def test_a_running_month_has_the_rate_of_now_else_the_last_known_one() -> None:
    early = rate_datum(rate="0.8", effective_to=DURING_US - DAY_US)
    future = rate_datum(rate="0.7", effective_from=DURING_US + 1)
    found = exchange(early, future).at_end_of(OCTOBER, "USD", "EUR", DURING_US)
    assert found.factor == Fraction(8, 10)
    assert "the last known one, which ended 2026-10-10T00:00:00Z" in found.text
    with pytest.raises(NoRate, match=r"USD/EUR \(nor EUR/USD\) at 2026-10-31T23:59:59\.999999Z"):
        exchange(early).at_end_of(OCTOBER, "USD", "EUR", LATER_US)


def test_the_inverse_is_used_exactly_where_the_pair_itself_has_no_rate() -> None:
    inverse = rate_datum("EUR/USD", "1.25")
    assert exchange(inverse).at_end_of(OCTOBER, "USD", "EUR", LATER_US).factor == Fraction(4, 5)
    both = exchange(inverse, rate_datum(rate="0.79"))
    assert both.at_end_of(OCTOBER, "USD", "EUR", LATER_US).factor == Fraction(79, 100)


def test_no_rate_is_never_one_and_there_is_no_way_over_a_third_currency() -> None:
    rates = exchange(rate_datum("USD/GBP", "0.5"), rate_datum("GBP/EUR", "2"))
    with pytest.raises(NoRate, match="USD/EUR"):
        rates.at_end_of(OCTOBER, "USD", "EUR", LATER_US)


def test_lines_add_up_to_the_converted_total_and_components_to_their_line() -> None:
    converter = Converter(exchange(rate_datum("USD/EUR", "0.333")), "EUR", LATER_US)
    lines = [line(name, token_cost=CENT, markup=2 * CENT, absorbed=CENT) for name in ("a", "b", "c")]
    converted = converter.lines(lines)
    assert [each.cents["total"] for each in converted] == [1, 1, 0]  # 2 cents of 0.666 each: 1.998 are 2
    for each in converted:
        parts = sum(each.cents[name] for name in COMPONENTS)
        assert parts - each.cents["absorbed"] == each.cents["total"]


def test_what_is_stored_in_the_currency_and_what_had_no_price_need_no_rate() -> None:
    converter = Converter(exchange(rate_datum("USD/JPY", "160")), "JPY", LATER_US)
    yen, dollars, none = converter.lines(
        [line("a", "JPY", token_cost=7 * 10**12), line("a", model_cost=CENT), line("b", "")]
    )
    assert [each.cents["total"] for each in (yen, dollars, none)] == [7, 2, 0]  # yen have no cents
    assert (yen.conversion, none.conversion) == (None, None)
    assert yen.stored.pico["token_cost"] == 7 * 10**12


def test_a_commitment_in_another_currency_still_adds_up() -> None:
    (settled,) = settle([commitment_of(commitment_datum(amount="0.05"))], OCTOBER, OCTOBER.end_us, [])
    used = replace(settled, used_pico=2 * CENT, unused_pico=3 * CENT)
    (converted,) = Converter(exchange(rate_datum(rate="0.5")), "EUR", LATER_US).settlements([used])
    assert converted.cents == {"used": 1, "unused": 1, "overage": 0, "fee": 2}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pair": "USD/USD"}, "pair must be two different ISO 4217 codes"),
        ({"pair": "usd/EUR"}, "pair must be two different ISO 4217 codes"),
        ({"rate": "0"}, "rate must be above 0 and at most 1000000000, got 0"),
        ({"rate": "1e3"}, "rate must be a decimal such as"),
        ({"source": " "}, "source must be 1 to 256 characters"),
    ],
)
def test_a_rate_out_of_range_is_refused_with_field_and_range(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TermError, match=says):
        fx_rate_of(rate_datum(**changes))
