"""The statement for programs: JSON and CSV, in stored currencies or in another one, commitments included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gatemeter.cli.settlement_tables import settlement_json
from gatemeter.sinks.reports.cents import plain_minor
from gatemeter.sinks.reports.converted import ConvertedLine, ConvertedSettlement
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.statement import AMOUNTS, StatementLine
from gatemeter.sinks.spreadsheets import csv_text
from gatemeter.sinks.terms.commitments import Settlement
from gatemeter.sinks.terms.exchange import Conversion
from gatemeter.sinks.terms.months import utc_text

_SETTLED: Final = ("fee", "used", "unused", "overage")


def statement_json(line: StatementLine) -> dict[str, Any]:
    """A line as plain data: amounts as text with all digits, `rounded` as text in the currency's own digits."""
    return {
        "month": f"{line.month:%Y-%m}",
        "tenant_id": line.tenant_id,
        "currency": line.currency,
        **line.counts,
        "tokens_by_bucket": dict(line.tokens),
        **{name: text_of(line.pico[name]) for name in AMOUNTS},
        "rounded": _rounded(line.cents(), line.currency),
    }


def converted_json(line: ConvertedLine) -> dict[str, Any]:
    """The stored line, and `in_currency` with the converted amounts and the rate that made them."""
    return statement_json(line.stored) | {"in_currency": _in_currency(line)}


def converted_settlement_json(line: ConvertedSettlement) -> dict[str, Any]:
    """The same of a commitment."""
    return settlement_json(line.stored) | {"in_currency": _in_currency(line)}


def statement_csv(lines: Sequence[StatementLine], settlements: Sequence[Settlement]) -> str:
    """A header and a row a line; amounts with all digits. The unused part of a commitment is a row of its own."""
    rows = [_flat(statement_json(line)) for line in lines]
    return _csv(rows, [_settled(settlement_json(line)) for line in settlements])


def converted_csv(lines: Sequence[ConvertedLine], settlements: Sequence[ConvertedSettlement]) -> str:
    """The same, with the converted amounts and the rate in columns of their own."""
    rows = [_flat(converted_json(line)) for line in lines]
    return _csv(rows, [_settled(converted_settlement_json(line)) for line in settlements])


def _in_currency(line: ConvertedLine | ConvertedSettlement) -> dict[str, Any]:
    return {"currency": line.currency, **_rounded(line.cents, line.currency), "rate": _rate(line.conversion)}


def _rate(conversion: Conversion | None) -> dict[str, str] | None:
    if conversion is None:
        return None
    rate = conversion.rate
    return {
        "pair": rate.pair,
        "rate": f"{rate.rate:f}",
        "effective_from": utc_text(rate.effective_from_us),
        "as_of": utc_text(conversion.as_of_us),
        "source": rate.source,
    }


def _rounded(cents: Mapping[str, int], currency: str) -> dict[str, str]:
    return {name: plain_minor(units, currency) for name, units in cents.items()}


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    """A line of a statement as a row: without the rounding that only a whole statement has."""
    del data["rounded"]
    converted = data.pop("in_currency", None)
    row: dict[str, Any] = data | data.pop("tokens_by_bucket")
    return row | _converted_columns(converted)


def _settled(data: dict[str, Any]) -> dict[str, Any]:
    """A commitment as a row: whose account its unused part posts to, and its amounts."""
    row = {name: data[name] for name in ("month", "currency")} | {"commitment": data["commitment_id"]}
    row |= {"posted_to": data["posted_to"]} | {f"commitment_{name}": data[name] for name in _SETTLED}
    return row | _converted_columns(data.get("in_currency"))


def _converted_columns(converted: dict[str, Any] | None) -> dict[str, Any]:
    if converted is None:
        return {}
    rate = converted.pop("rate") or {}
    columns = {f"in_currency_{name}": value for name, value in converted.items() if name != "currency"}
    return {"in_currency": converted["currency"], **columns} | {f"fx_{name}": value for name, value in rate.items()}


def _csv(*groups: Sequence[dict[str, Any]]) -> str:
    rows = [row for group in groups for row in group]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(columns, rows) if rows else ""
