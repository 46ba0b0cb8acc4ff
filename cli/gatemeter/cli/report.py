"""`gatemeter report`: the statement per tenant and month, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

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
from gatemeter.cli.statement_tables import statement_tables
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.cents import format_minor
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.statement import AMOUNTS, StatementLine, check_month, statement


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
        for table in statement_tables(lines):
            console.print(table)
        if not lines:
            console.print("nothing was used")


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
