"""What holds for all budgets: more spend never lowers a forecast, and never takes a crossing back."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.terms.budgets import budget_of, forecast
from gatemeter.sinks.terms.months import DAY_US, HOUR_US
from support.terms import OCTOBER, budget_datum

around = st.integers(-7, 30).map(lambda offset: OCTOBER.first + timedelta(days=offset))
spends = st.dictionaries(around, st.integers(-(10**15), 10**18))
moments = st.integers(-30 * 24, 60 * 24).map(lambda hours: OCTOBER.start_us + hours * HOUR_US)
firsts = st.one_of(st.none(), around)


@settings(deadline=None)
@given(spends, around, st.integers(0, 10**18), moments, firsts)
def test_a_forecast_never_falls_when_more_is_spent(
    days: dict[date, int], day: date, more: int, now_us: int, first_day: date | None
) -> None:
    before = forecast(days, OCTOBER, now_us, first_day)
    after = forecast(days | {day: days.get(day, 0) + more}, OCTOBER, now_us, first_day)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after >= before
        assert before >= sum(pico for at, pico in days.items() if at >= OCTOBER.first)


@settings(deadline=None)
@given(st.integers(0, 31 * DAY_US - 1), st.integers(0, 10**18))
def test_an_even_spend_is_forecast_to_the_last_digit(into_us: int, daily: int) -> None:
    days = {OCTOBER.first + timedelta(days=offset): daily for offset in range(-7, into_us // DAY_US)}
    assert forecast(days, OCTOBER, OCTOBER.start_us + into_us, date(2026, 1, 1)) == 31 * daily


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=20, unique=True).map(sorted),
    st.integers(1, 10**6),
    st.integers(-(10**15), 10**19),
    st.integers(0, 10**18),
)
def test_what_is_crossed_stays_crossed_with_more_spend(
    thresholds: list[int], amount: int, spend: int, more: int
) -> None:
    budget = budget_of(budget_datum(thresholds=thresholds, amount=str(amount)))
    assert set(budget.crossed(spend)) <= set(budget.crossed(spend + more))
    assert [percent for percent in thresholds if 100 * spend >= percent * budget.amount_pico] == [
        *budget.crossed(spend)
    ]
