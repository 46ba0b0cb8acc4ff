"""What a statement lists beside its amounts is on the page, escaped: exceptions, reconciliation, disputes."""

from __future__ import annotations

from decimal import Decimal

from gatemeter.cli.statement.as_json import whole_json
from gatemeter.cli.statement.page import page
from gatemeter.sinks.statements.beside import Tenant
from gatemeter.sinks.statements.period import PeriodState
from gatemeter.sinks.statements.whole import Statement
from gatemeter.sinks.terms.months import month_of

MONTH = month_of("2026-03")
EXCEPTION = {
    "exception_id": "e-1",
    "kind": "spend_spike",
    "severity": "high",
    "state": "acknowledged",
    "state_reason": "load <test>",
    "app_id": "chat",
    "workload_id": "w",
    "owner": "ann",
    "first_seen_us": MONTH.start_us,
    "last_seen_us": MONTH.start_us,
    "seen": "120 USD",
    "expected": "12 USD",
    "request_ids": ("r-1", "r-2"),
    "requests": 2,
    "cost": Decimal("120.000000000001"),
    "currency": "USD",
    "all": 40,
}
RECONCILED = {
    "run_id": "R1",
    "provider": "openai",
    "account": "org-1",
    "state": "accepted",
    "currency": "USD",
    "provider_cost": Decimal("10.5"),
    "invoiced": Decimal("11"),
    "variance": Decimal("0.5"),
    "explained": Decimal("0.5"),
    "unexplained": None,
}
STATEMENT = Statement(
    tenant=Tenant("acme", "", "", "", "", ""),
    state=PeriodState(MONTH, "sealed", 744, 744, "5ea1", 743, None, "", ""),
    made_us=MONTH.end_us,
    sections=[],
    adjustments=[],
    prices=[],
    exceptions=[EXCEPTION],
    reconciliation=[RECONCILED],
    disputes=[],
    allocation=None,
)


def test_exceptions_and_reconciliation_are_on_the_page() -> None:
    text = page(STATEMENT, [])
    for shown in ("spend_spike", "acknowledged: load &lt;test&gt;", "120.00 USD", "40 in all", "openai", "11.00", "R1"):
        assert shown in text


def test_json_keeps_every_digit_and_says_times_as_text() -> None:
    whole = whole_json(STATEMENT, [])
    (exception,), (run,) = whole["exceptions"], whole["reconciliation"]
    assert (exception["cost"], exception["first_seen_at"]) == ("120.000000000001", "2026-03-01T00:00:00Z")
    assert exception["request_ids"] == ["r-1", "r-2"]
    assert (run["variance"], run["unexplained"]) == ("0.5", None)
