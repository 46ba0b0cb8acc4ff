"""`gatemeter billing list|show|lines`: what was imported, what is in one import, and the lines in force."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import OptionError, console
from gatemeter.cli.commitments import check_period
from gatemeter.cli.screen import cell, plain_table
from gatemeter.sinks.billing import stored
from gatemeter.sinks.billing.lines import CONTENTS
from gatemeter.sinks.spreadsheets import csv_text

_SHORT: Final = 12
_REJECTED: Final = 100
_TABLE: Final = (
    *("billing_day", "provider", "account", "project", "charge_category", "line_item", "model", "token_type"),
    *("quantity", "amount", "currency"),
)
_NUMBERS: Final = ("quantity", "amount", "list_amount")

Provider = Annotated[str, typer.Option("--provider", help="One provider; all if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON list; amounts as exact text.")]


@ch.one_line_errors
def billing_list(
    provider: Provider = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """List imports, the latest first; one of which no day is in force has been replaced by later ones.

    Example: gatemeter billing list --provider openai
    """
    with ch.reading(url, user, password, password_file, database) as client:
        imports = stored.imports(client, provider=provider)
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in imports]))
        return
    table = plain_table(
        *("import", "imported at", "by", "format", "file", "provider", "days", "in force", "lines", "rejected"),
        right=("in force", "lines", "rejected"),
    )
    for row in imports:
        table.add_row(
            *(
                row["import_id"][:_SHORT],
                row["at"][:19],
                *_cells(row, "imported_by", "format", "file_name", "provider"),
            ),
            *(_span(row), f"{row['days_in_force']:,}", f"{row['lines']:,}", f"{row['rejected']:,}"),
        )
    console.print(table if imports else "nothing was imported")


@ch.one_line_errors
def billing_show(
    import_id: Annotated[str, typer.Argument(help="Id of the import, or how it begins.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; amounts as exact text.")] = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show an import: its days, its amounts by kind and what of them is in force, and the rows that were rejected.

    Example: gatemeter billing show 3f9a1c
    """
    with ch.reading(url, user, password, password_file, database) as client:
        row = _one(client, import_id)
        accounts = stored.accounts(client, row["import_id"])
        totals = stored.totals(client, row["import_id"])
        rejected = stored.rejected(client, row["import_id"], _REJECTED)
    if as_json:
        parts = {"accounts": accounts, "totals": totals, "rejected_rows": rejected}
        typer.echo(json.dumps(_plain(row) | {name: [_plain(entry) for entry in part] for name, part in parts.items()}))
        return
    _print_import(row, accounts, totals, rejected)


@ch.one_line_errors
def billing_lines(
    provider: Provider = "",
    account: Annotated[str, typer.Option("--account", help="One account; all if not given.")] = "",
    content: Annotated[str, typer.Option("--content", help="cost or usage; both if not given.")] = "",
    period: Annotated[str, typer.Option("--period", help="YYYY-MM of the billing day; all if not given.")] = "",
    import_id: Annotated[str, typer.Option("--import", help="Lines of one import, by its id or how it begins.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10**7, help="At most so many lines.")] = 1_000,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: exact amounts.")] = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Print the lines in force: of each day of an account those of the latest import that speaks of it.

    Example: gatemeter billing lines --provider openai --period 2026-11 --csv > lines.csv
    """
    if as_json and as_csv:
        raise OptionError("--csv: must not be given beside --json")
    if content and content not in CONTENTS:
        raise OptionError(f"--content: must be one of {', '.join(CONTENTS)}, got {content!r}")
    if period:
        check_period(period)
    with ch.reading(url, user, password, password_file, database) as client:
        start = _one(client, import_id)["import_id"] if import_id else ""
        asked = {"provider": provider, "account": account, "content": content, "period": period, "start": start}
        lines = stored.lines(client, **asked, limit=limit + 1)
    shown = lines[:limit]
    if as_json:
        typer.echo(json.dumps([_plain(line) for line in shown]))
    elif as_csv:
        typer.echo(csv_text(stored.LINE_COLUMNS, map(_plain, shown)), nl=False)
    else:
        _print_lines(shown)
    if len(lines) > limit:
        typer.echo(f"only the first {limit:,} lines are shown (--limit)", err=True)


def _one(client: Client, start: str) -> stored.Row:
    """The import whose id begins so. Raises `OptionError` unless there is one."""
    found = stored.imports(client, start=start) if start else []
    if len(found) != 1:
        what = "no import begins with" if not found else f"{len(found)} imports begin with"
        raise OptionError(f"import: {what} {start!r}; gatemeter billing list names them")
    return found[0]


def _span(row: stored.Row) -> str:
    return "" if row["first_day"] is None else f"{row['first_day']} to {row['last_day']}"


def _print_import(
    row: stored.Row, accounts: list[stored.Row], totals: list[stored.Row], rejected: list[stored.Row]
) -> None:
    told = (
        f"{row['import_id']}: {row['file_name']} ({row['format']}),"
        f" imported at {row['at'][:19]} by {row['imported_by']}",
        f"{row['lines']:,} lines, {row['rejected']:,} rows rejected, {row['left_out']:,} of other services left out;"
        f" days of {row['calendar']}",
    )
    for text in told:
        console.print(text, markup=False, soft_wrap=True)
    names = ("provider", "account", "content", "days", "number")
    days = plain_table(*names, title="Days that it speaks of", right=["number"])
    for entry in accounts:
        days.add_row(*_cells(entry, "provider", "account", "content"), _span(entry), f"{entry['days']:,}")
    console.print(days)
    amounts = plain_table(
        *("content", "category", "currency", "lines", "amount", "in force", "amount in force"),
        title="Lines",
        right=("lines", "amount", "in force", "amount in force"),
    )
    for entry in totals:
        amounts.add_row(
            *(entry["content"], entry["charge_category"], entry["currency"], f"{entry['lines']:,}"),
            *(_exact(entry["total"]), f"{entry['lines_in_force']:,}", _exact(entry["total_in_force"])),
        )
    console.print(amounts)
    if rejected:
        table = plain_table("line", "field", "reason", title="Rows that were rejected", right=["line"])
        for entry in rejected:
            table.add_row(str(entry["line"]), *_cells(entry, "field", "reason"))
        console.print(table)


def _print_lines(lines: list[stored.Row]) -> None:
    table = plain_table(*(name.replace("_", " ") for name in _TABLE), right=("quantity", "amount"))
    for line in lines:
        table.add_row(*(_exact(line[name]) if name in _NUMBERS else cell(str(line[name])) for name in _TABLE))
    console.print(table if lines else "no line is in force")


def _cells(row: stored.Row, *names: str) -> list[str]:
    return [cell(row[name]) for name in names]


def _exact(value: Decimal | None) -> str:
    """Every digit that is not a trailing zero; '' where there is no number."""
    if value is None:
        return ""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(row: stored.Row) -> dict[str, Any]:
    """A row for JSON: numbers with decimals as text, days and times as text."""
    kept = (int, str, type(None))
    return {
        name: _exact(value) if isinstance(value, Decimal) else value if isinstance(value, kept) else str(value)
        for name, value in row.items()
        if name != "imported_at"
    }
