"""Commitments for people and programs: what was paid for, what was used of it, and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from gatemeter.cli.screen import plain_table
from gatemeter.sinks.reports.cents import apportion, format_minor, plain_minor
from gatemeter.sinks.reports.converted import ConvertedSettlement
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.terms.commitments import POSTED_TO, Settlement
from gatemeter.sinks.terms.months import utc_text


def settlement_cents(line: Settlement) -> dict[str, int]:
    """Fee, used, unused and overage in the currency's smallest unit; used + unused − overage = fee."""
    parts = {"used": line.used_pico, "unused": line.unused_pico, "overage": -line.overage_pico}
    cents = apportion(parts, line.currency)
    return cents | {"overage": -cents["overage"], "fee": sum(cents.values())}


def settlement_tables(lines: Sequence[Settlement]) -> Iterator[Table]:
    """A table a month and currency."""
    yield from _tables([(line, line.currency, settlement_cents(line)) for line in lines])


def converted_settlement_tables(lines: Sequence[ConvertedSettlement]) -> Iterator[Table]:
    """The same in another currency."""
    yield from _tables([(line.stored, line.currency, line.cents) for line in lines])


def _tables(lines: Sequence[tuple[Settlement, str, Mapping[str, int]]]) -> Iterator[Table]:
    for period, currency in sorted({(line.month.period, currency) for line, currency, _ in lines}):
        chosen = [each for each in lines if (each[0].month.period, each[1]) == (period, currency)]
        yield _table(f"Statement {period}: commitments in {currency}", currency, chosen)


def _table(title: str, currency: str, lines: Sequence[tuple[Settlement, str, Mapping[str, int]]]) -> Table:
    columns = ("fee", "used", f"unused, to {POSTED_TO}", "overage", "invoice", "used %")
    table = plain_table("commitment", *columns, title=title, right=columns, narrow=True)
    for line, _, cents in lines:
        shown = [cents[name] for name in ("fee", "used", "unused", "overage")] + [cents["used"] + cents["unused"]]
        percent = line.utilisation_percent
        amounts = [format_minor(units, currency) for units in shown]
        table.add_row(escape(line.commitment_id), *amounts, "none" if percent is None else f"{percent}")
    table.caption = "; ".join(dict.fromkeys(_notes(line for line, _, _ in lines)))
    table.caption_justify = "left"
    return table


def _notes(lines: Iterator[Settlement]) -> Iterator[str]:
    for line in lines:
        yield "what is unused is in no tenant's total"
        if line.running:
            yield f"so far, to {utc_text(line.until_us)}"
        if line.unpriced_attempts:
            yield f"{line.commitment_id}: {line.unpriced_attempts:,} attempts have no price"
        if line.other_currency_attempts:
            yield f"{line.commitment_id}: {line.other_currency_attempts:,} attempts are in another currency"


def settlement_json(line: Settlement) -> dict[str, Any]:
    """A settlement as plain data; amounts as text with all digits."""
    percent = line.utilisation_percent
    return {
        "month": line.month.period,
        "commitment_id": line.commitment_id,
        "posted_to": POSTED_TO,
        "provider": line.provider,
        "currency": line.currency,
        "fee": text_of(line.fee_pico),
        "used": text_of(line.used_pico),
        "unused": text_of(line.unused_pico),
        "overage": text_of(line.overage_pico),
        "invoice": text_of(line.invoice_pico),
        "utilisation_percent": None if percent is None else str(percent),
        "hours": line.hours,
        "until": utc_text(line.until_us),
        "running": line.running,
        "attempts": line.attempts,
        "unpriced_attempts": line.unpriced_attempts,
        "other_currency_attempts": line.other_currency_attempts,
        "source": line.source,
        "rounded": {name: plain_minor(units, line.currency) for name, units in settlement_cents(line).items()},
    }
