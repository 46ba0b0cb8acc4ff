"""`gatemeter gateways add|list` and `gatemeter operators init`: who may speak, and with which keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    DEFAULT_SECRETS,
    Bootstrap,
    EventsTopic,
    KafkaConfig,
    MetadataTopic,
    OperatorKeyFile,
    OperatorKeysFile,
    SecretsFile,
    connect,
    console,
    one_line_errors,
    report,
)
from gatemeter.processors.metadata.gateways import add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.schemas.signing import TICK_GATEWAY

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@one_line_errors
def operators_init(
    name: Annotated[str, typer.Argument(help="Key id of the operator, for example your name or a pipeline's.")],
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    public_keys: Annotated[
        Path, typer.Option("--operator-keys", help="Public keys file that workers read (GATEMETER_OPERATOR_KEYS_FILE).")
    ] = Path("operators.json"),
) -> None:
    """Make an operator's signing key and add its public half to the file that workers trust.

    Example: gatemeter operators init ops-1 --operator-key operator.json --operator-keys operators.json
    """
    key = init_operator(operator_key, public_keys, name)
    console.print(
        f"operator {key.kid}: private key in {operator_key} (keep it), public key in {public_keys}", markup=False
    )


@one_line_errors
def gateways_add(
    name: Annotated[str, typer.Argument(help="Gateway id, shared by all replicas; _tick is the workers' own.")],
    kind: Annotated[
        str, typer.Option("--kind", help="api_gateway, inference_proxy, agent_runtime or policy_point.")
    ] = "inference_proxy",
    rotate: Annotated[bool, typer.Option("--rotate", help="Another key; the earlier ones end after 24 h.")] = False,
    secrets: SecretsFile = DEFAULT_SECRETS,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """Register a gateway: its secret goes into the secrets file, its key id and validity into the metadata.

    Example: gatemeter gateways add litellm-eu --kind inference_proxy --secrets secrets.json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    if name == TICK_GATEWAY:
        added = ensure_tick_gateway(connection, secrets)
    else:
        added = add_gateway(connection, secrets, name, kind, rotate=rotate)
    console.print(f"gateway {added.gateway_id}: key id {added.kid}, secret in {secrets}", markup=False)
    report(added.applied)


@one_line_errors
def gateways_list(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """List gateways and their key ids with validity; secrets are never shown.

    Example: gatemeter gateways list --json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic)
    rows = [
        {
            "gateway_id": key.gateway_id,
            "kind": key.gateway_kind,
            "kid": kid,
            "valid_from": _utc(key.valid_from_us),
            "valid_to": None if key.valid_to_us is None else _utc(key.valid_to_us),
        }
        for kid, key in sorted(connection.view().keys.items(), key=lambda item: (item[1].gateway_id, item[0]))
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("gateway", "kind", "key id", "valid from", "valid to")
    for row in rows:
        table.add_row(*(value or "open" for value in row.values()))
    console.print(table)


def _utc(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="seconds")
