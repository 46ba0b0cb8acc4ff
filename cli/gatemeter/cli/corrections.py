"""`gatemeter corrections list|commit`: runs of corrections, and the COMMIT of one that is staged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.correcting import AsJson, EventsTopic, commit_run, committed_json, one_line_errors, say
from gatemeter.cli.rate_options import DEFAULT_PUBLIC_KEYS, PublicKeys
from gatemeter.cli.screen import plain_table
from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.corrections.pending import PendingCommit, pending_commits
from gatemeter.processors.corrections.rows import CorrectionError
from gatemeter.processors.corrections.runs import Run, all_runs
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.processors.sealing.hours import utc
from gatemeter.schemas.partitions import EVENTS_TOPIC


@one_line_errors
def corrections_list(
    as_json: AsJson = False,
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap",
            envvar="GATEMETER_BOOTSTRAP",
            help="Kafka brokers: COMMITs that no worker has folded yet are shown too.",
        ),
    ] = "",
    operator_keys: PublicKeys = DEFAULT_PUBLIC_KEYS,
    kafka_config: ops.KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """List the runs of corrections: staged ones are without effect, committed ones show the hour they post in.

    A COMMIT that no worker has folded yet is known to Kafka alone: it is shown where --bootstrap is given.

    Example: gatemeter corrections list --bootstrap kafka:9092 --operator-keys operators.json
    """
    trusted = load_operator_keys(operator_keys) if bootstrap else {}
    with ch.reading(url, user, password, password_file, database) as client:
        pending: dict[str, PendingCommit] = {}
        if bootstrap:
            kafka = Kafka(bootstrap, ops.client_settings(kafka_config))
            pending = pending_commits(kafka, client, events_topic, trusted)
        runs = all_runs(client)
    rows = [
        {
            "run": run.run_id,
            "cause": run.cause,
            "rows": run.entries,
            "posted_hour": None if run.posted_hour_us is None else utc(run.posted_hour_us),
            "waits_at_offset": _waits_at(run, pending),
            "reason": run.reason,
        }
        for run in runs
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = plain_table("run", "cause", "rows", "posted in", "reason", right=("rows",))
    for row in rows:
        waits = f"committed at offset {row['waits_at_offset']}, not folded yet"
        state = row["posted_hour"] or ("staged" if row["waits_at_offset"] is None else waits)
        table.add_row(*(str(value) for value in (row["run"], row["cause"], row["rows"], state, row["reason"])))
    ops.console.print(table)


def _waits_at(run: Run, pending: Mapping[str, PendingCommit]) -> int | None:
    """Offset of the run's COMMIT while no worker has folded it."""
    waits = pending.get(run.run_id) if run.posted_hour_us is None else None
    return None if waits is None else waits.offset


@one_line_errors
def corrections_commit(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    digest: Annotated[str, typer.Option("--digest", help="Digest of its rows, as its staging said it.")],
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
    """Commit a staged run, or one whose commit may have been lost: the first COMMIT counts, another does no harm.

    Example: gatemeter corrections commit 20261124T123444Z-5f0c1a2b3c4d5e6f-17 --digest 9c0f…
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise CorrectionError(f"--digest must be 64 hex digits, got {digest!r}")
    where = ch.settings(url, user, password, password_file, database)
    connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic)
    committed = commit_run(connection, where, run, bytes.fromhex(digest))
    if as_json:
        typer.echo(json.dumps({"run": run, **committed_json(committed)}))
    else:
        say(committed)
