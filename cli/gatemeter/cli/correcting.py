"""What the commands of corrections share: hours as options, staging, showing, asking, and the COMMIT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options, operator_options
from gatemeter.cli.one_line import errors, one_line_errors_of
from gatemeter.cli.operator_options import console, moment
from gatemeter.cli.screen import plain_table
from gatemeter.processors.corrections.commit import Committed, commit
from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow
from gatemeter.processors.corrections.runs import commits_known
from gatemeter.processors.corrections.staging import new_run_id, stage
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import UsageHours
from gatemeter.processors.metadata.entries import HOUR_US
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.publishing import DeliveryFailed
from gatemeter.processors.metadata.reading import MetadataUnreachable
from gatemeter.processors.sealing.hours import utc
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from gatemeter.sinks.port import SinkUnavailable
from gatemeter.sinks.reports.money import text_of

Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the correction and in the operator log.")]
From = Annotated[str, typer.Option("--from", help="First hour of usage, UTC: 2026-11-01 or 2026-11-01T13:00.")]
To = Annotated[str, typer.Option("--to", help="The hour of usage before which it ends, UTC.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before the commit.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
EventsTopic = Annotated[
    str, typer.Option("--events-topic", help="Oldest open generation of the events topic; it gets the COMMIT.")
]

FAILURES: Final = {1: (*operator_options.FAILURES, CorrectionError), 2: clickhouse_options.FAILURES}
one_line_errors = one_line_errors_of(FAILURES)


@dataclass(frozen=True, slots=True)
class Way:
    """How a run is carried out."""

    dry_run: bool
    yes: bool
    as_json: bool


def usage_hours(first: str, before: str) -> UsageHours:
    """The span of `--from` and `--to`. Raises `MetadataError`, `CorrectionError`."""
    hours = UsageHours(usage_hour("--from", first), usage_hour("--to", before))
    if hours.to_us <= hours.from_us:
        raise CorrectionError(f"--to must be after --from ({first}), got {before!r}")
    return hours


def usage_hour(option: str, text: str) -> int:
    """A whole hour. Raises `MetadataError`, `CorrectionError`."""
    at_us = moment(option, text)
    if at_us % HOUR_US:
        raise CorrectionError(f"{option} must be the start of an hour (UTC), got {text!r}")
    return at_us


def carry_out(
    connection: Connection,
    database: ClickHouseSettings,
    rows_of: Callable[[str], Iterator[CorrectionRow]],
    summary: Summary,
    way: Way,
) -> None:
    """Stages the rows of a new run, shows what they change, asks, and commits.

    `rows_of(run_id)` fills `summary`. What was staged and not committed is without effect.
    """
    client = connect(database)
    try:
        run_id = new_run_id(commits_known(client))
    finally:
        client.close()
    if way.dry_run:
        for _ in rows_of(run_id):
            pass
        show(summary, way, {"run": None, "committed": False})
        return
    sink = ClickHouseSink(database)
    try:
        run = stage(sink, run_id, rows_of(run_id))
    finally:
        sink.close()
    if run.entries == 0:
        show(summary, way, {"run": None, "committed": False})
        return
    if not way.as_json:
        show(summary, way, {})
    if not way.yes and not typer.confirm(f"Commit run {run_id} of {run.entries} rows?", err=True):
        errors.print(
            f"not committed: the rows are staged, without effect; {going_on(run.run_id, run.digest)} commits them",
            markup=False,
        )
        raise typer.Exit(1)
    committed = commit_run(connection, database, run.run_id, run.digest)
    if way.as_json:
        show(summary, way, {"run": run_id, **committed_json(committed)})
    else:
        say(committed)


def going_on(run_id: str, digest: bytes) -> str:
    """The command that commits a staged run."""
    return f"gatemeter corrections commit {run_id} --digest {digest.hex()}"


def commit_run(connection: Connection, database: ClickHouseSettings, run_id: str, digest: bytes) -> Committed:
    """Commits a staged run; where that fails, says first how to go on."""
    client = connect(database)
    try:
        return commit(connection, client, run_id, digest)
    except (DeliveryFailed, MetadataUnreachable, SinkUnavailable):
        errors.print(f"the run is staged; to go on: {going_on(run_id, digest)}", markup=False)
        raise
    finally:
        client.close()


def committed_json(committed: Committed) -> dict[str, Any]:
    """Where the COMMIT is, as plain data."""
    place = {"topic": committed.topic, "partition": committed.partition, "offset": committed.offset}
    return {"committed": True, "was_committed_before": committed.before is not None or committed.waits, **place}


def say(committed: Committed) -> None:
    """Where the COMMIT is."""
    place = f"{committed.topic}[{committed.partition}] at offset {committed.offset}"
    if committed.before is not None:
        hour = utc(committed.before.posted_hour_us)
        console.print(f"run {committed.run_id} was committed before: {place}, posted in {hour}; nothing was done")
        return
    if committed.waits:
        console.print(f"run {committed.run_id} was committed before: {place}; no worker has folded it yet")
        return
    console.print(f"run {committed.run_id} is committed: {place}; it posts when the seal of that hour is made")


def show(summary: Summary, way: Way, more: dict[str, Any]) -> None:
    """The summary as a table or as one JSON object with `more`."""
    if way.as_json:
        typer.echo(json.dumps({"dry_run": way.dry_run, **summary_json(summary), **more}))
        return
    console.print(summary_table(summary))
    for why, count in sorted(summary.left.items()):
        console.print(f"left as they are, {why}: {count:,}", markup=False)
    if summary.examined:
        console.print(f"{summary.examined:,} rows examined, {summary.staged:,} differ")
    if way.dry_run:
        console.print("dry run: nothing was written")
    elif not summary.staged:
        console.print("nothing differs: nothing was staged")


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain data; amounts as text with all digits, before the retry rule."""
    lines = [
        {
            "tenant_id": line.tenant_id,
            "model": line.model,
            "currency": line.currency,
            "rows": line.rows,
            "charge_before": text_of(line.charge_before),
            "charge_after": text_of(line.charge_after),
            "charge_delta": text_of(line.delta),
            "provider_cost_before": text_of(line.provider_before),
            "provider_cost_after": text_of(line.provider_after),
            "unpriced_before": line.unpriced_before,
            "unpriced_after": line.unpriced_after,
        }
        for line in summary.lines
    ]
    deltas = {currency: text_of(pico) for currency, pico in summary.deltas.items()}
    counts = {"examined": summary.examined, "rows": summary.staged, "left": dict(sorted(summary.left.items()))}
    return {**counts, "lines": lines, "charge_delta": deltas}


def summary_table(summary: Summary) -> Table:
    """By tenant and model: rows, charge before and after, unpriced before and after; exact amounts."""
    numbers = ("rows", "before", "after", "delta")
    title = "Charge, before the retry rule"
    right = (*numbers, "unpriced")
    table = plain_table("tenant", "model", *numbers, "cur.", "unpriced", title=title, right=right, narrow=True)
    for line in summary.lines:
        amounts = (shown(line.charge_before), shown(line.charge_after), shown(line.delta))
        unpriced = f"{line.unpriced_before:,} → {line.unpriced_after:,}"
        table.add_row(
            escape(line.tenant_id), escape(line.model), f"{line.rows:,}", *amounts, line.currency or "none", unpriced
        )
    table.add_section()
    for currency, pico in summary.deltas.items():
        table.add_row("all", "", "", "", "", shown(pico), currency or "none", "")
    return table


def shown(pico: int) -> str:
    """An exact amount without the zeros at its end: 12.5, 0, −0.000000000001."""
    text = text_of(pico)
    return text.rstrip("0").rstrip(".") if "." in text else text
