"""`gatemeter commitments status`: what was paid for in a month, what was used of it, and what was not."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import OptionError, console
from gatemeter.cli.settlement_tables import settlement_json, settlement_tables
from gatemeter.sinks.reports.commitments import settlements
from gatemeter.sinks.terms.months import month_of


@ch.one_line_errors
def commitments_status(
    period: Annotated[str, typer.Option("--period", help="YYYY-MM, in UTC; all months if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of tables.")] = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show fee, use, unused part and overage of each commitment. Of a running month: up to the hour that runs.

    Example: gatemeter commitments status --period 2026-10
    """
    if period:
        check_period(period)
    with ch.reading(url, user, password, password_file, database) as client:
        lines = settlements(client, period, time.time_ns() // 1_000)
    if as_json:
        typer.echo(json.dumps([settlement_json(line) for line in lines]))
        return
    for table in settlement_tables(lines):
        console.print(table)
    if not lines:
        console.print("no commitment was in force")


def check_period(period: str) -> None:
    """Raises `OptionError` unless it is a month."""
    try:
        month_of(period)
    except ValueError as error:
        raise OptionError(f"--period: {error}") from error
