"""`gatemeter reconciliations list|show|compare|accept|rates`: runs that are kept, and what becomes of them."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import correcting
from gatemeter.cli import operator_options as ops
from gatemeter.cli.clickhouse_options import console
from gatemeter.cli.correcting import DryRun, EventsTopic, Way, Why, Yes, carry_out, shown
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.reconciliation_tables import causes_table, changes_table, findings_table, run_json, runs_table
from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.reconciling.accepting import entries_of, keep_posting
from gatemeter.processors.reconciling.causes import BY_NAME
from gatemeter.processors.reconciling.invoiced_rates import rates_file
from gatemeter.processors.reconciling.kept import KeptFinding, changes, kept_findings, kept_run, kept_runs
from gatemeter.processors.reconciling.settings import ReconcileError
from gatemeter.schemas.partitions import EVENTS_TOPIC
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.money import text_of

RunId = Annotated[str, typer.Argument(help="A run of gatemeter reconciliations list.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
one_line_errors = one_line_errors_of({**correcting.FAILURES, 1: (*correcting.FAILURES[1], ReconcileError)})


@one_line_errors
def reconciliations_list(
    provider: Annotated[str, typer.Option("--provider", help="Runs of one provider.")] = "",
    period: Annotated[str, typer.Option("--period", help="Runs of one month, YYYY-MM.")] = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """List the runs that are kept, the newest first.

    Example: gatemeter reconciliations list --period 2026-10
    """
    with ch.reading(url, user, password, password_file, database) as client:
        runs = kept_runs(client, provider, period)
    if as_json:
        typer.echo(json.dumps([run_json(run) for run in runs]))
    elif runs:
        console.print(runs_table(runs))
    else:
        console.print("no run is kept: gatemeter reconcile --provider … --period …")


@one_line_errors
def reconciliations_show(
    run_id: RunId,
    cause: Annotated[str, typer.Option("--cause", help="Findings of one cause.")] = "",
    most: Annotated[int, typer.Option("--most", min=1, help="How many findings are shown; --json has all.")] = 50,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show what a run found: by cause, and finding by finding.

    Example: gatemeter reconciliations show R20261103T091500Z-5f0c1a2b3c4d5e6f --cause unmetered
    """
    if cause and cause not in BY_NAME:
        raise ReconcileError(f"--cause must be one of {', '.join(BY_NAME)}, got {cause!r}")
    with ch.reading(url, user, password, password_file, database) as client:
        run = kept_run(client, run_id)
        found = [each for each in kept_findings(client, run_id) if cause in ("", each.cause)]
    if as_json:
        typer.echo(json.dumps(run_json(run, found)))
        return
    console.print(causes_table(run))
    console.print(findings_table(found, run.currency, most))


@one_line_errors
def reconciliations_compare(
    before: RunId,
    after: RunId,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show what two runs found differently, by cause, scope and model.

    Example: gatemeter reconciliations compare R20261103T091500Z-5f0c1a2b3c4d5e6f R20261110T091500Z-0a1b2c3d4e5f6071
    """
    with ch.reading(url, user, password, password_file, database) as client:
        first, second = kept_run(client, before), kept_run(client, after)
        if (first.provider, first.currency) != (second.provider, second.currency):
            raise ReconcileError("two runs of one provider and currency must be given")
        found = changes(kept_findings(client, before), kept_findings(client, after))
    if as_json:
        plain = [
            {
                "cause": each.cause,
                "scope": each.scope,
                "model": each.model,
                "before": text_of(each.before),
                "after": text_of(each.after),
            }
            for each in found
        ]
        typer.echo(json.dumps(plain))
    elif found:
        console.print(changes_table(found, first.currency))
    else:
        console.print("the runs found the same")


@one_line_errors
def reconciliations_rates(
    run_id: RunId,
    card_id: Annotated[str, typer.Option("--card-id", help="Id of the card that is made of it.")],
    output: Annotated[Path, typer.Option("--output", help="The rates file to write.")],
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Write a rates file with the prices of the invoice where they differ from the rate card's. Review it.

    Then: gatemeter rates build FILE --out card.json; gatemeter reprice --rate-card card.json --from … --to … --reason …

    Example: gatemeter reconciliations rates R20261103T091500Z-5f0c1a2b3c4d5e6f --card-id oct-invoice --output
    rates.yaml
    """
    with ch.reading(url, user, password, password_file, database) as client:
        run = kept_run(client, run_id)
        text = rates_file(client, run, card_id)
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise ReconcileError(f"--output: {error}") from error
    console.print(f"{output}: prices of the invoice that differ; gatemeter rates build {output} --out card.json")


@one_line_errors
def reconciliations_accept(
    run_id: RunId,
    reason: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_key: ops.OperatorKeyFile = ops.DEFAULT_OPERATOR_KEY,
    operator_keys: ops.OperatorKeysFile = None,
    kafka_config: ops.KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
) -> None:
    """Post what a run found: shared out, or to the platform, as the cause says. Nothing that was posted is overwritten.

    An earlier accepted run of the same provider, period and class is taken back, entry by entry.

    Example: gatemeter reconciliations accept R20261103T091500Z-5f0c1a2b3c4d5e6f --reason "reviewed with finance"
    """
    where = ch.settings(url, user, password, password_file, database)
    client = connect(ch.patient(where))
    try:
        run = kept_run(client, run_id)
        if run.state == "accepted":
            raise ReconcileError(f"run {run_id} was accepted before")
        if run.state != "open":
            raise ReconcileError(f"run {run_id} is superseded by a later one: gatemeter reconciliations list")
        summary = Summary()

        def rows(correction_run: str) -> Iterator[CorrectionRow]:
            entries = entries_of(client, run, correction_run, reason)
            for row in entries.rows:
                summary.add_free(row)
                yield row
            if not dry_run:
                keep_posting(client, run, entries, getpass.getuser(), reason, datetime.now(UTC))

        connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic)
        carry_out(connection, where, rows, summary, Way(dry_run, yes, as_json))
        if not as_json:
            _say_what_is_left(kept_findings(client, run_id), run.currency)
    finally:
        client.close()


def _say_what_is_left(found: list[KeptFinding], currency: str) -> None:
    left: dict[str, int] = {}
    for each in found:
        if each.action in ("reprice", "wait", "dispute"):
            left[each.cause] = left.get(each.cause, 0) + each.amount
    for cause, amount in left.items():
        console.print(f"not posted: {cause} {shown(amount)} {currency}, then {BY_NAME[cause].action}", markup=False)
