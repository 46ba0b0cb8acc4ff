"""Crossings of budgets as rows of `exceptions`: one a budget, month and threshold, told once.

Their topic is no topic of Kafka (it has a `/`), so they never stand among the rows of a fold: nothing that folds a log
again looks at them, and equal keys collapse, whoever writes them.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.terms.budgets import Budget
from gatemeter.sinks.terms.months import Month

KIND: Final = "budget_crossed"


def month_number(month: Month) -> int:
    """YYYYMM, which stands in `offset`."""
    return int(month.period.replace("-", ""))


def crossing_row(budget: Budget, month: Month, percent: int, spend_pico: int, at_us: int) -> dict[str, Any]:
    """The row of one crossing, found at an instant: key (topic `budgets/ID`, month, threshold, kind)."""
    detail = {
        "budget": budget.budget_id,
        "period": month.period,
        "threshold_percent": percent,
        "scope": budget.scope,
        "subject": budget.subject,
        "owner": budget.owner,
        "amount": text_of(budget.amount_pico),
        "spend": text_of(spend_pico),
        "currency": budget.currency,
    }
    return {
        "topic": f"budgets/{budget.budget_id}",
        "partition": 0,
        "offset": month_number(month),
        "event_index": percent,
        "kind": KIND,
        "gateway_id": "",
        "request_id": "",
        "attempt": 0,
        "recorded_at": at_us,
        "detail": json.dumps(detail, sort_keys=True),
        "raw": b"",
        "first_offset": None,
        "first_raw": b"",
    }
