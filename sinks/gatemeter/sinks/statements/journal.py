"""A statement as lines of a general ledger: cost centres are debited, the platform's recovery account is credited.

Lines are whole cents: those of a currency add up to its total on the statement (largest remainder), and debits equal
credits. What takes back an earlier booking is a line of its own, on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatemeter.sinks.reports.cents import apportion
from gatemeter.sinks.statements.lines import BilledLine
from gatemeter.sinks.statements.whole import Section, Statement

EXPENSE: Final = "AI-USAGE"
RECOVERY: Final = "AI-PLATFORM-RECOVERY"
NO_COST_CENTRE: Final = "unassigned"


@dataclass(frozen=True, slots=True)
class Accounts:
    """Names of the accounts: what cost centres are debited on, and what the platform is credited on."""

    expense: str = EXPENSE
    recovery: str = RECOVERY


@dataclass(frozen=True, slots=True)
class JournalLine:
    """`debit` and `credit` in the currency's smallest unit, one of them 0. `cost_centre` '' for the platform."""

    number: int
    account: str
    cost_centre: str
    currency: str
    debit: int
    credit: int
    usage_period: str
    cause: str
    is_reversal: bool


def journal(statement: Statement, accounts: Accounts) -> list[JournalLine]:
    """All lines, currency by currency: cost centres by name, then the platform."""
    lines: list[JournalLine] = []
    for section in statement.sections:
        if section.currency:
            lines.extend(_section(section, accounts, len(lines) + 1))
    return lines


def _section(section: Section, accounts: Accounts, first: int) -> Iterator[JournalLine]:
    sums: dict[tuple[str, str, str, bool], int] = {}
    for line in section.lines:
        key = _key(line)
        sums[key] = sums.get(key, 0) + line.total
    keys = sorted(sums)
    cents = apportion({f"{place:09}": sums[key] for place, key in enumerate(keys)}, section.currency)
    number = first
    for place, (cost_centre, usage_period, cause, is_reversal) in enumerate(keys):
        amount = cents[f"{place:09}"]
        if amount:
            yield JournalLine(
                number=number,
                account=accounts.expense,
                cost_centre=cost_centre,
                currency=section.currency,
                debit=max(amount, 0),
                credit=max(-amount, 0),
                usage_period=usage_period,
                cause=cause,
                is_reversal=is_reversal,
            )
            number += 1
    total = sum(cents.values())
    if total:
        yield JournalLine(
            number, accounts.recovery, "", section.currency, max(-total, 0), max(total, 0), "", "recovery", False
        )


def _key(line: BilledLine) -> tuple[str, str, str, bool]:
    return (line.cost_centre or NO_COST_CENTRE, line.usage_period, line.cause, line.reversal)
