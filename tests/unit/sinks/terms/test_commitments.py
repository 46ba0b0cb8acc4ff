"""Fees, use, what is left, and which commitment a use draws on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gatemeter.sinks.terms.commitments import Settlement, Use, commitment_of, settle
from gatemeter.sinks.terms.dated import TermError
from gatemeter.sinks.terms.months import HOUR_US, month_of
from support.terms import OCTOBER, commitment_datum

UNIT = 10**12


def use(cost: int = 1, hour: int = 0, **changes: Any) -> Use:
    kind = {"provider": "openai", "model": "gpt", "served_model": "gpt-1", "service_tier": "", "region": "eu"}
    kind |= {"currency": "USD", "cost_pico": cost * UNIT, "attempts": 1}
    return Use(OCTOBER.start_us + hour * HOUR_US, **(kind | changes))


def settled(*datums: dict[str, Any], uses: list[Use] | None = None, until_us: int = OCTOBER.end_us) -> list[Settlement]:
    return settle([commitment_of(datum) for datum in datums], OCTOBER, until_us, uses or [])


def amounts(line: Settlement) -> tuple[float, ...]:
    return tuple(pico / UNIT for pico in (line.fee_pico, line.used_pico, line.unused_pico, line.overage_pico))


def test_what_is_not_used_of_a_months_fee_is_left() -> None:
    (line,) = settled(commitment_datum(), uses=[use(3000), use(1000, hour=743)])
    assert amounts(line) == (7440, 4000, 3440, 0)
    assert (line.hours, line.attempts, line.invoice_pico) == (744, 2, 7440 * UNIT)
    assert line.utilisation_percent == Decimal("53.76")


def test_more_than_the_fee_is_an_overage() -> None:
    (line,) = settled(commitment_datum(), uses=[use(8000)])
    assert amounts(line) == (7440, 8000, 0, 560)
    assert (line.invoice_pico, line.utilisation_percent) == (8000 * UNIT, Decimal("100.00"))


def test_a_commitment_without_any_use_is_shown() -> None:
    (line,) = settled(commitment_datum())
    assert amounts(line) == (7440, 0, 7440, 0)


def test_a_fee_is_pro_rata_by_the_hours_in_force() -> None:
    half = commitment_datum(effective_from=OCTOBER.start_us + 372 * HOUR_US)
    (line,) = settled(half, uses=[use(5, hour=371), use(7, hour=372)])
    assert amounts(line) == (3720, 7, 3713, 0)
    assert line.hours == 372


def test_a_fee_by_the_hour_counts_whole_hours_of_a_running_month() -> None:
    hourly = commitment_datum(per="hour", amount="2.5")
    (line,) = settled(hourly, until_us=OCTOBER.start_us + 10 * HOUR_US, uses=[use(5, hour=9), use(7, hour=10)])
    assert amounts(line) == (25, 5, 20, 0)
    assert line.running


def test_a_later_version_takes_over_and_the_earlier_one_comes_back() -> None:
    base = commitment_datum(per="hour", amount="1")
    start = OCTOBER.start_us + 100 * HOUR_US
    dear = base | {"amount": "3", "effective_from": start, "effective_to": start + 10 * HOUR_US}
    (line,) = settled(base, dear)
    assert line.fee_pico == (734 + 30) * UNIT


def test_settled_by_the_hour_an_unused_hour_is_lost() -> None:
    hourly = commitment_datum(per="hour", amount="1", settled="hour")
    (line,) = settled(hourly, until_us=OCTOBER.start_us + 2 * HOUR_US, uses=[use(2)])
    assert amounts(line) == (2, 2, 1, 1)
    assert line.utilisation_percent == Decimal("50.00")


def test_a_month_that_does_not_divide_is_paid_to_the_last_digit_once() -> None:
    february = month_of("2027-02")
    odd = commitment_of(commitment_datum(amount="100", settled="hour"))
    (line,) = settle([odd], february, february.end_us, [])
    assert (line.fee_pico, line.unused_pico) == (100 * UNIT, 100 * UNIT)
    (third,) = settle([odd], february, february.start_us + 224 * HOUR_US, [])
    assert third.fee_pico == 33_333_333_333_333


@pytest.mark.parametrize(
    ("covers", "drawn"),
    [
        ({"models": ["gpt"]}, 1),
        ({"models": ["gpt-1"]}, 1),
        ({"models": ["other"]}, 0),
        ({"service_tier": ""}, 1),
        ({"service_tier": "provisioned"}, 0),
        ({"region": "eu"}, 1),
        ({"region": "us"}, 0),
        ({"provider": "azure"}, 0),
    ],
)
def test_only_what_it_names_is_covered(covers: dict[str, Any], drawn: int) -> None:
    (line,) = settled(commitment_datum(**covers), uses=[use(5)])
    assert (line.attempts, line.used_pico) == (drawn, 5 * drawn * UNIT)


def test_a_use_draws_on_the_one_that_names_more_and_never_twice() -> None:
    general, named = commitment_datum("a"), commitment_datum("z", models=["gpt"], region="eu")
    lines = settled(general, named, commitment_datum("b", models=["gpt"]), uses=[use(9000)])
    assert [(line.commitment_id, line.attempts) for line in lines] == [("a", 0), ("b", 0), ("z", 1)]
    equal = settled(commitment_datum("a"), commitment_datum("b"), uses=[use(5)])
    assert [line.attempts for line in equal] == [1, 0]


def test_another_currency_and_what_has_no_price_are_counted_and_in_no_amount() -> None:
    uses = [use(5, currency="EUR", attempts=3), use(0, currency="", attempts=2, unpriced_attempts=2)]
    (line,) = settled(commitment_datum(), uses=uses)
    assert (line.used_pico, line.attempts, line.unpriced_attempts, line.other_currency_attempts) == (0, 2, 2, 3)
    both = settled(commitment_datum("a"), commitment_datum("e", currency="EUR"), uses=uses)
    assert [(line.commitment_id, line.used_pico // UNIT) for line in both] == [("a", 0), ("e", 5)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"amount": "-5"}, "amount must be a decimal such as 1250.50, got '-5'"),
        ({"amount": "1" * 17}, "amount must be 0 to 1000000000000000 with at most 12 decimals"),
        ({"amount": "0.0000000000001"}, "amount must be 0 to 1000000000000000 with at most 12 decimals"),
        ({"per": "day"}, "per must be one of hour, month, got 'day'"),
        ({"currency": "usd"}, "currency must be an ISO 4217 code such as USD, got 'usd'"),
        ({"source": ""}, "source must be 1 to 256 characters"),
        ({"effective_from": OCTOBER.start_us + 1}, "effective_from must be a whole hour"),
        ({"effective_to": OCTOBER.end_us + 1}, "effective_to must be a whole hour"),
        ({"effective_to": 0}, "effective_to must be after effective_from"),
    ],
)
def test_a_value_out_of_range_is_refused_with_field_and_range(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TermError, match=says.replace(".", r"\.")):
        commitment_of(commitment_datum(**changes))
