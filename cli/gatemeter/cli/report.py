"""`gatemeter report`: the statement per tenant and month, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    OptionError,
    Password,
    PasswordFile,
    Url,
    User,
    console,
    one_line_errors,
    settings,
)
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.cents import format_minor, round_half_even
from gatemeter.sinks.reports.cents import minor_digits as digits_of
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.statement import AMOUNTS, StatementLine, check_month, statement

_NAMED_BUCKETS: Final = {
    "input": ("input_text_uncached", "input_audio_uncached", "input_image_uncached"),
    "cache read": ("input_text_cache_read", "input_audio_cache_read", "input_image_cache_read"),
    "cache write": ("input_text_cache_write_5m", "input_text_cache_write_1h"),
    "output": ("output_text_visible", "output_audio_visible", "output_image_visible"),
    "reasoning": ("output_text_reasoning",),
}


@one_line_errors
def report(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    month: Annotated[str, typer.Option("--month", help="YYYY-MM, in UTC; all months if not given.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="One tenant; all if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON: exact amounts as text, and rounded cents.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: exact amounts.")] = False,
) -> None:
    """Print what each tenant used and owes, by month; unpriced usage is shown beside the amounts, never as zero.

    Example: gatemeter report --month 2026-11 --tenant acme --csv > acme.csv
    """
    if as_json and as_csv:
        raise OptionError("--csv: must not be given beside --json")
    try:
        check_month(month)
    except ValueError as error:
        raise OptionError(f"--{error}") from error
    client = connect(settings(url, user, password, password_file, database))
    try:
        lines = statement(client, tenant=tenant, month=month)
    finally:
        client.close()
    if as_json:
        typer.echo(json.dumps([statement_json(line) for line in lines]))
    elif as_csv:
        typer.echo(statement_csv(lines), nl=False)
    else:
        console.print(statement_table(lines))


def statement_json(line: StatementLine) -> dict[str, Any]:
    """A line as plain data: amounts as text with all digits, `rounded` as text in the currency's own digits."""
    return {
        "month": f"{line.month:%Y-%m}",
        "tenant_id": line.tenant_id,
        "currency": line.currency,
        **line.counts,
        "tokens_by_bucket": dict(line.tokens),
        **{name: text_of(line.pico[name]) for name in AMOUNTS},
        "rounded": {name: format_minor(units, line.currency) for name, units in line.cents().items()},
    }


def statement_csv(lines: Sequence[StatementLine]) -> str:
    """A header and a row a line; amounts with all digits."""
    out = io.StringIO()
    rows = []
    for line in lines:
        data = statement_json(line)
        del data["rounded"]
        tokens = data.pop("tokens_by_bucket")
        rows.append(data | tokens)
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def statement_table(lines: Sequence[StatementLine]) -> Table:
    """The statement for people: a block a tenant and month, cents that add up."""
    table = Table(title="Statement (months in UTC)", show_lines=True)
    for title in ("month", "tenant", "usage", "tokens", "amounts", "not priced"):
        table.add_column(title, overflow="fold")
    for line in lines:
        table.add_row(
            f"{line.month:%Y-%m}", escape(line.tenant_id), _usage(line), _tokens(line), _amounts(line), _unpriced(line)
        )
    return table


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column()
    grid.add_column(justify="right", no_wrap=True)
    for name, value in pairs:
        grid.add_row(name, value)
    return grid


def _usage(line: StatementLine) -> Table:
    names = ("requests", "attempts", "retries", "decisions")
    shown = ("requests", "attempts", "not answering", "policy decisions")
    return _pairs([(title, f"{line.counts[name]:,}") for title, name in zip(shown, names, strict=True)])


def _tokens(line: StatementLine) -> Table:
    sums = {title: sum(line.tokens[name] for name in names) for title, names in _NAMED_BUCKETS.items()}
    pairs = [(title, f"{count:,}") for title, count in sums.items() if count or title in ("input", "output")]
    if line.counts["estimated_tokens"]:
        pairs.append(("of which estimated", f"{line.counts['estimated_tokens']:,}"))
    return _pairs(pairs)


def _amounts(line: StatementLine) -> Table:
    cents = line.cents()
    pairs = [
        (title, format_minor(cents[name], line.currency))
        for title, name in (("tokens", "token_cost"), ("model fees", "model_cost"), ("policy", "policy_cost"))
    ]
    pairs.append(("mark-up", format_minor(cents["markup"], line.currency)))
    if cents["absorbed"]:
        pairs.append(("absorbed", format_minor(-cents["absorbed"], line.currency)))
    pairs.append((f"total {line.currency}", format_minor(cents["total"], line.currency)))
    retries = round_half_even(line.pico["retry_cost"], 10 ** (12 - digits_of(line.currency)))
    pairs.append(("of which retries", format_minor(retries, line.currency)))
    return _pairs(pairs)


def _unpriced(line: StatementLine) -> Table | str:
    names = {
        "tokens": "unpriced_tokens",
        "attempts": "unpriced_attempts",
        "decisions": "unpriced_decisions",
        "no usage known": "attempts_without_usage",
    }
    pairs = [(title, f"{line.counts[name]:,}") for title, name in names.items() if line.counts[name]]
    return _pairs(pairs) if pairs else "none"
