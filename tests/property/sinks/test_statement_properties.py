"""Whatever a month is made of: every form of its statement adds up to the same amount, and nothing is calculated."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatemeter.cli.statement.as_csv import focus_csv, journal_csv, lines_csv
from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.reports.statement import COMPONENTS
from gatemeter.sinks.spreadsheets import csv_cell, defused
from gatemeter.sinks.statements.beside import Tenant
from gatemeter.sinks.statements.dividing import divide
from gatemeter.sinks.statements.journal import Accounts, journal
from gatemeter.sinks.statements.lines import LINE_AMOUNTS, LINE_COUNTS, BilledLine, summed
from gatemeter.sinks.statements.period import PeriodState
from gatemeter.sinks.statements.requests import Requests
from gatemeter.sinks.statements.whole import Section, Statement
from gatemeter.sinks.terms.months import month_of

# A statement of a few lines is hundreds of numbers; the long form (make soak) has its own number of examples.
big = settings(
    max_examples=settings().max_examples // 4 or 1,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
MONTH = month_of("2026-03")
pico = st.integers(-(10**15), 10**15)
names = st.sampled_from(["", "a", "b", "=1+1", "@x"])


@st.composite
def lines(draw: st.DrawFn) -> BilledLine:
    kind = draw(st.sampled_from(["usage", "decision", "correction"]))
    counts = {name: draw(st.integers(-3, 1_000)) for name in LINE_COUNTS}
    tokens = {name: draw(st.sampled_from([0, 0, 1, 7, 10**9, -5])) for name in (*BUCKETS, *METERS)}
    amounts = {name: draw(pico) for name in LINE_AMOUNTS}
    amounts["total"] = sum(amounts[name] for name in COMPONENTS) - amounts["absorbed"]
    return BilledLine(
        day=date(2026, 3, draw(st.integers(1, 31))),
        usage_period=draw(st.sampled_from(["2026-03", "2026-02"])),
        cause=draw(st.sampled_from(["usage", "reprice"])),
        reversal=draw(st.booleans()),
        kind=kind,
        app_id=draw(names),
        workload_id=draw(names),
        cost_centre=draw(names),
        provider=draw(names),
        model=draw(names),
        purpose="workload",
        policy_id="",
        currency="USD",
        rate_card_id=draw(st.sampled_from(["", "card"])),
        plan_id="",
        price_status="priced",
        counts=counts,
        tokens=tokens,
        pico=amounts,
    )


def statement_of(found: Sequence[BilledLine]) -> Statement:
    requests = Requests({}, {})
    total = summed(found, tenant="acme", month=MONTH, currency="USD", requests=0)
    state = PeriodState(MONTH, "open", 0, 744, "", -1, None, "", "")
    return Statement(
        tenant=Tenant("acme", "", "", "", "", ""),
        state=state,
        made_us=0,
        sections=[Section("USD", found, total, requests)],
        adjustments=[],
        prices=[],
        exceptions=(),
        reconciliation=(),
        disputes=[],
        allocation=None,
    )


@given(pico, st.lists(st.fractions(0, 10), min_size=1, max_size=9))
def test_parts_add_up_and_none_is_off_by_more_than_one(whole: int, weights: list[Fraction]) -> None:
    parts = divide(whole, weights)
    assert sum(parts) == whole
    total = sum(weights)
    if total:
        assert all(abs(part - whole * weight / total) < 1 for part, weight in zip(parts, weights, strict=True))


@big
@given(st.lists(lines(), min_size=1, max_size=3), st.dictionaries(st.sampled_from(BUCKETS), st.integers(0, 10**6)))
def test_focus_rows_and_lines_add_up_to_the_total(found: list[BilledLine], priced: dict[str, int]) -> None:
    statement = statement_of(found)
    prices = {
        ("card", line.provider, line.model, bucket): (Fraction(2 * price), Fraction(price))
        for line in found
        for bucket, price in priced.items()
    }
    total = statement.sections[0].total.pico
    rows = list(csv.DictReader(io.StringIO(focus_csv(statement, prices))))
    assert sum(_pico(row["BilledCost"]) for row in rows) == total["total"]
    assert sum(_pico(row["ListCost"]) for row in rows) == total["list_cost"]
    assert {row["ChargeClass"] for row in rows if row["x_gatemeter_UsagePeriod"] < "2026-03"} <= {"Correction"}
    flat = list(csv.DictReader(io.StringIO(lines_csv(statement))))
    assert sum(_pico(row["total"]) for row in flat) == total["total"]


@big
@given(st.lists(lines(), min_size=1, max_size=4))
def test_the_journal_balances_and_ties_to_the_statement(found: list[BilledLine]) -> None:
    statement = statement_of(found)
    entries = journal(statement, Accounts())
    spent = sum(entry.debit - entry.credit for entry in entries if entry.cost_centre)
    assert spent == statement.sections[0].cents["total"]
    assert sum(entry.debit for entry in entries) == sum(entry.credit for entry in entries)
    assert all(entry.debit >= 0 and entry.credit >= 0 for entry in entries)
    for row in csv.DictReader(io.StringIO(journal_csv(statement, Accounts()))):
        assert not [value for value in row.values() if value[:1] in ("=", "+", "-", "@")]


@big
@given(st.lists(lines(), min_size=1, max_size=4))
def test_parts_of_a_section_add_up_in_cents(found: list[BilledLine]) -> None:
    section = statement_of(found).sections[0]
    parts = section.by(lambda line: (line.app_id, line.model))
    assert sum(part.cents for part in parts) == section.cents["total"]
    assert sum(part.pico for part in parts) == section.total.pico["total"]


@given(st.text())
def test_text_keeps_itself_behind_at_most_an_apostrophe(text: str) -> None:
    shown = defused(text)
    assert shown.removeprefix("'") == text or shown == text
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.decimals(-(10**20), 10**20, places=12) | st.integers())
def test_a_cell_that_is_a_number_stays_one(number: Any) -> None:
    assert csv_cell(number) is number
    assert csv_cell(f"{number:f}") == f"{number:f}"


@given(st.text(), st.sampled_from(["=", "@", "\t", "\r", "=-1", "+a", "-a"]))
def test_a_cell_that_begins_like_a_formula_is_text(text: str, front: str) -> None:
    assert csv_cell(front + text) == f"'{front}{text}"


def _pico(text: str) -> int:
    return pico_of(Decimal(text))
