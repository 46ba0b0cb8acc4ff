"""`gatemeter billing import`: reads what a provider says it bills, tells what it could not read, and keeps the rest."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Annotated, Any, Final, cast, get_args

import typer
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import FAILURES, OptionError, console, reading
from gatemeter.cli.one_line import errors, one_line_errors_of
from gatemeter.cli.screen import cell, plain_table
from gatemeter.sinks.billing import (
    FORMATS,
    BillingError,
    BillingWriter,
    Identity,
    Order,
    Outcome,
    Rejected,
    identify,
    read,
)
from gatemeter.sinks.billing.importing import SHOWN
from gatemeter.sinks.billing.mapping import Covers
from gatemeter.sinks.billing.writing import Known

_MIB: Final = 2**20
_RAW_SHOWN: Final = 120


class NotImported(Exception):
    """Nothing of the file counts; the text says why."""


one_line_errors = one_line_errors_of({1: (NotImported,), 2: (*FAILURES, BillingError)})


@one_line_errors
def billing_import(
    files: Annotated[list[Path], typer.Argument(help="The export; all its parts at once where it has several.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="TOML file that says which column is what, instead of the default.")
    ] = None,
    account: Annotated[
        str,
        typer.Option("--account", help="Whose bill it is, where the file does not say."),
    ] = "",
    calendar: Annotated[
        str, typer.Option("--calendar", help="Time zone of the billing days, such as Europe/Berlin.")
    ] = "",
    covers: Annotated[
        str, typer.Option("--covers", help="Days that the file replaces: buckets, period (its months) or seen.")
    ] = "",
    max_unpacked_mib: Annotated[
        int, typer.Option("--max-unpacked-mib", min=1, max=10**7, help="Most that a file may unpack to, in MiB.")
    ] = 16 * 1024,
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if a row cannot be read.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who imports it; the user of the system if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Import what a provider says it bills. A file that was imported changes nothing; a later one replaces its days.

    Rows that cannot be read are listed, with line and reason, and the rest is imported. Exit code 1: nothing was.

    Example: gatemeter billing import costs-2026-11.json --format openai-costs --account acme
    """
    order = _order(files, form, mapping, calendar, account, covers, max_unpacked_mib)
    identity = identify(order)
    with reading(url, user, password, password_file, database) as client:
        writer = BillingWriter(client)
        known = writer.known(identity.import_id)
        if known is not None:
            _say_known(known, as_json=as_json)
            return
        outcome = read(order, identity, writer)
        why = _refusal(outcome, strict=strict)
        if not why:
            names = ", ".join(path.name for path in files)
            now_us = time.time_ns() // 1_000
            writer.finish(identity, outcome, file_name=names, imported_by=by or getpass.getuser(), now_us=now_us)
    _say(outcome, "" if why else "imported", as_json=as_json)
    if why:
        raise NotImported(why)


def _order(
    files: list[Path], form: str, mapping: Path | None, calendar: str, account: str, covers: str, max_unpacked_mib: int
) -> Order:
    if form not in FORMATS:
        raise OptionError(f"--format: must be one of {', '.join(FORMATS)}, got {form!r}")
    if covers and covers not in get_args(Covers):
        raise OptionError(f"--covers: must be buckets, period or seen, got {covers!r}")
    try:
        return Order(
            tuple(files),
            FORMATS[form],
            mapping,
            calendar,
            account,
            cast(Covers, covers) if covers else None,
            max_unpacked_mib * _MIB,
        )
    except BillingError as error:
        raise OptionError(f"--{error}") from error


def _refusal(outcome: Outcome, *, strict: bool) -> str:
    """Why nothing of it may count; '' where it counts."""
    if strict and outcome.rejected:
        return f"nothing was imported: {outcome.rejected:,} rows cannot be read, and --strict was given"
    if not outcome.nothing:
        return ""
    if outcome.rejected:
        return f"nothing was imported: none of {outcome.rejected:,} rows can be read"
    if outcome.left_out:
        return f"nothing was imported: all {outcome.left_out:,} rows are of services that are none of AI ([[select]])"
    return "nothing was imported: the file has no row"


def _say_known(known: Known, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"import_id": known.import_id, "state": "already imported", "lines": known.lines}))
        return
    text = f"already imported at {known.imported_at} as {known.import_id[:12]}: {known.lines:,} lines; nothing changed"
    console.print(text, markup=False, soft_wrap=True)


def _say(outcome: Outcome, state: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_as_json(outcome, state or "not imported")))
        return
    if state:
        console.print(_summary(outcome, outcome.identity), markup=False, soft_wrap=True)
    if outcome.left_out and state:
        console.print(f"{outcome.left_out:,} rows are of other services and were left out", markup=False)
    if outcome.rounded and state:
        text = f"{outcome.rounded:,} numbers had more than 12 digits after the point and were rounded half-even"
        console.print(text, markup=False)
    for note in outcome.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    if outcome.rejected:
        console.print(_rejected_table(outcome.shown, outcome.rejected))
        if outcome.rejected > SHOWN:
            errors.print(f"and {outcome.rejected - SHOWN:,} more rows that cannot be read", markup=False)


def _summary(outcome: Outcome, identity: Identity) -> str:
    days = outcome.days
    span = f" of {days[0]} to {days[1]}" if days else ""
    rejected = f", {outcome.rejected:,} rows rejected" if outcome.rejected else ""
    return (
        f"imported {identity.import_id[:12]}: {outcome.lines:,} lines of {outcome.provider}{span}"
        f" ({outcome.calendar}){rejected}"
    )


def _rejected_table(rejected: list[Rejected], count: int) -> Table:
    table = plain_table("line", "field", "reason", "row", title=f"{count:,} rows cannot be read", right=("line",))
    for row in rejected:
        shown = row.raw if len(row.raw) <= _RAW_SHOWN else row.raw[: _RAW_SHOWN - 1] + "…"
        table.add_row(*(cell(text) for text in (row.place, row.field, row.reason, shown)))
    return table


def _as_json(outcome: Outcome, state: str) -> dict[str, Any]:
    days = outcome.days
    return {
        "import_id": outcome.identity.import_id,
        "state": state,
        "format": outcome.form,
        "provider": outcome.provider,
        "content": outcome.content,
        "calendar": outcome.calendar,
        "first_day": str(days[0]) if days else None,
        "last_day": str(days[1]) if days else None,
        "lines": outcome.lines,
        "rejected": outcome.rejected,
        "left_out": outcome.left_out,
        "rounded": outcome.rounded,
        "notes": outcome.notes,
        "rejected_rows": [
            {"line": row.place, "field": row.field, "reason": row.reason, "raw": row.raw} for row in outcome.shown
        ],
    }
