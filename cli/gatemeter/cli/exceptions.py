"""`gatemeter exceptions find|list|show`: look at days of facts, and read what was found."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.clickhouse_options import console, reading
from gatemeter.cli.exceptions_options import (
    AsJson,
    ThresholdsFile,
    WebhookHeader,
    WebhookUrl,
    day,
    one_line_errors,
    table_of,
    who,
)
from gatemeter.cli.one_line import errors
from gatemeter.sinks.exceptions.acts import ActRefused
from gatemeter.sinks.exceptions.endpoint import webhook_of
from gatemeter.sinks.exceptions.finding import Found, days_until, find_exceptions
from gatemeter.sinks.exceptions.listing import Wanted, exception, exceptions, plain
from gatemeter.sinks.exceptions.thresholds import load_thresholds
from gatemeter.sinks.exceptions.webhook import tell

MOST_DAYS: Final = 366


@one_line_errors
def exceptions_find(
    from_day: Annotated[str, typer.Option("--from", help="First UTC day, YYYY-MM-DD; today if not given.")] = "",
    to_day: Annotated[str, typer.Option("--to", help="Last UTC day, inclusive; today if not given.")] = "",
    thresholds: ThresholdsFile = None,
    webhook: WebhookUrl = "",
    webhook_header_file: WebhookHeader = None,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Look for exceptions on days of usage and write what is found. Exit code 1: something new was found.

    Workers do it by themselves for the running day; this is for days that are over, and for schedulers of your own.

    Example: gatemeter exceptions find --from 2026-11-01 --to 2026-11-24 --thresholds thresholds.toml
    """
    now = datetime.now(UTC)
    days = _days(from_day, to_day, now)
    limits, endpoint = load_thresholds(thresholds), webhook_of(webhook, webhook_header_file)
    told = None
    with reading(url, user, password, password_file, database) as client:
        found = find_exceptions(client, days, limits, now)
        if endpoint is not None:
            told = tell(client, endpoint, now)
    _print_found(found, days, as_json=as_json, taken=None if told is None else told.taken)
    if told is not None and told.problem:
        errors.print(f"warning: {told.problem}; the next look tells it again", markup=False)
    if found.new:
        raise typer.Exit(1)


def _days(from_day: str, to_day: str, now: datetime) -> list[date]:
    if not from_day and not to_day:
        return days_until(now)
    last = day("--to", to_day) if to_day else now.date()
    first = day("--from", from_day) if from_day else last
    count = (last - first).days + 1
    if not 1 <= count <= MOST_DAYS:
        raise ch.OptionError(f"--from: must be 0 to {MOST_DAYS - 1} days before --to, got {first} and {last}")
    return [first + timedelta(days=number) for number in range(count)]


def _print_found(found: Found, days: list[date], *, as_json: bool, taken: int | None) -> None:
    counts = Counter(finding.kind for finding in found.all)
    if as_json:
        data: dict[str, Any] = {"from": days[0].isoformat(), "to": days[-1].isoformat(), "found": dict(counts)}
        typer.echo(json.dumps(data | {"new": found.new, "changed": found.changed, "told": taken}))
        return
    for kind, count in counts.most_common():
        console.print(f"{count:>6,} {kind.replace('_', ' ')}", markup=False)
    told = "" if taken is None else f"; the webhook took {taken:,}"
    text = f"{len(found.all):,} exceptions from {days[0]} to {days[-1]}: {len(found.new):,} new"
    console.print(f"{text}, {len(found.changed):,} changed{told}", markup=False, soft_wrap=True)


@one_line_errors
def exceptions_list(
    state: Annotated[str, typer.Option("--state", help="open, acknowledged, resolved or any.")] = "open",
    kind: Annotated[str, typer.Option("--kind", help="One kind, as docs/exceptions.md names it.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="One tenant.")] = "",
    owner: Annotated[str, typer.Option("--owner", help="One owner.")] = "",
    severity: Annotated[str, typer.Option("--severity", help="This one or worse: info, low, medium, high…")] = "",
    from_day: Annotated[str, typer.Option("--from", help="Last seen on this UTC day or later.")] = "",
    to_day: Annotated[str, typer.Option("--to", help="First seen on this UTC day or earlier.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 200,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """List exceptions, the most severe first.

    Example: gatemeter exceptions list --tenant acme --severity high
    """
    since = _midnight(day("--from", from_day)) if from_day else None
    until = _midnight(day("--to", to_day)) + timedelta(days=1) if to_day else None
    try:
        wanted = Wanted("" if state == "any" else state, kind, tenant, owner, severity, since, until)
    except ValueError as error:
        raise ch.OptionError(f"--{error}") from error
    with reading(url, user, password, password_file, database) as client:
        rows = exceptions(client, wanted, limit)
    if as_json:
        typer.echo(json.dumps([plain(row) for row in rows]))
        return
    console.print(table_of(rows) if rows else "no such exceptions")
    if len(rows) == limit:
        console.print(f"these are the first {limit:,}; --limit shows more", markup=False)


def _midnight(of: date) -> datetime:
    return datetime(of.year, of.month, of.day, tzinfo=UTC)


@one_line_errors
def exceptions_show(
    exception_id: Annotated[str, typer.Argument(help="Its id, as exceptions list shows it.")],
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show an exception with its evidence and what operators said about it.

    Example: gatemeter exceptions show 5f0c6f0b8f0d3d1f5d1ccd3a5b3b8b11
    """
    with reading(url, user, password, password_file, database) as client:
        shown = exception(client, exception_id)
    if shown is None:
        raise ActRefused(f"there is no exception {exception_id!r}: gatemeter exceptions list shows their ids")
    row, acts = shown
    if as_json:
        typer.echo(json.dumps(plain(row) | {"acts": [plain(act) for act in acts]}))
        return
    text = plain(row)
    cost = "not known" if row["cost"] is None else f"{text['cost']} {row['currency']}"
    reason = f" ({row['state_reason']})" if row["state_reason"] else ""
    lines = (
        ("kind", f"{row['kind'].replace('_', ' ')}, {row['severity']}"),
        ("state", f"{row['state']}{reason}"),
        ("about", who(row)),
        ("owner", row["owner"] or "nobody"),
        ("when", f"{text['first_seen_at']} to {text['last_seen_at']}"),
        ("seen", row["seen"]),
        ("expected", row["expected"]),
        ("cost", cost),
        ("evidence", f"{row['requests']:,} requests, of which {len(row['request_ids']):,}:"),
    )
    for name, value in lines:
        console.print(f"{name:9} {value}", markup=False, soft_wrap=True)
    for request_id in row["request_ids"]:
        console.print(f"          {request_id}", markup=False, soft_wrap=True)
    for act in map(plain, acts):
        what = act["owner"] if act["act"] == "assign" else act["reason"]
        console.print(f"{act['at']} {act['who']}: {act['act']}, {what}", markup=False, soft_wrap=True)
