"""CSV, JSON, FOCUS and journal of one statement say the same amounts, to 10⁻¹² and to the cent."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.focus_validator import CONTRADICTORY, validate
from support.statements import FORMULA, HOSTILE, MARCH, RECONCILED, RUN, SHARED_BY, Books

PERIODS = ("2026-03", "2026-04")
_MADE: dict[tuple[str, str, str], str] = {}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def form(hand_out: Any, name: str, period: str, tenant: str = "acme") -> str:
    """What the command printed; each is made once, since nothing changes the books."""
    if (name, period, tenant) not in _MADE:
        _MADE[name, period, tenant] = hand_out("--tenant", tenant, "--period", period, "--format", name).stdout
    return _MADE[name, period, tenant]


def totals(hand_out: Any, period: str) -> dict[str, Decimal]:
    whole = json.loads(form(hand_out, "json", period))
    return {section["currency"]: Decimal(section["total"]) for section in whole["sections"]}


@pytest.mark.parametrize("period", PERIODS)
def test_focus_rows_and_csv_lines_add_up_to_the_statement(hand_out: Any, period: str) -> None:
    for name, column, currency in (("focus", "BilledCost", "BillingCurrency"), ("csv", "total", "currency")):
        sums: dict[str, Decimal] = {}
        for row in rows(form(hand_out, name, period)):
            code = row[currency].replace("XXX", "")
            sums[code] = sums.get(code, Decimal(0)) + Decimal(row[column])
        assert sums == totals(hand_out, period)


def test_focus_rows_are_a_day_and_a_type_of_token_each(hand_out: Any) -> None:
    found = [row for row in rows(form(hand_out, "focus", "2026-03")) if row["ResourceId"] == "w"]
    (read,) = [
        row
        for row in found
        if row["x_gatemeter_TokenType"] == "input_text_uncached"
        and row["x_gatemeter_Model"] == "gpt-4o"
        and row["BillingCurrency"] == "USD"
        and row["x_gatemeter_PriceStatus"] == "priced"
    ]
    assert (read["ChargePeriodStart"], read["ChargePeriodEnd"]) == ("2026-03-31T00:00:00Z", "2026-04-01T00:00:00Z")
    assert (read["BillingPeriodStart"], read["BillingPeriodEnd"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")
    assert (read["ConsumedQuantity"], read["ConsumedUnit"], read["ChargeCategory"]) == ("1010000.0", "Tokens", "Usage")
    assert (read["PublisherName"], read["SkuPriceId"]) == ("openai", "openai/gpt-4o/input_text_uncached@card")
    product = Decimal(read["ContractedUnitPrice"]) * Decimal(read["PricingQuantity"])
    assert abs(product - Decimal(read["ContractedCost"])) < Decimal("1e-15")
    assert json.loads(read["Tags"])["gatemeter/cost_centre"] == "CC-1"


def test_what_is_booked_for_a_closed_month_is_a_correction(hand_out: Any) -> None:
    found = rows(form(hand_out, "focus", "2026-04"))
    corrections = [row for row in found if row["ChargeClass"] == "Correction"]
    assert {row["x_gatemeter_UsagePeriod"] for row in corrections} == {"2026-03"}
    assert sum(Decimal(row["BilledCost"]) for row in corrections) == Decimal("2.2") - Decimal("0.25") + Decimal(
        "0.0066"
    )
    assert [row["ChargeClass"] for row in rows(form(hand_out, "focus", "2026-03")) if row["ChargeClass"]] == []


def test_focus_rows_pass_the_validator(hand_out: Any, tmp_path: Path) -> None:
    header, both = "", ""
    for period in PERIODS:
        header, _, body = form(hand_out, "focus", period).partition("\n")
        both += body
    file = tmp_path / "focus.csv"
    file.write_text(f"{header}\n{both}")
    summary, failed = validate(file)
    assert set(failed) <= {CONTRADICTORY}, (summary, failed)


@pytest.mark.parametrize("period", PERIODS)
def test_the_journal_balances_and_ties_to_the_cent(hand_out: Any, period: str) -> None:
    whole = json.loads(form(hand_out, "json", period))
    shown = {s["currency"]: Decimal(s["rounded_total"]) for s in whole["sections"] if s["currency"]}
    found = rows(form(hand_out, "journal", period))
    for currency, total in shown.items():
        lines = [row for row in found if row["currency"] == currency]
        debit, credit = (sum(Decimal(row[side] or 0) for row in lines) for side in ("debit", "credit"))
        spent = [row for row in lines if row["cost_centre"]]
        assert debit == credit
        assert sum(Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0) for row in spent) == total
    assert [row["line"] for row in found] == [str(number + 1) for number in range(len(found))]


def test_reversals_are_lines_of_their_own(hand_out: Any) -> None:
    lines = rows(form(hand_out, "journal", "2026-04"))
    (reversal,) = [row for row in lines if row["reversal"] == "true"]
    assert (reversal["cost_centre"], reversal["debit"], reversal["credit"], reversal["cause"]) == (
        "CC-1",
        "",
        "11.00",
        "reprice",
    )


def test_accounts_of_the_journal_are_the_operators(hand_out: Any) -> None:
    words = ("--tenant", "acme", "--period", "2026-03", "--format", "journal")
    found = rows(hand_out(*words, "--expense-account", "6100", "--recovery-account", "9900").stdout)
    assert {row["account"] for row in found} == {"6100", "9900"}


def test_what_a_spreadsheet_would_calculate_is_text(hand_out: Any) -> None:
    for name in ("csv", "focus", "journal"):
        for row in rows(form(hand_out, name, "2026-03", HOSTILE)):
            assert not [value for value in row.values() if value[:1] in ("=", "+", "@")]
            assert f"'{FORMULA}" in row.values() or name == "journal"


def test_json_has_what_the_page_has(hand_out: Any, books: Books) -> None:
    whole = json.loads(form(hand_out, "json", "2026-03"))
    assert (whole["statement"], whole["status"]["state"], whole["organisation"]) == ("acme/2026-03", "closed", "Acme")
    (usd,) = [section for section in whole["sections"] if section["currency"] == "USD"]
    assert (usd["summary"]["requests"], usd["estimated_tokens"], usd["orphans"]) == (5, 777 + 77, 1)
    assert [each["request_id"] for each in usd["top_requests"]][:2] == ["a", "b"]
    (nothing,) = [section for section in whole["sections"] if not section["currency"]]
    assert nothing["unpriced_tokens"] == 1_234 + 123
    assert [(each["run"], each["cause"], each["reversals"], each["total"]) for each in whole["adjustments"]] == [
        (None, "late", 0, "0.006600000000"),
        (RUN, "manual", 0, "-0.250000000000"),
        (RUN, "reprice", 1, "2.200000000000"),
    ]
    (card,) = [each for each in whole["price_sources"] if each["rate_card_id"] == "card"]
    assert card["versions"] == [{"content_hash": "c0ffee", "source": "contract of 2026"}]
    assert whole["disputes"] == []
    ((last,),) = books.sql("SELECT max(number) FROM seals")
    assert whole["status"]["last_seal_number"] == last


def test_what_a_reconciliation_shared_out_is_told_cause_by_cause(hand_out: Any) -> None:
    words = ("--tenant", "globex", "--period", "2026-04", "--format", "json")
    told = json.loads(hand_out(*words).stdout)["adjustments"]
    assert [(each["run"], each["reason"], each["entries"], each["total"]) for each in told] == [
        (RECONCILED, f"{SHARED_BY}: credit. reviewed", 1, "-0.020000000000"),
        (RECONCILED, f"{SHARED_BY}: tax. reviewed", 2, "0.090000000000"),
    ]


def test_an_open_month_is_its_usage_as_the_report_has_it(hand_out: Any, books: Books) -> None:
    whole = json.loads(form(hand_out, "json", "2026-04"))
    ((reported,),) = books.sql(
        "SELECT sum(charge) FROM chargeback_monthly WHERE tenant_id = 'acme' AND month = '2026-04-01'"
    )
    (section,) = whole["sections"]
    assert Decimal(section["total"]) - Decimal(section["of_earlier_months"]) == reported


def test_totals_in_another_currency_say_their_rate(hand_out: Any) -> None:
    words = ("--tenant", "acme", "--period", "2026-03", "--format", "json", "--currency", "EUR")
    lines = json.loads(hand_out(*words).stdout)["in_currency"]
    yen = next(line for line in lines if line["currency"] == "JPY")
    assert yen["in_currency"]["rate"]["pair"] == "JPY/EUR"
    assert yen["in_currency"]["total"] == "2.64"


def test_a_month_without_usage_is_an_empty_statement(hand_out: Any) -> None:
    assert json.loads(form(hand_out, "json", "2025-01"))["sections"] == []
    assert "Nothing is billed" in form(hand_out, "html", "2025-01")
    assert len(form(hand_out, "focus", "2025-01").splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tenant", "acme", "--period", "2026-13"), "--period: must be YYYY-MM"),
        (("--tenant", "", "--period", "2026-03"), "--tenant: must not be empty"),
        (("--tenant", "a", "--period", "2026-03", "--currency", "euro"), "--currency: must be an ISO 4217 code"),
        (("--tenant", "a", "--period", "2026-03", "--currency", "EUR", "--format", "focus"), "html or json only"),
        (("--tenant", "acme", "--period", "2026-03", "--currency", "CHF"), "--currency: there is no exchange rate"),
        (("--tenant", "acmee", "--period", "2026-03"), "--tenant: must be registered or have usage"),
        (("--tenant", "acme", "--period", "2026-03", "--output", "/no/such/folder/x"), "--output: must be a file"),
        (("--tenant", "a", "--period", "2026-03", "--expense-account", " "), "--expense-account: must not be empty"),
    ],
)
def test_what_a_user_can_mend_is_one_line(hand_out: Any, words: tuple[str, ...], said: str) -> None:
    result = hand_out(*words, exit_code=2)
    assert said in result.stderr
    assert result.stderr.startswith("error: ")


def test_months_are_utc(hand_out: Any) -> None:
    whole = json.loads(form(hand_out, "json", MARCH.period))
    days = {each["day"] for section in whole["sections"] for each in section["by_day"]}
    assert days == {"2026-03-31"}
