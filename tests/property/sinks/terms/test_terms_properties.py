"""What holds for all commitments, exchange rates and statements: they add up."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.reports.cents import PICO_DIGITS, minor_digits, round_half_even
from gatemeter.sinks.reports.converted import Converter
from gatemeter.sinks.reports.statement import AMOUNTS, COMPONENTS, COUNTS, StatementLine
from gatemeter.sinks.terms.commitments import Use, commitment_of, settle
from gatemeter.sinks.terms.exchange import Exchange, fx_rate_of
from gatemeter.sinks.terms.months import HOUR_US
from support.terms import OCTOBER, commitment_datum, rate_datum

hours = st.integers(0, OCTOBER.hours)
amounts = st.decimals(0, 10**6, places=12).map(lambda amount: f"{amount:f}")
picos = st.integers(-(10**16), 10**18)


@st.composite
def commitments(draw: st.DrawFn) -> list[dict[str, object]]:
    made = []
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.lists(hours, min_size=2, max_size=2, unique=True)))
        made.append(
            commitment_datum(
                f"c{draw(st.integers(0, 2))}",
                effective_from=OCTOBER.start_us + start * HOUR_US,
                effective_to=OCTOBER.start_us + end * HOUR_US,
                models=draw(st.sampled_from([[], ["m0"], ["m0", "m1"]])),
                amount=draw(amounts),
                per=draw(st.sampled_from(["hour", "month"])),
                settled=draw(st.sampled_from(["hour", "month"])),
                currency=draw(st.sampled_from(["USD", "EUR"])),
            )
        )
    return made


@st.composite
def uses(draw: st.DrawFn) -> list[Use]:
    one = st.builds(
        Use,
        hours.map(lambda hour: OCTOBER.start_us + hour * HOUR_US),
        st.just("openai"),
        st.sampled_from(["m0", "m1", "m2"]),
        st.just(""),
        st.just(""),
        st.just(""),
        st.sampled_from(["USD", "EUR"]),
        picos,
        st.integers(1, 5),
    )
    return draw(st.lists(one, max_size=12))


@settings(deadline=None)
@given(commitments(), uses(), hours)
def test_used_and_unused_less_overage_are_the_fee_and_no_use_counts_twice(
    datums: list[dict[str, object]], drawn: list[Use], until: int
) -> None:
    until_us = OCTOBER.start_us + until * HOUR_US
    lines = settle([commitment_of(datum) for datum in datums], OCTOBER, until_us, drawn)
    for line in lines:
        assert line.used_pico + line.unused_pico - line.overage_pico == line.fee_pico
        assert line.unused_pico >= 0 and line.overage_pico >= 0 and line.fee_pico >= 0
        assert line.invoice_pico >= line.fee_pico
    for currency in ("USD", "EUR"):
        covered = sum(line.attempts for line in lines if line.currency == currency)
        assert covered <= sum(use.attempts for use in drawn if use.currency == currency)


@settings(deadline=None)
@given(amounts, st.lists(hours, max_size=5, unique=True), st.sampled_from(["hour", "month"]))
def test_versions_that_follow_each_other_cost_what_one_costs(amount: str, cuts: list[int], per: str) -> None:
    whole = commitment_datum(amount=amount, per=per)
    edges = sorted({0, *cuts, OCTOBER.hours})
    versions = [
        whole | {"effective_from": OCTOBER.start_us + start * HOUR_US, "effective_to": OCTOBER.start_us + end * HOUR_US}
        for start, end in pairwise(edges)
    ]
    (one,) = settle([commitment_of(whole)], OCTOBER, OCTOBER.end_us, [])
    (several,) = settle([commitment_of(version) for version in versions], OCTOBER, OCTOBER.end_us, [])
    assert several.fee_pico == one.fee_pico


lines = st.lists(
    st.builds(
        lambda tenant, currency, pico: StatementLine(
            date(2026, 10, 1), tenant, currency, dict.fromkeys(COUNTS, 0), {}, dict(zip(AMOUNTS, pico, strict=True))
        ),
        st.sampled_from("abcd"),
        st.sampled_from(["USD", "GBP", "JPY", ""]),
        st.lists(picos, min_size=len(AMOUNTS), max_size=len(AMOUNTS)),
    ),
    max_size=8,
    unique_by=lambda line: (line.tenant_id, line.currency),
)
fractions = st.decimals("0.000001", 10**6, places=6).map(lambda rate: f"{rate:f}")


@settings(deadline=None)
@given(lines, st.lists(fractions, min_size=3, max_size=3), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_a_converted_statement_adds_up_in_both_ways(
    stored: list[StatementLine], rates: list[str], currency: str
) -> None:
    pairs = zip((f"{currency}/USD", f"GBP/{currency}", f"JPY/{currency}"), rates, strict=True)
    exchange = Exchange(fx_rate_of(rate_datum(pair, rate)) for pair, rate in pairs if pair != "JPY/JPY")
    converted = Converter(exchange, currency, OCTOBER.end_us).lines(stored)
    exact = Fraction(0)
    for line in converted:
        factor = Fraction(1) if line.conversion is None else line.conversion.factor
        exact += sum(line.stored.parts().values()) * factor
        assert sum(line.cents[name] for name in COMPONENTS) - line.cents["absorbed"] == line.cents["total"]
    unit = 10 ** (PICO_DIGITS - minor_digits(currency))
    assert sum(line.cents["total"] for line in converted) == round_half_even(exact, unit)
    assert [line.stored for line in converted] == stored
