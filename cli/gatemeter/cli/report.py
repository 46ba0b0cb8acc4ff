"""`gatemeter report`: the statement per tenant and month, as a table, JSON or CSV, in any currency with a rate."""

from __future__ import annotations

import json
import re
import time
from typing import Annotated

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
from gatemeter.cli.report_allocated import print_allocation
from gatemeter.cli.settlement_tables import converted_settlement_tables, settlement_json, settlement_tables
from gatemeter.cli.statement_data import (
    converted_csv,
    converted_json,
    converted_settlement_json,
    statement_csv,
    statement_json,
)
from gatemeter.cli.statement_tables import converted_tables, statement_tables
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.commitments import settlements
from gatemeter.sinks.reports.converted import Converter
from gatemeter.sinks.reports.statement import StatementLine, check_month, statement
from gatemeter.sinks.terms.commitments import Settlement
from gatemeter.sinks.terms.exchange import NoRate
from gatemeter.sinks.terms.published import exchange


@one_line_errors
def report(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    month: Annotated[str, typer.Option("--month", help="YYYY-MM, in UTC; all months if not given.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="One tenant; all, and commitments, if not given.")] = "",
    currency: Annotated[
        str, typer.Option("--currency", help="ISO 4217 code: convert by the exchange rate at the end of the month.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON: exact amounts as text, and rounded cents.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: exact amounts.")] = False,
    allocated: Annotated[
        bool, typer.Option("--allocated", help="Shared costs, as allocation rules share them.")
    ] = False,
) -> None:
    """Print what each tenant used and owes, by month; unpriced usage is shown beside the amounts, never as zero.

    Example: gatemeter report --month 2026-11 --tenant acme --csv > acme.csv
    """
    if as_json and as_csv:
        raise OptionError("--csv: must not be given beside --json")
    if allocated and currency:
        raise OptionError("--currency: must not be given beside --allocated")
    if currency and not re.fullmatch(r"[A-Z]{3}", currency):
        raise OptionError(f"--currency: must be an ISO 4217 code such as EUR, got {currency!r}")
    try:
        check_month(month)
    except ValueError as error:
        raise OptionError(f"--{error}") from error
    now_us = time.time_ns() // 1_000
    client = connect(settings(url, user, password, password_file, database))
    if allocated:
        print_allocation(client, tenant, month, as_json=as_json, as_csv=as_csv)
        return
    try:
        lines = statement(client, tenant=tenant, month=month)
        settled = [] if tenant else settlements(client, month, now_us)
        converter = Converter(exchange(client), currency, now_us) if currency else None
    finally:
        client.close()
    if converter is None:
        _print(lines, settled, as_json=as_json, as_csv=as_csv)
        return
    try:
        _print_converted(converter, lines, settled, as_json=as_json, as_csv=as_csv)
    except NoRate as error:
        raise OptionError(f"--currency: {error}") from error


def _print(lines: list[StatementLine], settled: list[Settlement], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        typer.echo(json.dumps([statement_json(line) for line in lines] + [settlement_json(line) for line in settled]))
    elif as_csv:
        typer.echo(statement_csv(lines, settled), nl=False)
    else:
        for table in (*statement_tables(lines), *settlement_tables(settled)):
            console.print(table)
        if not lines:
            console.print("nothing was used")


def _print_converted(
    converter: Converter, lines: list[StatementLine], settled: list[Settlement], *, as_json: bool, as_csv: bool
) -> None:
    """All is converted before the first line is printed: a statement is whole or an error."""
    converted, commitments = converter.lines(lines), converter.settlements(settled)
    if as_json:
        data = [converted_json(line) for line in converted]
        typer.echo(json.dumps(data + [converted_settlement_json(line) for line in commitments]))
    elif as_csv:
        typer.echo(converted_csv(converted, commitments), nl=False)
    else:
        for table in (*converted_tables(converted), *converted_settlement_tables(commitments)):
            console.print(table)
        rates = [line.conversion for line in converted] + [line.conversion for line in commitments]
        for text in dict.fromkeys(rate.text for rate in rates if rate is not None):
            console.print(text, markup=False, soft_wrap=True)
        if not lines:
            console.print("nothing was used")
