"""`gatemeter statement`: one tenant's month, in the form that each reader uses."""

from __future__ import annotations

import json
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.statement.as_csv import focus_csv, journal_csv, lines_csv
from gatemeter.cli.statement.as_json import whole_json
from gatemeter.cli.statement.page import page
from gatemeter.sinks.reports.converted import ConvertedLine, Converter
from gatemeter.sinks.statements.beside import is_known, token_prices
from gatemeter.sinks.statements.journal import EXPENSE, RECOVERY, Accounts
from gatemeter.sinks.statements.whole import Statement, read_statement
from gatemeter.sinks.terms.exchange import NoRate
from gatemeter.sinks.terms.months import Month, month_of
from gatemeter.sinks.terms.published import exchange


class Format(StrEnum):
    """Forms of a statement."""

    html = "html"
    csv = "csv"
    json = "json"
    focus = "focus"
    journal = "journal"


@ch.one_line_errors
def statement(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose statement.", show_default=False)],
    period: Annotated[str, typer.Option("--period", help="YYYY-MM, in UTC.", show_default=False)],
    form: Annotated[Format, typer.Option("--format", help="For whom it is.")] = Format.html,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; standard output if not given.")
    ] = None,
    currency: Annotated[
        str, typer.Option("--currency", help="ISO 4217 code: totals in it too, by the rate at the end of the month.")
    ] = "",
    expense_account: Annotated[str, typer.Option("--expense-account", help="Account debited, for journal.")] = EXPENSE,
    recovery_account: Annotated[
        str, typer.Option("--recovery-account", help="The platform's account credited, for journal.")
    ] = RECOVERY,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Hand out a tenant's month: a page that prints, CSV, JSON, FOCUS 1.2 rows, or lines of a general ledger.

    Example: gatemeter statement --tenant acme --period 2026-10 --output acme-2026-10.html
    """
    month = _month(period)
    _check(tenant, form, currency)
    accounts = _accounts(expense_account, recovery_account)
    now_us = time.time_ns() // 1_000
    with ch.reading(url, user, password, password_file, database, patiently=True) as client:
        read = read_statement(client, tenant, month, now_us)
        if not read.sections and not is_known(client, tenant):
            raise ch.OptionError(
                f"--tenant: must be registered or have usage (gatemeter tenants list), got {tenant[:100]!r}"
            )
        text = _text(client, read, form, currency, now_us, accounts)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise ch.OptionError(f"--output: must be a file that can be written: {error}") from error


def _accounts(expense: str, recovery: str) -> Accounts:
    for option, value in (("--expense-account", expense), ("--recovery-account", recovery)):
        if not value.strip():
            raise ch.OptionError(f"{option}: must not be empty")
    return Accounts(expense, recovery)


def _text(client: Client, read: Statement, form: Format, currency: str, now_us: int, accounts: Accounts) -> str:
    if form is Format.csv:
        return lines_csv(read)
    if form is Format.journal:
        return journal_csv(read, accounts)
    if form is Format.focus:
        lines = [line for section in read.sections for line in section.lines]
        return focus_csv(read, token_prices(client, lines, read.month))
    converted = _converted(client, read, currency, now_us)
    if form is Format.json:
        return json.dumps(whole_json(read, converted), indent=1) + "\n"
    return page(read, converted)


def _converted(client: Client, read: Statement, currency: str, now_us: int) -> list[ConvertedLine]:
    if not currency:
        return []
    try:
        return Converter(exchange(client), currency, now_us).lines([section.total for section in read.sections])
    except NoRate as error:
        raise ch.OptionError(f"--currency: {error}") from error


def _month(period: str) -> Month:
    try:
        return month_of(period)
    except ValueError as error:
        raise ch.OptionError(f"--period: {error}") from error


def _check(tenant: str, form: Format, currency: str) -> None:
    if not tenant:
        raise ch.OptionError("--tenant: must not be empty")
    if currency and form not in (Format.html, Format.json):
        raise ch.OptionError(f"--currency: must be given beside --format html or json only, got {form.value}")
    if currency and not re.fullmatch(r"[A-Z]{3}", currency):
        raise ch.OptionError(f"--currency: must be an ISO 4217 code such as EUR, got {currency!r}")
