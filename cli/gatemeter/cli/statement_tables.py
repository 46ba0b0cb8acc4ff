"""The statement for people, in 80 columns: requests, tokens, amounts in cents that add up, and what had no price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.markup import escape
from rich.table import Table

from gatemeter.cli.screen import plain_table
from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.reports.cents import format_minor, minor_digits, round_half_even
from gatemeter.sinks.reports.converted import ConvertedLine
from gatemeter.sinks.reports.statement import StatementLine

# Columns of tokens; those with nothing in them are left out, but for these two.
_ALWAYS: Final = ("input", "output")
_TOKENS: Final = {
    "input": ("input_text_uncached",),
    "cached": ("input_text_cache_read",),
    "cache write": ("input_text_cache_write_5m", "input_text_cache_write_1h"),
    "audio in": ("input_audio_uncached", "input_audio_cache_read"),
    "image in": ("input_image_uncached", "input_image_cache_read"),
    "output": ("output_text_visible",),
    "reasoning": ("output_text_reasoning",),
    "audio out": ("output_audio_visible",),
    "image out": ("output_image_visible",),
    **{meter: (meter,) for meter in METERS},
}
assert {name for names in _TOKENS.values() for name in names} == {*BUCKETS, *METERS}
_COUNTS: Final = {
    "requests": "requests",
    "attempts": "attempts",
    "not answering": "retries",
    "policy decisions": "decisions",
}
_AMOUNTS: Final = {
    **{"tokens": "token_cost", "model": "model_cost", "policy": "policy_cost"},
    **{"mark-up": "markup", "cache": "cache_price"},
}
_SAVED: Final = {"platform": "platform_saving", "tenant": "tenant_saving"}
_UNPRICED: Final = {
    "unpriced tokens": "unpriced_tokens",
    "attempts": "unpriced_attempts",
    "decisions": "unpriced_decisions",
    "usage unknown": "attempts_without_usage",
}


def statement_tables(lines: Sequence[StatementLine]) -> Iterator[Table]:
    """By month (UTC) and currency: requests, tokens of all attempts, amounts in cents, and what had no price."""
    for month, currency in sorted({(line.month, line.currency) for line in lines}):
        chosen = [line for line in lines if (line.month, line.currency) == (month, currency)]
        title = f"Statement {month:%Y-%m}"
        yield _counted(f"{title}: requests", chosen, _COUNTS)
        yield _tokens(f"{title}: tokens", chosen)
        yield _amounts(f"{title}: amounts in {currency or 'no currency'}", chosen)
        yield _totals(f"{title}: totals in {currency or 'no currency'}, and what is in none of them", chosen)
        hits = [line for line in chosen if line.counts["cache_hits"]]
        if hits:
            yield _savings(f"{title}: saved by caches in {currency or 'no currency'}, in no total", hits)


def converted_tables(lines: Sequence[ConvertedLine]) -> Iterator[Table]:
    """By month: requests and tokens, amounts in another currency with their total, and what had no price."""
    for month in sorted({line.stored.month for line in lines}):
        chosen = [line for line in lines if line.stored.month == month]
        stored = [line.stored for line in chosen]
        title = f"Statement {month:%Y-%m}"
        yield _counted(f"{title}: requests", stored, _COUNTS)
        yield _tokens(f"{title}: tokens", stored)
        yield _converted_amounts(f"{title}: amounts in {chosen[0].currency}", chosen)
        yield _counted(f"{title}: what is in none of them", stored, _UNPRICED)


def _converted_amounts(title: str, lines: Sequence[ConvertedLine]) -> Table:
    currency = lines[0].currency
    parts = _shown_parts(any(line.cents["cache_price"] for line in lines))
    table = _table(title, "stored in", *parts, "absorbed", "total", "of which retries")
    for line in lines:
        units = [line.cents[name] for name in (*parts.values(), "absorbed", "total", "retry_cost")]
        units[len(parts)] *= -1
        shown = [format_minor(amount, currency) for amount in units]
        table.add_row(escape(line.stored.tenant_id), line.stored.currency or "none", *shown)
    table.add_section()
    total = format_minor(sum(line.cents["total"] for line in lines), currency)
    table.add_row("all", "", *[""] * (len(parts) + 1), total, "")
    return table


def _shown_parts(priced_hits: bool) -> dict[str, str]:
    """Columns of the components; a cache price only where there is one."""
    return {column: name for column, name in _AMOUNTS.items() if priced_hits or name != "cache_price"}


def _counted(title: str, lines: Sequence[StatementLine], columns: dict[str, str]) -> Table:
    table = _table(title, *columns)
    for line in lines:
        table.add_row(escape(line.tenant_id), *(f"{line.counts[name]:,}" for name in columns.values()))
    return table


def _tokens(title: str, lines: Sequence[StatementLine]) -> Table:
    sums = [{column: sum(line.tokens[n] for n in names) for column, names in _TOKENS.items()} for line in lines]
    shown = [column for column in _TOKENS if column in _ALWAYS or any(row[column] for row in sums)]
    table = _table(title, *shown)
    for line, row in zip(lines, sums, strict=True):
        table.add_row(escape(line.tenant_id), *(f"{row[column]:,}" for column in shown))
    estimated = sum(line.counts["estimated_tokens"] for line in lines)
    if estimated:
        table.caption = f"of which estimated, because the provider reported none: {estimated:,}"
        table.caption_justify = "left"
    return table


def _amounts(title: str, lines: Sequence[StatementLine]) -> Table:
    columns = _shown_parts(any(line.pico["cache_price"] for line in lines))
    table = _table(title, *columns, "absorbed", "total")
    for line in lines:
        cents = line.cents()
        parts = [cents[name] for name in columns.values()]
        shown = [format_minor(units, line.currency) for units in (*parts, -cents["absorbed"], cents["total"])]
        table.add_row(escape(line.tenant_id), *shown)
    return table


def _totals(title: str, lines: Sequence[StatementLine]) -> Table:
    """Parts of the total that are nothing everywhere have no column: estimates."""
    parts = {"of which retries": "retry_cost"}
    if any(line.pico["estimated_charge"] for line in lines):
        parts["of which estimated"] = "estimated_charge"
    table = _table(title, "total", *parts, *_UNPRICED)
    for line in lines:
        unit_pico: int = 10 ** (12 - minor_digits(line.currency))
        units = (line.cents()["total"], *(round_half_even(line.pico[name], unit_pico) for name in parts.values()))
        amounts = [format_minor(amount, line.currency) for amount in units]
        table.add_row(escape(line.tenant_id), *amounts, *(f"{line.counts[name]:,}" for name in _UNPRICED.values()))
    inconsistent = sum(line.counts["inconsistent_attempts"] for line in lines)
    if inconsistent:
        table.caption = f"attempts whose tokens do not add up to the provider's own total: {inconsistent:,}"
        table.caption_justify = "left"
    return table


def _savings(title: str, lines: Sequence[StatementLine]) -> Table:
    table = _table(title, "hits", "without a price", *_SAVED)
    for line in lines:
        unit_pico: int = 10 ** (12 - minor_digits(line.currency))
        saved = [round_half_even(line.pico[name], unit_pico) for name in _SAVED.values()]
        counts = [f"{line.counts[name]:,}" for name in ("cache_hits", "hits_without_price")]
        table.add_row(escape(line.tenant_id), *counts, *(format_minor(units, line.currency) for units in saved))
    return table


def _table(title: str, *columns: str) -> Table:
    return plain_table("tenant", *columns, title=title, right=columns, narrow=True)
