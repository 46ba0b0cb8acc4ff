"""Rounded lines always add up to the rounded total, and no line is off by a whole cent."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.sinks.reports.cents import apportion, format_minor, minor_digits, plain_minor, round_half_even

AMOUNT = st.integers(-(10**20), 10**20) | st.integers(-(10**32), 10**32) | st.integers(-30, 30).map(lambda n: n * 10**9)
LINES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), AMOUNT, max_size=8)
CURRENCY = st.sampled_from(["USD", "EUR", "JPY", "KWD", ""])


@given(LINES, CURRENCY)
def test_lines_add_up_to_the_rounded_total(lines: dict[str, int], currency: str) -> None:
    unit = 10 ** (12 - minor_digits(currency))
    assert sum(apportion(lines, currency).values()) == round(Fraction(sum(lines.values()), unit))


@given(LINES, CURRENCY)
def test_no_line_is_off_by_a_whole_unit(lines: dict[str, int], currency: str) -> None:
    unit = 10 ** (12 - minor_digits(currency))
    for key, units in apportion(lines, currency).items():
        assert abs(units * unit - lines[key]) < unit


@given(LINES, CURRENCY, st.randoms(use_true_random=False))
def test_the_order_of_lines_changes_nothing(lines: dict[str, int], currency: str, random: st.DrawFn) -> None:
    keys = list(lines)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert apportion({key: lines[key] for key in keys}, currency) == apportion(lines, currency)


@given(st.integers(-(10**30), 10**30), st.sampled_from([1, 10**9, 10**10, 10**12]))
def test_rounding_is_half_even(pico: int, unit: int) -> None:
    assert round_half_even(pico, unit) == round(Fraction(pico, unit))


def test_ties_go_to_the_smaller_key_and_the_boundary_is_a_half() -> None:
    half = 5 * 10**9
    assert apportion({"b": half, "a": half}, "USD") == {"b": 0, "a": 1}
    assert apportion({"a": half}, "USD") == {"a": 0}  # 0.5 → 0
    assert apportion({"a": 3 * half}, "USD") == {"a": 2}  # 1.5 → 2
    assert apportion({"a": half + 1}, "USD") == {"a": 1}
    assert apportion({"a": -half}, "USD") == {"a": 0}


@given(st.integers(-(10**12), 10**12))
def test_text_has_the_currencys_digits(units: int) -> None:
    for currency, digits in (("USD", 2), ("JPY", 0), ("KWD", 3)):
        plain = plain_minor(units, currency)
        assert Decimal(plain) == Decimal(units).scaleb(-digits)
        assert len(plain.partition(".")[2]) == digits
        assert format_minor(units, currency) == f"{Decimal(plain):,}"
    assert format_minor(-123456, "USD") == "-1,234.56"
