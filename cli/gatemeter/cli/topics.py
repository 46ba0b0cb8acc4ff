"""`gatemeter topics apply`: the topics, and the first CONTROL of every partition."""

from __future__ import annotations

from typing import Annotated

import typer

from gatemeter.cli.one_line import one_line_errors_of
from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    FAILURES,
    Bootstrap,
    EventsTopic,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    Reason,
    connect,
    console,
    report,
)
from gatemeter.processors.topics import PARTITIONS, RETENTION_DAYS, TopicsError, apply_topics
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC


@one_line_errors_of({1: (*FAILURES, TopicsError)})
def topics_apply(
    partitions: Annotated[
        int, typer.Option("--partitions", help="Partitions of the events topic; never changes.")
    ] = PARTITIONS,
    replication: Annotated[int, typer.Option("--replication", help="Copies of every partition.")] = 1,
    retention_days: Annotated[
        int, typer.Option("--retention-days", help="How long events stay in Kafka.")
    ] = RETENTION_DAYS,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="For the broker of 'gatemeter local': record times are not the log's.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Create the topics that are missing and put the published metadata in force in every partition.

    Example: gatemeter topics apply --bootstrap kafka:9092 --replication 3 --operator-key operator.json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    done = apply_topics(
        connection,
        partitions=partitions,
        replication=replication,
        retention_days=retention_days,
        embedded=embedded,
        reason=reason,
    )
    console.print(f"created: {', '.join(done.created) or 'nothing, all topics were there'}", markup=False)
    report(done.applied)
