"""`gatemeter quarantine list|show`: what was refused, why, what came of it, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
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
    reading,
)
from gatemeter.cli.quarantine_options import AsJson, Limit, Topic, choosing, one_line_errors, refusal_json
from gatemeter.cli.quarantine_ways import way_out
from gatemeter.schemas.codec import CodecError, decode
from gatemeter.sinks.reports.quarantine import (
    DEFAULT_LIMIT,
    STATES,
    WHOLE,
    Filters,
    Refusal,
    RefusedRecord,
    records,
    refusals,
    utc,
)

State = Annotated[str, typer.Option("--state", help="open, admitted, discarded, refused_again; all if not given.")]


@one_line_errors
@choosing
def quarantine_list(
    filters: Filters,
    state: State = "",
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """List refused records and events, why they were refused and what came of them.

    Example: gatemeter quarantine list --state open --refused-for unknown_key --since 2026-11-24
    """
    if state and state not in STATES:
        raise OptionError(f"--state must be one of {', '.join(STATES)}, got {state!r}")
    with reading(url, user, password, password_file, database) as client:
        found = refusals(client, replace(filters, state=state), limit)
    if as_json:
        typer.echo(json.dumps([refusal_json(each) for each in found]))
        return
    for each in found:
        event = "whole record" if each.event_index == WHOLE else f"event {each.event_index}"
        who = each.gateway_id or (f"says {each.claims.gateway_id}" if each.claims.gateway_id else "unknown")
        place = f"{each.topic}[{each.partition}]@{each.offset}"
        line = f"{place} {event}: {each.state}, {each.reason}, gateway {who}, {utc(each.recorded_at_us)}"
        console.print(line, markup=False, soft_wrap=True)
    for why in dict.fromkeys(each.reason for each in found if each.state == "open"):
        console.print(f"{why}: {way_out(why)}", markup=False, soft_wrap=True)
    if not found:
        console.print("nothing refused is like that")
    if len(found) == limit:
        console.print(f"only the first {limit} rows; more with --limit", markup=False)


@one_line_errors
def quarantine_show(
    partition: Annotated[int, typer.Argument(help="Partition.")],
    offset: Annotated[int, typer.Argument(help="Offset of the refused record.")],
    topic: Topic = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Print one refused record: why, its headers, its content as far as it can be read, and its bytes.

    Example: gatemeter quarantine show 3 1042 --json
    """
    filters = Filters(topic=topic, partition=partition, first_offset=offset, last_offset=offset)
    with reading(url, user, password, password_file, database) as client:
        found = refusals(client, filters)
        kept = records(client, [each.place for each in found])
    if len(kept) != 1:
        where = f"partition {partition} offset {offset}"
        if kept:
            raise OptionError(
                f"--topic: {where} is refused in {', '.join(record.topic for record in kept)}; choose one"
            )
        raise OptionError(f"{where}: no refused record is there; see: gatemeter quarantine list")
    shown = _shown(kept[0], found)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for name in ("record", "recorded_at", "record_digest", "key"):
        console.print(f"{name}: {shown[name]}", markup=False, soft_wrap=True)
    for name, value in shown["headers"]:
        console.print(f"header {name}: {value}", markup=False, soft_wrap=True)
    for row in shown["refused"]:
        event = "whole record" if row["event_index"] == WHOLE else f"event {row['event_index']}"
        line = f"{event}: {row['state']}, refused for {row['reason']}: {row['detail']}"
        console.print(line, markup=False, soft_wrap=True)
        if row["to_do"]:
            console.print(f"to do: {row['to_do']}", markup=False, soft_wrap=True)
    if shown["content"] is None:
        console.print(f"content: {shown['unreadable']}", markup=False, soft_wrap=True)
    else:
        console.print(f"content: {shown['schema']} {json.dumps(shown['content'])}", markup=False, soft_wrap=True)
    console.print(f"bytes: {shown['bytes']}", markup=False, soft_wrap=True)


def _shown(record: RefusedRecord, found: Sequence[Refusal]) -> dict[str, Any]:
    schema, content, unreadable = "", None, ""
    try:
        decoded = decode(record.value)
        schema, content = decoded.name, json.loads(json.dumps(decoded.datum, default=bytes.hex))
    except CodecError as error:
        unreadable = str(error)
    return {
        "record": f"{record.topic}[{record.partition}]@{record.offset}",
        "recorded_at": utc(record.recorded_at_us),
        "record_digest": found[0].record_digest,
        "key": record.key.hex(),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "refused": [refusal_json(each) for each in found],
        "schema": schema,
        "content": content,
        "unreadable": unreadable,
        "bytes": record.value.hex(),
    }


def _text(value: bytes) -> str:
    """A header's value: as text where it is printable, else as hex."""
    return value.decode() if value.isascii() and value.decode("ascii").isprintable() else value.hex()
