"""`gatemeter tenants unattributed`: who used models without being registered, since when, and what it cost."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

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
    reading,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.sealing.hours import utc
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.statement import check_month
from gatemeter.sinks.reports.unattributed import Waiting
from gatemeter.sinks.reports.unattributed import unattributed as waiting_usage


@one_line_errors
def tenants_unattributed(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    month: Annotated[str, typer.Option("--month", help="YYYY-MM of the usage, in UTC; all if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON: exact amounts as text.")] = False,
) -> None:
    """List usage that nobody bears: register who it is (tenants apply), then attribute it (reorganise).

    Example: gatemeter tenants unattributed --month 2026-11
    """
    try:
        check_month(month)
    except ValueError as error:
        raise OptionError(f"--{error}") from error
    with reading(url, user, password, password_file, database) as client:
        found = waiting_usage(client, month=month)
    if as_json:
        typer.echo(json.dumps([_json(each) for each in found]))
        return
    if not found:
        console.print("nothing is unattributed")
        return
    numbers = ("attempts", "decisions", "tokens", "unpriced", "provider cost")
    table = plain_table("who", "why", "since", "last", *numbers, right=numbers)
    for each in found:
        counts = (each.attempts, each.decisions, each.tokens, each.unpriced_tokens)
        cost = f"{text_of(each.provider_pico)} {each.currency}".rstrip()
        times = (utc(each.first_seen_us), utc(each.last_seen_us))
        table.add_row(escape(_who(each)), each.note.replace("_", " "), *times, *(f"{n:,}" for n in counts), cost)
    console.print(table)


def _who(each: Waiting) -> str:
    named = {
        "tenant": each.tenant_id,
        "app": each.app_id,
        "workload": each.workload_id,
        "credential": each.credential_fingerprint,
    }
    return ", ".join(f"{kind} {name}" for kind, name in named.items() if name) or "nobody is named"


def _json(each: Waiting) -> dict[str, Any]:
    names = ("tenant_id", "app_id", "workload_id", "credential_fingerprint", "note", "currency")
    counts = ("attempts", "decisions", "tokens", "unpriced_tokens")
    return {
        **{name: getattr(each, name) for name in (*names, *counts)},
        "first_seen": utc(each.first_seen_us),
        "last_seen": utc(each.last_seen_us),
        "provider_cost": text_of(each.provider_pico),
    }
