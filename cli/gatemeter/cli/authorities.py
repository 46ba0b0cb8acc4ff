"""`gatemeter authorities set|end|list`: who makes the fact where two gateways see one call."""

from __future__ import annotations

import json
import time
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
    console,
    moment,
    one_line_errors,
    report,
)
from gatemeter.cli.screen import plain_table
from gatemeter.processors.metadata.authorities import all_authorities, end_authority, set_authority
from gatemeter.processors.metadata.entries import ANY_ROUTE, Authority
from gatemeter.processors.metadata.keyrotation import utc
from gatemeter.processors.metadata.records import check_text
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC

Seer = Annotated[str, typer.Argument(help="The gateway whose requests and responses become evidence.")]
Route = Annotated[str, typer.Option("--route", help="Its route, as its events state it; * is any other route.")]


@one_line_errors
def authorities_set(
    gateway: Seer,
    authority: Annotated[str, typer.Argument(help="The gateway that makes the facts; GATEWAY again: it does itself.")],
    route: Route = ANY_ROUTE,
    begins: Annotated[
        str, typer.Option("--from", show_default="now", help="First start of requests for which it holds, UTC.")
    ] = "",
    ends: Annotated[str, typer.Option("--to", show_default="open", help="The start before which it ends, UTC.")] = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """Let another gateway make the facts of what this one sees on a route: one call, one charge.

    What was folded before this command stays as it is.

    Example: gatemeter authorities set envoy-eu litellm-eu --route /v1/chat --from 2026-12-01
    """
    from_us = moment("--from", begins) if begins else time.time_ns() // 1_000
    to_us = moment("--to", ends) if ends else None
    check_text("--route", route)
    entry = Authority(gateway, route, authority, effective_from_us=from_us, effective_to_us=to_us)
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    applied = set_authority(connection, entry, reason=reason)
    console.print(f"{_said(entry)} from {utc(from_us)}{f' to {ends}' if ends else ''}", markup=False)
    report(applied)


@one_line_errors
def authorities_end(
    gateway: Seer,
    route: Route = ANY_ROUTE,
    at: Annotated[
        str, typer.Option("--at", show_default="now", help="First start of requests for which it no longer holds, UTC.")
    ] = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    events_topic: EventsTopic = EVENTS_TOPIC,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    reason: Reason = "",
) -> None:
    """End the authority in force at a time; from then on the gateway makes its facts again.

    Example: gatemeter authorities end envoy-eu --route /v1/chat --at 2027-01-01
    """
    at_us = moment("--at", at) if at else time.time_ns() // 1_000
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, events_topic, metadata_topic)
    ended = end_authority(connection, gateway, route, at_us, reason=reason)
    console.print(f"{_said(ended.entry)} until {utc(at_us)}", markup=False)
    report(ended.applied)


def _said(entry: Authority) -> str:
    return f"gateway {entry.gateway_id}, route {entry.route}: {entry.authority_id} makes the facts"


@one_line_errors
def authorities_list(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    operator_keys: OperatorKeysFile = None,
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
) -> None:
    """List all authorities with their dates; of those in force at a time the route's own counts, then the newest.

    Example: gatemeter authorities list --json
    """
    connection = connect(bootstrap, operator_key, operator_keys, kafka_config, metadata_topic=metadata_topic)
    rows = [
        {
            "gateway_id": entry.gateway_id,
            "route": entry.route,
            "authority": entry.authority_id,
            "effective_from": utc(entry.effective_from_us),
            "effective_to": None if entry.effective_to_us is None else utc(entry.effective_to_us),
        }
        for entry in all_authorities(connection.view())
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = plain_table("gateway", "route", "makes the facts", "from", "to")
    for row in rows:
        table.add_row(*(value or "open" for value in row.values()))
    console.print(table)
