"""`gatemeter gateways add|rotate|revoke|keys|list` and `gatemeter operators init`: who may speak, with which keys."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

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
    Reason,
    SecretsFile,
    connect,
    console,
    moment,
    one_line_errors,
    report,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.metadata.entries import CHARGING, CORROBORATING, MetadataError
from gatemeter.processors.metadata.gateways import AddedGateway, add_gateway, ensure_tick_gateway
from gatemeter.processors.metadata.keyrotation import (
    public_attestation_keys,
    revoke_key,
    rotate_gateway,
    utc,
)
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.metadata.records import check_text
from gatemeter.processors.metadata.yamlfiles import duration_us
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
        str,
        typer.Option(
            "--kind", help="api_gateway, inference_proxy, agent_runtime, policy_point or telemetry (corroborating)."
        ),
    ] = "inference_proxy",
    attestation_key: Annotated[
        Path | None,
        typer.Option(
            "--attestation-key",
            show_default="NAME.attestation.json beside the secrets",
            help="The gateway's private attestation key; made where it is not there.",
        ),
    ] = None,
    no_attestation: Annotated[
        bool, typer.Option("--no-attestation", help="The gateway does not attest what it sends.")
    ] = False,
    corroborating: Annotated[
        bool,
        typer.Option("--corroborating", help="What it says is evidence (grade C) and never charged: agents, app logs."),
    ] = False,
    secrets: SecretsFile = DEFAULT_SECRETS,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Register a gateway: its secret goes into the secrets file, its key id and validity into the metadata.

    Its attestation key goes into a file for the gateway alone; auditors get the public half.

    Example: gatemeter gateways add litellm-eu --kind inference_proxy --secrets secrets.json
    """
    if corroborating and name == TICK_GATEWAY:
        raise MetadataError(f"--corroborating must not be given for {TICK_GATEWAY}, the workers' own gateway")
    if no_attestation and attestation_key is not None:
        raise MetadataError("--attestation-key must not be given beside --no-attestation")
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    if name == TICK_GATEWAY:
        added, path = ensure_tick_gateway(connection, secrets, reason), None
    else:
        path = None if no_attestation else attestation_key or secrets.parent / f"{name}.attestation.json"
        role = CORROBORATING if corroborating else CHARGING
        added = add_gateway(connection, secrets, name, kind, role=role, attestation_path=path, reason=reason)
    _report_added(added, secrets, path)


@one_line_errors
def gateways_rotate(
    name: Annotated[str, typer.Argument(help="Gateway id.")],
    overlap: Annotated[str, typer.Option("--overlap", help="How long its earlier keys stay valid: 0s to 30d.")] = "24h",
    attestation_key: Annotated[
        Path | None,
        typer.Option("--attestation-key", help="Change the attestation key over to this one too (made if missing)."),
    ] = None,
    secrets: SecretsFile = DEFAULT_SECRETS,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Give a gateway another key. Both are valid until the overlap is over: change emitters over in that time.

    Example: gatemeter gateways rotate litellm-eu --overlap 24h --secrets secrets.json --reason "yearly rotation"
    """
    overlap_us = duration_us(overlap)
    if overlap_us is None:
        raise MetadataError(f"--overlap must be a duration such as 90s, 15m, 3h or 7d, got {overlap!r}")
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    added = rotate_gateway(
        connection, secrets, name, overlap_us=overlap_us, attestation_path=attestation_key, reason=reason
    )
    _report_added(added, secrets, attestation_key)


def _report_added(added: AddedGateway, secrets: Path, attestation: Path | None) -> None:
    console.print(f"gateway {added.gateway_id}: key id {added.kid}, secret in {secrets}", markup=False)
    if added.attestation_kid:
        console.print(f"attestation key {added.attestation_kid} in {attestation}: for the gateway alone", markup=False)
    report(added.applied)


@one_line_errors
def gateways_revoke(
    kid: Annotated[str, typer.Argument(help="Key id, of batches or of attestations.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the operator log.")],
    at: Annotated[str, typer.Option("--at", show_default="now", help="From when on the key is not valid, UTC.")] = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """End a key from a time on. Records appended since then and folded before this command stay admitted.

    Example: gatemeter gateways revoke litellm-eu-1 --at 2026-11-24T12:00:00Z --reason "laptop stolen"
    """
    at_us = moment("--at", at) if at else time.time_ns() // 1_000
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    revoked = revoke_key(connection, kid, at_us, reason=check_text("--reason", reason))
    console.print(
        f"gateway {revoked.gateway_id}: key id {revoked.kid} ends at {utc(revoked.valid_to_us)}", markup=False
    )
    report(revoked.applied)


@one_line_errors
def gateways_keys(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """Print the public attestation keys of all gateways as JSON: what an auditor needs, and no secret.

    Example: gatemeter gateways keys > attestation-keys.json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic)
    typer.echo(json.dumps(public_attestation_keys(connection.view()), indent=1))


@one_line_errors
def gateways_list(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """List gateways, their roles and key ids with validity; secrets are never shown.

    Example: gatemeter gateways list --json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic)
    view = connection.view()
    rows = [
        {
            "gateway_id": key.gateway_id,
            "kind": key.gateway_kind,
            "role": view.gateways[key.gateway_id].role,
            "kid": kid,
            "valid_from": _utc(key.valid_from_us),
            "valid_to": None if key.valid_to_us is None else _utc(key.valid_to_us),
        }
        for kid, key in sorted(view.keys.items(), key=lambda item: (item[1].gateway_id, item[0]))
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = plain_table("gateway", "kind", "role", "key id", "valid from", "valid to")
    for row in rows:
        table.add_row(*(value or "open" for value in row.values()))
    console.print(table)


def _utc(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="seconds")
