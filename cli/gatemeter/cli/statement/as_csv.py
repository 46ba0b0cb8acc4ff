"""A statement as CSV: its lines, FOCUS rows, journal lines. What a spreadsheet would take for a formula is defused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.reports.cents import plain_minor
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.statement import COMPONENTS
from gatemeter.sinks.spreadsheets import csv_text, defused
from gatemeter.sinks.statements import focus
from gatemeter.sinks.statements.journal import Accounts, journal
from gatemeter.sinks.statements.lines import BilledLine
from gatemeter.sinks.statements.whole import Statement

_NUMBERS: Final = frozenset(
    ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "ListUnitPrice", "ContractedUnitPrice")
) | frozenset(("PricingQuantity", "ConsumedQuantity"))

_NAMES: Final = (
    *("usage_period", "cause", "reversal", "app_id", "workload_id", "cost_centre", "provider", "model", "purpose"),
    *("policy_id", "rate_card_id", "plan_id", "price_status"),
)
_COUNTED: Final = ("attempts", "decisions", "input_tokens", "output_tokens", "estimated_tokens", "unpriced_tokens")
_AMOUNTS: Final = ("list_cost", "provider_cost", *COMPONENTS, "absorbed", "total")
LINE_COLUMNS: Final = (
    *("tenant_id", "period", "currency"),
    *_NAMES,
    *_COUNTED,
    *BUCKETS,
    *METERS,
    *_AMOUNTS,
)
JOURNAL_COLUMNS: Final = (
    *("journal_id", "line", "posting_date", "period", "tenant_id", "account", "cost_centre", "debit", "credit"),
    *("currency", "usage_period", "cause", "reversal", "description"),
)


def lines_csv(statement: Statement) -> str:
    """A row a sum of lines; amounts exact to 10⁻¹², their `total` adds up to the statement's."""
    rows = []
    for section in statement.sections:
        groups: dict[tuple[Any, ...], list[BilledLine]] = {}
        for line in section.lines:
            groups.setdefault(tuple(getattr(line, name) for name in _NAMES), []).append(line)
        for names, lines in sorted(groups.items()):
            row: dict[str, Any] = {"tenant_id": defused(statement.tenant.tenant_id), "period": statement.month.period}
            row["currency"] = section.currency
            row |= {
                name: str(value).lower() if isinstance(value, bool) else defused(value)
                for name, value in zip(_NAMES, names, strict=True)
            }
            row |= {name: sum(line.counts[name] for line in lines) for name in _COUNTED}
            row |= {name: sum(line.tokens[name] for line in lines) for name in (*BUCKETS, *METERS)}
            row |= {name: text_of(sum(line.pico[name] for line in lines)) for name in _AMOUNTS}
            rows.append(row)
    return csv_text(LINE_COLUMNS, rows)


def focus_csv(statement: Statement, prices: focus.Prices) -> str:
    """FOCUS 1.2 with its columns in their order."""
    rows = (
        {name: value if name in _NUMBERS else defused(value) for name, value in row.items()}
        for row in focus.focus_rows(statement, prices)
    )
    return csv_text(focus.COLUMNS, rows)


def journal_csv(statement: Statement, accounts: Accounts) -> str:
    """A row a line of the ledger, dated at the last day of the month."""
    first_after = statement.month.next().first
    rows = [
        {
            "journal_id": defused(statement.statement_id),
            "line": line.number,
            "posting_date": (first_after - timedelta(days=1)).isoformat(),
            "period": statement.month.period,
            "tenant_id": defused(statement.tenant.tenant_id),
            "account": defused(line.account),
            "cost_centre": defused(line.cost_centre),
            "debit": _money(line.debit, line.currency),
            "credit": _money(line.credit, line.currency),
            "currency": line.currency,
            "usage_period": line.usage_period,
            "cause": defused(line.cause),
            "reversal": str(line.is_reversal).lower(),
            "description": _description(statement, line.usage_period, line.cause, line.is_reversal),
        }
        for line in journal(statement, accounts)
    ]
    return csv_text(JOURNAL_COLUMNS, rows)


def _description(statement: Statement, usage_period: str, cause: str, is_reversal: bool) -> str:
    if not usage_period:
        return f"Recovery of AI usage {statement.month.period}"
    what = f"AI usage {usage_period}"
    return f"{'Reversal: ' if is_reversal else ''}{what}{'' if cause == 'usage' else f' ({cause})'}"


def _money(units: int, currency: str) -> str:
    return plain_minor(units, currency) if units else ""
