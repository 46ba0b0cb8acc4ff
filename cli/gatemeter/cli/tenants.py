"""`gatemeter tenants apply FILE`: tenants, charge plans, policy prices and parameters into force."""

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
from gatemeter.processors.metadata.registryfile import check_tenants_exist
from gatemeter.processors.metadata.tenantsfile import check_plans_exist, read_tenants_file
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC


@one_line_errors
def tenants_apply(
    file: Annotated[Path, typer.Argument(help="YAML file, see examples/tenants.yaml.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Publish what changed in a tenants file and put it in force in every partition.

    Applying the same file again publishes nothing and completes an apply that was cut short.

    Example: gatemeter tenants apply examples/tenants.yaml --operator-key operator.json
    """
    drafts = read_tenants_file(file)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    current = connection.view()
    check_plans_exist(file.name, drafts, current)
    check_tenants_exist(file.name, drafts, current)
    report(connection.apply(drafts, reason))
