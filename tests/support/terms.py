"""Terms of statements for tests, as records and as rows of the operator log that speak of them."""

from __future__ import annotations

import json
from typing import Any

from gatemeter.sinks.terms.months import month_of
from support.facts import blank_row

OCTOBER = month_of("2026-10")
MARCH = month_of("2026-03")


def commitment_datum(commitment_id: str = "c", **changes: Any) -> dict[str, Any]:
    """7,440 USD a month at openai, from March 2026 on: ten an hour in a month of 31 days."""
    datum: dict[str, Any] = {
        "commitment_id": commitment_id,
        "effective_from": MARCH.start_us,
        "effective_to": None,
        "provider": "openai",
        "models": [],
        "service_tier": None,
        "region": None,
        "amount": "7440",
        "per": "month",
        "settled": "month",
        "currency": "USD",
        "source": "order",
    }
    return datum | changes


def rate_datum(pair: str = "USD/EUR", rate: str = "0.9", **changes: Any) -> dict[str, Any]:
    """0.9 EUR a USD from March 2026 on."""
    datum = {"pair": pair, "effective_from": MARCH.start_us, "effective_to": None, "rate": rate, "source": "bank"}
    return datum | changes


def budget_datum(budget_id: str = "b", **changes: Any) -> dict[str, Any]:
    """1,000 USD a month for tenant acme, from March 2026 on."""
    datum: dict[str, Any] = {
        "budget_id": budget_id,
        "effective_from": MARCH.start_us,
        "effective_to": None,
        "scope": "tenant",
        "subject": "acme",
        "amount": "1000",
        "currency": "USD",
        "thresholds": [50, 80, 100],
        "owner": "ann",
    }
    return datum | changes


def log_row(kind: str, entry_id: str, datum: dict[str, Any], offset: int) -> dict[str, Any]:
    """The row that the fold writes where a CONTROL puts the record in force."""
    row = blank_row("operator_log") | {"topic": "gatemeter.metadata", "offset": offset, "kid": "ops"}
    return row | {"act": kind, "subject": entry_id, "detail": json.dumps(datum)}
