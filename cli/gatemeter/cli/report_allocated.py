"""`gatemeter report --allocated`: of each tenant and cost centre what it used, what went out, and what came in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from clickhouse_connect.driver.client import Client
from rich.markup import escape
from rich.table import Table

from gatemeter.cli.clickhouse_options import console
from gatemeter.cli.screen import plain_table
from gatemeter.sinks.reports.allocating import Allocated, Party
from gatemeter.sinks.reports.allocation import AllocatedLine, allocation
from gatemeter.sinks.reports.cents import format_minor, plain_minor
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.spreadsheets import csv_text


def print_allocation(client: Client, tenant: str, month: str, *, as_json: bool, as_csv: bool) -> None:
    """Prints it as tables, JSON or CSV, and closes the client; `tenant` '' and `month` '' are all."""
    try:
        lines, allocated = allocation(client, month=month)
    finally:
        client.close()
    if tenant:
        party = Party("tenant", tenant)
        lines = [line for line in lines if line.party == party]
        shares = tuple(share for share in allocated.shares if tenant == share.owner or party == share.receiver)
        kept = tuple(each for each in allocated.kept if each.owner == tenant)
        allocated = Allocated(shares, kept, allocated.unpriced_tokens)
    if as_json:
        typer.echo(json.dumps(allocation_json(lines, allocated)))
    elif as_csv:
        typer.echo(_csv(lines), nl=False)
    else:
        for table in allocation_tables(lines, allocated):
            console.print(table)
        if not lines:
            console.print("nothing was used")


def allocation_json(lines: Sequence[AllocatedLine], allocated: Allocated) -> dict[str, Any]:
    """Amounts as text with all digits, `rounded` in the currency's own digits."""
    return {
        "lines": [_line(line) for line in lines],
        "shares": [
            {
                "month": f"{share.month:%Y-%m}",
                "allocation": share.allocation_id,
                "method": share.method,
                "from_tenant": share.owner,
                f"to_{share.receiver.kind}": share.receiver.id,
                "currency": share.currency,
                "charge": text_of(share.pico),
                "rounded": plain_minor(share.cents, share.currency),
            }
            for share in allocated.shares
        ],
        "kept": [
            {
                "month": f"{each.month:%Y-%m}",
                "allocation": each.allocation_id,
                "method": each.method,
                "tenant": each.owner,
                "currency": each.currency,
                "charge": text_of(each.pico),
            }
            for each in allocated.kept
        ],
        "unpriced_tokens": [
            {"month": f"{month:%Y-%m}", "allocation": name, "tokens": tokens}
            for (month, name), tokens in sorted(allocated.unpriced_tokens.items())
            if tokens
        ],
    }


def _line(line: AllocatedLine) -> dict[str, Any]:
    return {
        "month": f"{line.month:%Y-%m}",
        line.party.kind if line.party.kind == "cost_centre" else "tenant_id": line.party.id,
        "currency": line.currency,
        **{side: text_of(pico) for side, pico in line.pico.items()},
        "total": text_of(line.total(line.pico)),
        "rounded": {side: plain_minor(cents, line.currency) for side, cents in line.cents.items()}
        | {"total": plain_minor(line.total(line.cents), line.currency)},
    }


def _csv(lines: Sequence[AllocatedLine]) -> str:
    columns = ("month", "kind", "id", "currency", "own", "out", "in", "total")
    rows = []
    for line in lines:
        amounts = (text_of(line.pico[side]) for side in ("own", "out", "in"))
        values = (f"{line.month:%Y-%m}", *line.party, line.currency, *amounts, text_of(line.total(line.pico)))
        rows.append(dict(zip(columns, values, strict=True)))
    return csv_text(columns, rows)


def allocation_tables(lines: Sequence[AllocatedLine], allocated: Allocated) -> Iterator[Table]:
    """By month (UTC) and currency the parties, with their sum; then who shares what with whom, and what stays."""
    for month, currency in sorted({(line.month, line.currency) for line in lines}):
        chosen = [line for line in lines if (line.month, line.currency) == (month, currency)]
        title = f"Allocated {month:%Y-%m}: amounts in {currency or 'no currency'}"
        table = _table(title, "tenant or cost centre", "own", "- went out", "+ came in", "total")
        sums = [[*(line.cents[side] for side in ("own", "out", "in")), line.total(line.cents)] for line in chosen]
        for line, amounts in zip(chosen, sums, strict=True):
            table.add_row(_shown(line.party), *(format_minor(units, currency) for units in amounts))
        table.add_section()
        table.add_row("all", *(format_minor(sum(column), currency) for column in zip(*sums, strict=True)))
        yield table
    if allocated.shares:
        table = _table("Shares", "month", "allocation", "from", "to", "amount")
        for share in allocated.shares:
            amount = f"{format_minor(share.cents, share.currency)} {share.currency}"
            rule = escape(f"{share.allocation_id} ({share.method})")
            table.add_row(f"{share.month:%Y-%m}", rule, escape(share.owner), _shown(share.receiver), amount)
        yield table
    if allocated.kept:
        table = _table("Stays with its owner: no receiver used anything", "month", "allocation", "tenant", "amount")
        for each in allocated.kept:
            amount = f"{text_of(each.pico)} {each.currency}"
            table.add_row(f"{each.month:%Y-%m}", escape(each.allocation_id), escape(each.owner), amount)
        yield table
    unpriced = {key: tokens for key, tokens in allocated.unpriced_tokens.items() if tokens}
    if unpriced:
        table = _table("Unpriced tokens of what is shared, in no share", "month", "allocation", "tokens")
        for (month, name), tokens in sorted(unpriced.items()):
            table.add_row(f"{month:%Y-%m}", escape(name), f"{tokens:,}")
        yield table


def _shown(party: Party) -> str:
    return escape(party.id if party.kind == "tenant" else f"cost centre {party.id}")


def _table(title: str, *columns: str) -> Table:
    return plain_table(*columns, title=title, right=("own", "- went out", "+ came in", "total", "amount", "tokens"))
