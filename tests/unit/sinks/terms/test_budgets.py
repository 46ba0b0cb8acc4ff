"""Thresholds, per cents, and where a month is heading."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gatemeter.sinks.terms.budgets import budget_of, forecast, version_for
from gatemeter.sinks.terms.crossings import crossing_row
from gatemeter.sinks.terms.dated import TermError
from gatemeter.sinks.terms.months import DAY_US
from support.terms import OCTOBER, budget_datum

UNIT = 10**12
FIRST = date(2026, 1, 1)
DAY = OCTOBER.first


def days(*amounts: int, start: date = DAY) -> dict[date, int]:
    return {start + timedelta(days=number): amount for number, amount in enumerate(amounts)}


def at(day: int) -> int:
    """Noon of a day of October."""
    return OCTOBER.start_us + (day - 1) * DAY_US + DAY_US // 2


def test_a_threshold_is_crossed_from_exactly_its_amount_on() -> None:
    budget = budget_of(budget_datum())
    assert budget.crossed(800 * UNIT - 1) == (50,)
    assert budget.crossed(800 * UNIT) == (50, 80)
    assert budget.crossed(1_000_000 * UNIT) == (50, 80, 100)
    assert (budget.crossed(0), budget.crossed(-1)) == ((), ())
    assert budget.percent(123_456_000_000_000) == Decimal("12.35")


def test_the_days_that_are_left_cost_the_mean_of_the_last_seven_whole_ones() -> None:
    spent = days(10, 10, 10, 10, 10, 10, 10, 10, 10, 3)  # the tenth is today
    assert forecast(spent, OCTOBER, at(10), FIRST) == 9 * 10 + 22 * 10
    assert forecast(days(100, 7, 7, 7, 7, 7, 7, 7), OCTOBER, at(9), FIRST) == 149 + 23 * 7


def test_at_the_beginning_of_a_month_the_days_before_it_count_for_the_mean() -> None:
    before = days(14, 14, 14, 14, 14, 14, 14, start=DAY - timedelta(days=7))
    assert forecast(before, OCTOBER, at(1), FIRST) == 31 * 14
    assert forecast(before | days(0), OCTOBER, at(2), FIRST) == 0 + 30 * 12


def test_days_before_the_first_day_of_metering_do_not_count() -> None:
    assert forecast(days(10, 20), OCTOBER, at(3), DAY) == 30 + 29 * 15
    assert forecast(days(10), OCTOBER, at(1), DAY) is None
    assert forecast({}, OCTOBER, at(3), None) is None


def test_a_forecast_is_never_less_than_what_is_spent() -> None:
    assert forecast(days(1, 1, 5_000), OCTOBER, at(3), FIRST) == 5_002


def test_a_month_that_is_over_will_cost_what_it_did_and_a_coming_one_is_unknown() -> None:
    spent = days(10, 20) | days(99, start=date(2026, 11, 1))
    assert forecast(spent, OCTOBER, OCTOBER.end_us, FIRST) == 30
    assert forecast(spent, OCTOBER.next(), at(5), FIRST) is None


def test_a_mean_that_does_not_divide_is_rounded_half_even_once() -> None:
    assert forecast(days(1, 0, 0, 0, 0, 0, 0), OCTOBER, at(8), FIRST) == 1 + 3  # 24 / 7 = 3.43


def test_the_version_in_force_at_the_end_counts_for_the_whole_month() -> None:
    base = budget_of(budget_datum())
    raised = budget_of(budget_datum(amount="2000", effective_from=at(20)))
    assert version_for([base, raised], OCTOBER, OCTOBER.end_us) == raised
    assert version_for([base, raised], OCTOBER, at(10)) == base
    ended = budget_of(budget_datum(effective_to=at(20)))
    assert version_for([ended], OCTOBER, OCTOBER.end_us) is None


def test_a_crossing_has_one_key_whoever_finds_it_when() -> None:
    budget = budget_of(budget_datum())
    first, again = (crossing_row(budget, OCTOBER, 80, spend, at_us) for spend, at_us in ((800, at(9)), (900, at(12))))
    key = ("topic", "partition", "offset", "event_index", "kind")
    assert (
        [first[name] for name in key] == [again[name] for name in key] == ["budgets/b", 0, 202610, 80, "budget_crossed"]
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"thresholds": []}, "thresholds must be 1 to 20 rising whole per cents of 1 to 1000"),
        ({"thresholds": [50, 50]}, "thresholds must be 1 to 20 rising"),
        ({"thresholds": [0]}, "thresholds must be 1 to 20 rising"),
        ({"thresholds": [1001]}, "thresholds must be 1 to 20 rising"),
        ({"scope": "app"}, "scope must be one of tenant, cost_centre, got 'app'"),
        ({"amount": "0"}, "amount must be above 0, got 0"),
        ({"owner": ""}, "owner must be 1 to 256 characters"),
    ],
)
def test_a_value_out_of_range_is_refused_with_field_and_range(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TermError, match=says):
        budget_of(budget_datum(**changes))
