"""Each cause, planted alone: it is found with its amount, and nothing else is."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from gatemeter.processors.reconciling.amounts import findings
from gatemeter.processors.reconciling.sides import Charge, Key, Sides, Tolerances
from support.reconciled import INPUT, OUTPUT, PRICES, around, both, invoiced, key, metered

CENT = 10**10


def found(sides: Sides, tolerances: Tolerances | None = None, **elsewhere: int) -> list[tuple[str, Key | None, int]]:
    """Cause, key and amount of each finding."""
    said = findings(sides, tolerances or Tolerances(), lambda _: elsewhere)
    return [(finding.cause, finding.key, finding.amount) for finding in said]


def test_sides_that_agree_have_no_finding() -> None:
    assert found(both(key(), key(2), key(token_type=OUTPUT))) == []


def test_what_no_gateway_saw_is_unmetered_and_says_who_is_billed() -> None:
    sides = both(key(), key(2))
    sides.invoiced[key(2)] = invoiced(1_300, payers={"org/p/key_a": Decimal(400), "org/p/key_b": Decimal(900)})
    [finding] = findings(sides, Tolerances())
    assert (finding.cause, finding.amount, finding.quantity) == ("unmetered", 300 * PRICES[INPUT], 300)
    assert finding.evidence == {"billed_to": ["org/p/key_b 900", "org/p/key_a 400"]}


def test_a_key_whose_every_use_is_beyond_what_was_metered_is_not_hidden_by_failed_attempts() -> None:
    sides = both(key(), key(2))
    for each, stolen, retried in ((key(), 40, 0), (key(2), 60, 5)):
        payers = {"org/p/ours": Decimal(1_000 + retried), "org/p/lost": Decimal(stolen)}
        sides.invoiced[each] = invoiced(1_000 + retried + stolen, payers=payers)
        around(sides, each, retried=90, largest={"input": 500})
    said = findings(sides, Tolerances())
    assert [(each.cause, each.key, each.quantity) for each in said] == [
        ("unmetered", key(), 40),
        ("unmetered", key(2), 60),
        ("retries_charged", key(2), 5),
    ]
    assert said[0].evidence == {"billed_to": ["org/p/lost 40"]}
    assert sum(each.amount for each in said) == 105 * PRICES[INPUT]


def test_a_key_that_was_metered_once_is_not_blamed_for_what_failed_attempts_were_billed() -> None:
    sides = both(key(), key(2))
    for each in (key(), key(2)):
        payers = {"org/p/ours": Decimal(940), "org/p/second": Decimal(60)}
        sides.invoiced[each] = invoiced(1_000, payers=payers)
    sides.invoiced[key(2)] = invoiced(1_070, payers={"org/p/ours": Decimal(1_010), "org/p/second": Decimal(60)})
    around(sides, key(2), retried=2, largest={"input": 50})
    assert found(sides) == [("retries_charged", key(2), 70 * PRICES[INPUT])]


def test_the_only_key_of_a_scope_may_have_been_billed_for_failed_attempts_alone() -> None:
    sides = both(key())
    del sides.metered[key()]
    sides.invoiced[key()] = invoiced(80, cost=80 * PRICES[INPUT], payers={"org/p/ours": Decimal(80)})
    around(sides, key(), retried=2, largest={"input": 50})
    assert found(sides) == [("retries_charged", key(), 80 * PRICES[INPUT])]


def test_a_model_that_no_gateway_ever_saw_is_unmetered_at_the_invoice_s_price() -> None:
    sides = both(key())
    sides.invoiced[key(model="o3")] = invoiced(70, cost=777)
    assert found(sides) == [("unmetered", key(model="o3"), 777)]


def test_what_the_provider_did_not_bill_is_a_missing_line() -> None:
    sides = both(key(), key(2))
    del sides.invoiced[key(2)]
    assert found(sides) == [("missing_provider_line", key(2), -1_000 * PRICES[INPUT])]


def test_another_price_is_a_price_difference() -> None:
    sides = both(key(), key(2))
    sides.invoiced[key(2)] = invoiced(1_000, cost=1_000 * 3_000_000)
    assert found(sides) == [("price_difference", key(2), 1_000 * 500_000)]


def test_another_price_and_more_use_are_told_apart() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_200, cost=1_200 * 3_000_000)
    assert found(sides) == [("unmetered", key(), 200 * 3_000_000), ("price_difference", key(), 1_000 * 500_000)]


def test_use_that_is_billed_as_batch_moves_between_the_classes() -> None:
    batch = key(workload_class="batch")
    sides = both(key())
    sides.invoiced[key()] = invoiced(600)
    sides.invoiced[batch] = invoiced(400, cost=400 * PRICES[INPUT] // 2)
    assert found(sides) == [
        ("tier_or_batch", batch, 400 * PRICES[INPUT] // 2),
        ("tier_or_batch", key(), -400 * PRICES[INPUT]),
    ]


def test_a_price_of_another_tier_is_a_matter_of_tier() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_000, cost=1_000 * 1_250_000)
    assert found(sides, flex=1_250_000) == [("tier_or_batch", key(), -1_000 * 1_250_000)]


@pytest.mark.parametrize(
    ("category", "cause"),
    [
        ("credit", "credit"),
        ("tax", "tax"),
        ("fee", "fixed_fee"),
        ("commitment", "fixed_fee"),
        ("rounding", "rounding"),
        ("adjustment", "credit"),
    ],
)
def test_a_charge_without_use_is_what_its_category_says(category: str, cause: str) -> None:
    sides = both(key())
    sides.charges.append(Charge(key().day, "", category, "line", -5))
    assert found(sides) == [(cause, None, -5)]


def test_use_that_the_provider_gives_away_is_a_credit() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_000, cost=0)
    assert found(sides) == [("credit", key(), -1_000 * PRICES[INPUT])]


def test_one_ratio_for_all_lines_of_a_converted_invoice_is_the_exchange_rate() -> None:
    keys = [key(day) for day in range(1, 6)]
    sides = both(*keys)
    sides.converted = True
    for each in keys:
        sides.invoiced[each] = invoiced(1_000, cost=1_000 * 2_550_000)
    assert found(sides) == [("fx", each, 1_000 * 50_000) for each in keys]


def test_an_invoice_that_was_not_converted_has_no_exchange_rate() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_000, cost=1_000 * 2_550_000)
    assert [cause for cause, _, _ in found(sides)] == ["price_difference"]


@pytest.mark.parametrize(("off", "cause"), [(CENT // 2, "rounding"), (CENT // 2 + 1, "price_difference")])
def test_half_of_the_provider_s_smallest_step_a_line_is_rounding(off: int, cause: str) -> None:
    sides = both(key())
    sides.rounded_to = CENT
    sides.invoiced[key()] = invoiced(1_000, cost=1_000 * PRICES[INPUT] + off)
    assert found(sides) == [(cause, key(), off)]


def test_more_use_of_a_rounded_line_is_valued_at_our_price() -> None:
    sides = both(key())
    sides.rounded_to = CENT
    sides.invoiced[key()] = invoiced(1_500, cost=1_500 * PRICES[INPUT] + 7)
    assert found(sides) == [("unmetered", key(), 500 * PRICES[INPUT]), ("rounding", key(), 7)]


def test_streams_that_callers_left_explain_as_much_as_they_may_have_used() -> None:
    sides = both(key(token_type=OUTPUT))
    around(sides, key(), cancelled=2, largest={"output": 100})
    sides.invoiced[key(token_type=OUTPUT)] = invoiced(1_200, OUTPUT)
    assert found(sides) == [("cancelled_streams", key(token_type=OUTPUT), 200 * PRICES[OUTPUT])]


def test_more_than_attempts_may_have_used_is_unmetered_whole() -> None:
    sides = both(key(token_type=OUTPUT))
    around(sides, key(), cancelled=2, retried=1, largest={"output": 100})
    sides.invoiced[key(token_type=OUTPUT)] = invoiced(1_301, OUTPUT)
    assert found(sides) == [("unmetered", key(token_type=OUTPUT), 301 * PRICES[OUTPUT])]


def test_attempts_that_failed_and_were_billed_are_retries() -> None:
    sides = both(key())
    around(sides, key(), retried=3, largest={"input": 50})
    sides.invoiced[key()] = invoiced(1_120)
    assert found(sides) == [("retries_charged", key(), 120 * PRICES[INPUT])]


def test_cancelled_and_failed_attempts_share_what_they_explain() -> None:
    sides = both(key())
    around(sides, key(), cancelled=1, retried=2, largest={"input": 50})
    sides.invoiced[key()] = invoiced(1_120)
    assert found(sides) == [
        ("cancelled_streams", key(), 40 * PRICES[INPUT]),
        ("retries_charged", key(), 80 * PRICES[INPUT]),
    ]


def test_answers_whose_usage_nobody_told_are_a_matter_of_estimates() -> None:
    sides = both(key())
    around(sides, key(), untold=2, largest={"input": 100})
    sides.invoiced[key()] = invoiced(1_150)
    assert found(sides) == [("estimated_tokens", key(), 150 * PRICES[INPUT])]


def test_a_provider_whose_day_begins_later_moves_the_hours_near_midnight() -> None:
    keys = [key(day, model=model) for day in range(1, 32) for model in ("gpt-4o", "o3")]
    sides = both(*keys)
    for each in keys:
        sides.metered[each].by_hour = dict.fromkeys(range(24), 40 + each.day.day)
        sides.metered[each].quantity = 24 * (40 + each.day.day)
        sides.metered[each].cost = sides.metered[each].quantity * PRICES[INPUT]
    for each in keys:
        # The day gains the first seven hours of the next one, and loses its own.
        following = 7 * (41 + each.day.day) if each.day.day < 31 else 0
        sides.invoiced[each] = invoiced(sides.metered[each].quantity - 7 * (40 + each.day.day) + following)
    said = found(sides)
    assert {cause for cause, _, _ in said} == {"time_zone_edge"}
    assert len(said) == 62
    assert said[0][2] == 7 * PRICES[INPUT]


def test_late_hours_that_nobody_billed_are_no_time_zone() -> None:
    keys = (key(), key(token_type=OUTPUT), key(model="o3"))
    sides = both(*keys, key(20))
    for each in keys:
        sides.metered[each].by_hour = {22: 400, 23: 600}
        del sides.invoiced[each]
    assert {(cause, amount < 0) for cause, _, amount in found(sides)} == {("missing_provider_line", True)}


def test_use_that_is_billed_two_days_later_is_late_on_both_days() -> None:
    sides = both(key(4), key(6))
    sides.invoiced[key(4)] = invoiced(700)
    sides.invoiced[key(6)] = invoiced(1_300)
    amount = 300 * PRICES[INPUT]
    assert found(sides) == [("late_usage", key(4), -amount), ("late_usage", key(6), amount)]


def test_what_the_last_day_of_an_export_lacks_may_still_come() -> None:
    sides = both(key(30), key(31))
    sides.invoiced[key(31)] = invoiced(900)
    assert found(sides) == [("late_usage", key(31), -100 * PRICES[INPUT])]


def test_estimates_that_are_off_by_no_more_than_allowed_explain_themselves() -> None:
    sides = both(key())
    sides.metered[key()] = metered(1_000, estimated=400)
    sides.invoiced[key()] = invoiced(810)
    assert found(sides) == [("estimated_tokens", key(), -190 * PRICES[INPUT])]
    assert found(sides, Tolerances(estimated_percent=40)) == [("missing_provider_line", key(), -190 * PRICES[INPUT])]


def test_a_line_that_is_billed_twice_is_a_duplicate() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(2_000, repeated_quantity=Decimal(1_000), repeated_cost=1_000 * PRICES[INPUT])
    assert found(sides) == [("duplicate", key(), 1_000 * PRICES[INPUT])]


def test_a_cost_line_that_is_there_twice_is_a_duplicate_though_the_usage_report_counts_once() -> None:
    sides = both(key())
    cost = 1_000 * PRICES[INPUT]
    sides.invoiced[key()] = invoiced(1_000, cost=2 * cost, repeated_cost=cost)
    assert found(sides) == [("duplicate", key(), cost)]


def test_equal_lines_that_agree_with_the_facts_are_no_duplicate() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_000, repeated_quantity=Decimal(500))
    assert found(sides) == []


def test_a_call_that_two_gateways_metered_is_a_duplicate_of_ours() -> None:
    sides = both(key())
    sides.metered[key()] = metered(1_000, twice=250)
    sides.invoiced[key()] = invoiced(750)
    assert found(sides) == [("duplicate", key(), -250 * PRICES[INPUT])]


def test_what_the_settings_let_pass_is_within_tolerance() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_001)
    assert found(sides, Tolerances(quantity_ppm=1_000)) == [("within_tolerance", key(), PRICES[INPUT])]


def test_an_amount_that_the_settings_let_pass_is_no_rounding_and_shared_out_to_nobody() -> None:
    sides = both(key(), key(2))
    sides.rounded_to = CENT
    cost = 1_000 * PRICES[INPUT]
    sides.invoiced[key()] = invoiced(1_000, cost=cost + CENT // 2)
    sides.invoiced[key(2)] = invoiced(1_000, cost=cost + 3 * CENT)
    assert found(sides, Tolerances(amount=5 * CENT)) == [
        ("rounding", key(), CENT // 2),
        ("within_tolerance", key(2), 3 * CENT),
    ]


def test_a_provider_that_tells_amounts_alone_is_compared_by_amounts() -> None:
    keys = [key(day) for day in range(1, 5)]
    sides = both(*keys)
    for each in keys:
        sides.invoiced[each] = invoiced(None, cost=1_000 * PRICES[INPUT])
    assert found(sides) == []
    sides.invoiced[key(2)] = invoiced(None, cost=1_300 * PRICES[INPUT])
    assert found(sides) == [("unmetered", key(2), 300 * PRICES[INPUT])]


def test_amounts_alone_that_are_one_multiple_of_ours_every_day_are_another_price() -> None:
    keys = [key(day) for day in range(1, 5)]
    sides = both(*keys)
    for each in keys:
        sides.invoiced[each] = invoiced(None, cost=1_100 * PRICES[INPUT])
    assert found(sides) == [("price_difference", each, 100 * PRICES[INPUT]) for each in keys]


def test_days_that_no_import_speaks_of_are_not_compared() -> None:
    sides = both(key())
    sides.billed_days = frozenset({date(2026, 10, 2)})
    del sides.invoiced[key()]
    assert found(sides) == []


def test_a_quantity_keeps_its_fraction() -> None:
    sides = both(key())
    sides.invoiced[key()] = invoiced(1_000, cost=1_000 * PRICES[INPUT] + PRICES[INPUT] // 2)
    sides.invoiced[key()].quantity = Decimal("1000.5")
    [finding] = findings(sides, Tolerances())
    assert finding.quantity == Fraction(1, 2)
