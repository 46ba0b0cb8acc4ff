"""`gatemeter topics accept-gap`: a partition goes on behind records that its log no longer holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from gatemeter.cli import clickhouse_options, operator_options
from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    Password,
    PasswordFile,
    Url,
    User,
    settings,
)
from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    EventsTopic,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    console,
)
from gatemeter.processors.auditing.logs import Kafka, LogReader
from gatemeter.processors.gaps import Gap, GapError, accept, find_gap
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.metadata.records import check_text
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.sinks.clickhouse import ClickHouseSink, connect
from gatemeter.sinks.reports.audit import CannotCheck


@one_line_errors_of({1: (*operator_options.FAILURES, GapError, CannotCheck), 2: clickhouse_options.FAILURES})
def topics_accept_gap(
    partition: Annotated[int, typer.Option("--partition", help="Partition whose log was cut.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the operator log.")],
    metadata_offset: Annotated[
        int,
        typer.Option("--metadata-offset", show_default="as before the gap", help="View in force behind the gap."),
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Let the workers go on where retention cut records from a log that they still needed. What was lost stays lost.

    The workers must have stopped for it ('the log starts at offset …'). Afterwards run `gatemeter topics apply`: it
    puts a change of metadata in force that lay in the gap.

    Example: gatemeter topics accept-gap --partition 3 --reason "outage longer than the retention"
    """
    check_text("--reason", reason)
    connection = operator_options.connect(
        bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic
    )
    database_settings = settings(url, user, password, password_file, database)
    sink = ClickHouseSink(database_settings)
    client = connect(database_settings)
    try:
        with LogReader(Kafka(bootstrap, connection.client)) as log:
            checkpoint = sink.latest_checkpoint(events_topic, partition)
            gap = find_gap(log, events_topic, partition, checkpoint)
        published = read_metadata(bootstrap, connection.trusted, topic=metadata_topic, client=connection.client).log
        view = metadata_offset or (checkpoint["metadata_offset"] if checkpoint else published.loaded_to)
        if not 1 <= view <= published.loaded_to:
            raise GapError(f"--metadata-offset must be 1 to {published.loaded_to}, got {view}")
        if not as_json:
            console.print(f"{_loss(gap)}; the fold begins again at {gap.begin}", markup=False)
        if not yes and not typer.confirm("Accept the gap?", err=True):
            raise typer.Exit(1)
        kid = connection.operator_key.kid
        accept(sink, client, gap, checkpoint, metadata_offset=view, kid=kid, reason=reason)
    finally:
        client.close()
        sink.close()
    if as_json:
        typer.echo(json.dumps(asdict(gap) | {"begin": gap.begin, "lost": gap.lost, "metadata_offset": view}))
        return
    console.print("accepted: start the workers, then run gatemeter topics apply", markup=False)


def _loss(gap: Gap) -> str:
    name = f"{gap.topic}[{gap.partition}]"
    if gap.lost:
        return f"{name}: {gap.lost} records at offsets {gap.written} to {gap.begin - 1} were never folded"
    return f"{name}: no record is lost, but what was remembered of the last ones is"
