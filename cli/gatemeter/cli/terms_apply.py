"""`gatemeter commitments apply`, `fx apply`, `budgets apply`: terms of statements into force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    EventsTopic,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    Reason,
    connect,
    one_line_errors,
    report,
)
from gatemeter.processors.metadata.termsfile import read_budgets_file, read_commitments_file, read_fx_file
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC


@one_line_errors
def commitments_apply(
    file: Annotated[Path, typer.Argument(help="YAML file, see examples/commitments.yaml.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Publish committed use and provisioned throughput; statements show what of it was not used.

    Example: gatemeter commitments apply commitments.yaml --operator-key operator.json
    """
    drafts = read_commitments_file(file)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    report(connection.apply(drafts, reason))


@one_line_errors
def fx_apply(
    file: Annotated[Path, typer.Argument(help="YAML file, see examples/fx.yaml.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Publish exchange rates for `gatemeter report --currency`; no stored amount changes.

    Example: gatemeter fx apply fx.yaml --operator-key operator.json
    """
    drafts = read_fx_file(file)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    report(connection.apply(drafts, reason))


@one_line_errors
def budgets_apply(
    file: Annotated[Path, typer.Argument(help="YAML file, see examples/budgets.yaml.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Publish monthly budgets of tenants and cost centres; crossing a threshold is told, no traffic is blocked.

    Example: gatemeter budgets apply budgets.yaml --operator-key operator.json
    """
    drafts = read_budgets_file(file)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    report(connection.apply(drafts, reason))
