"""`gatemeter audit`: does everything that came in add up to what the tables hold?"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    Password,
    PasswordFile,
    Url,
    User,
    console,
    errors,
    one_line_errors,
    settings,
)
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.conservation import Conservation, settled_conservation


@one_line_errors
def audit(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Check conservation: every record and event is accounted for once. Exit code 0: all adds up, 1: it does not.

    Example: gatemeter audit --clickhouse-url http://127.0.0.1:8123 --clickhouse-user analyst
    """
    client = connect(settings(url, user, password, password_file, database))
    try:
        result = settled_conservation(client)
    finally:
        client.close()
    if as_json:
        typer.echo(json.dumps(conservation_json(result)))
    else:
        console.print(conservation_table(result))
    if not result.ok:
        errors.print(f"conservation: {result.first_problem}", markup=False)
        raise typer.Exit(1)


def conservation_json(result: Conservation) -> dict[str, Any]:
    """The check as plain data: `conservation` is "ok" or the first problem."""
    return {
        "conservation": "ok" if result.ok else result.first_problem,
        "partitions": [
            {"topic": check.topic, "partition": check.partition, **check.counts, "problem": check.problem}
            for check in result.partitions
        ],
        "totals": result.totals(),
    }


_SHOWN: Final = {
    "records": "records",
    "records_quarantined": "refused",
    "events_received": "events",
    "events_admitted": "admitted",
    "events_duplicate": "duplicate",
    "events_conflict": "conflict",
    "events_quarantined": "refused",
}


def conservation_table(result: Conservation) -> Table:
    """One row a partition, a row of totals, and what is wrong."""
    table = Table(title="Conservation")
    table.add_column("partition", no_wrap=True)
    for title in _SHOWN.values():
        table.add_column(title, justify="right")
    table.add_column("result", overflow="fold")
    for check in result.partitions:
        numbers = [f"{check.counts[name]:,}" for name in _SHOWN]
        table.add_row(escape(f"{check.topic}[{check.partition}]"), *numbers, check.problem or "ok")
    table.add_section()
    totals = result.totals()
    table.add_row("all", *(f"{totals[name]:,}" for name in _SHOWN), "ok" if result.ok else "NOT OK")
    return table
