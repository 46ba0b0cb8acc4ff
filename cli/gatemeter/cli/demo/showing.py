"""The demo's result for people: the statement and the conservation check, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gatemeter.sinks.reports.cents import format_minor, minor_digits, round_half_even
from gatemeter.sinks.reports.conservation import Conservation
from gatemeter.sinks.reports.statement import StatementLine

_TOKENS: Final = {
    "input": ("input_text_uncached",),
    "cached": ("input_text_cache_read",),
    "output": ("output_text_visible",),
    "reasoning": ("output_text_reasoning",),
}
_AMOUNTS: Final = ("token_cost", "model_cost", "policy_cost", "markup")


def statement_tables(lines: Sequence[StatementLine]) -> Iterator[Table]:
    """By month (UTC) and currency: requests, tokens of all attempts, and amounts in cents that add up."""
    for month, currency in sorted({(line.month, line.currency) for line in lines}):
        chosen = [line for line in lines if (line.month, line.currency) == (month, currency)]
        yield _requests(f"Statement {month:%Y-%m}: requests", chosen)
        yield _tokens(f"Statement {month:%Y-%m}: tokens", chosen)
        yield _amounts(f"Statement {month:%Y-%m}: amounts in {currency}", chosen)


def _requests(title: str, lines: Sequence[StatementLine]) -> Table:
    table = _table(title, "requests", "attempts", "not answering", "policy decisions")
    for line in lines:
        counts = (line.counts[name] for name in ("requests", "attempts", "retries", "decisions"))
        table.add_row(line.tenant_id, *(f"{count:,}" for count in counts))
    return table


def _tokens(title: str, lines: Sequence[StatementLine]) -> Table:
    table = _table(title, *_TOKENS)
    for line in lines:
        sums = (sum(line.tokens[name] for name in names) for names in _TOKENS.values())
        table.add_row(line.tenant_id, *(f"{count:,}" for count in sums))
    return table


def _amounts(title: str, lines: Sequence[StatementLine]) -> Table:
    table = _table(title, "tokens", "model", "policy", "mark-up", "absorbed", "total", "retries")
    for line in lines:
        cents = line.cents()
        shown = [format_minor(cents[name], line.currency) for name in _AMOUNTS]
        shown += [format_minor(-cents["absorbed"], line.currency), format_minor(cents["total"], line.currency)]
        unit_pico: int = 10 ** (12 - minor_digits(line.currency))
        shown.append(format_minor(round_half_even(line.pico["retry_cost"], unit_pico), line.currency))
        table.add_row(line.tenant_id, *shown)
    table.caption = "retries: the part of the total that attempts cost which did not answer"
    table.caption_justify = "left"
    return table


def conservation_line(check: Conservation) -> str:
    """The sums of all partitions and the verdict."""
    sums = check.totals()
    return (
        f"Conservation: {sums['events_received']:,} events received = {sums['events_admitted']:,} admitted"
        f" + {sums['events_duplicate']:,} duplicate + {sums['events_conflict']:,} in conflict"
        f" + {sums['events_quarantined']:,} quarantined; {len(check.partitions)} partitions,"
        f" {sums['records']:,} records without a gap: {'ok' if check.ok else check.first_problem}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, pad_edge=False, title_justify="left")
    table.add_column("tenant", no_wrap=True)
    for column in columns:
        table.add_column(f" {column}", justify="right", no_wrap=True)
    return table
