"""`gatemeter reorganise`: say anew who bears what was used, as of another tenants file, as corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.correcting import (
    AsJson,
    DryRun,
    EventsTopic,
    From,
    To,
    Way,
    Why,
    Yes,
    carry_out,
    one_line_errors,
    usage_hours,
)
from gatemeter.processors.corrections.reorganise import Reorganisation
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.sinks.clickhouse import connect


@one_line_errors
def reorganise(
    first: From,
    before: To,
    reason: Why,
    tenants: Annotated[
        Path | None, typer.Option("--tenants", help="Tenants file that says who bears it now; else what is published.")
    ] = None,
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
    metadata_topic: ops.MetadataTopic = METADATA_TOPIC,
) -> None:
    """Move usage of some hours to the tenants and cost centres that a tenants file names; amounts stay.

    Usage of tenants, apps and identities that were registered later is attributed, and charged under their plan.

    Example: gatemeter reorganise --tenants new.yaml --from 2026-11-01 --to 2026-12-01 --reason "search moved" --dry-run
    """
    hours = usage_hours(first, before)
    where = ch.settings(url, user, password, password_file, database)
    connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    client = connect(where)
    try:
        drafts = None if tenants is None else read_tenants_file(tenants)
        work = Reorganisation(client, drafts, hours, connection.view())
        way = Way(dry_run, yes, as_json)
        carry_out(connection, where, lambda run_id: work.rows(run_id, reason), work.summary, way)
    finally:
        client.close()
