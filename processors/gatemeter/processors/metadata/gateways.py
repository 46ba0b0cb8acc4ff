"""Gateways and their keys: a random secret into the secrets file, the key id with its validity into the metadata.

A secret never leaves the file. The file is written first: a key that is valid but has no secret pauses partitions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatemeter.processors.metadata.control import Applied, apply_metadata
from gatemeter.processors.metadata.entries import HOUR_US, MINUTE_US, GatewayKey, MetadataError
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.metadata.records import GATEWAY_KINDS, check_choice
from gatemeter.processors.metadata.views import View
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.schemas.signing import TICK_GATEWAY, OperatorKey, load_secrets, new_secret, save_secrets

CLOCK_TOLERANCE_US: Final = 5 * MINUTE_US
"""A new key is valid from a little before now: the broker's clock judges it."""

ROTATION_OVERLAP_US: Final = 24 * HOUR_US
"""How long the earlier keys stay valid after a rotation, unless they end sooner."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and as whom an operator works. `operator_keys`: public keys of other operators whose records count."""

    bootstrap: str
    operator_key: OperatorKey
    operator_keys: Mapping[str, str] | None = None
    events_topic: str = EVENTS_TOPIC
    metadata_topic: str = METADATA_TOPIC
    client: Mapping[str, Any] | None = None

    @property
    def trusted(self) -> dict[str, str]:
        """All operators whose records count, this one included."""
        return {**(self.operator_keys or {}), self.operator_key.kid: self.operator_key.public_hex}

    def apply(self, drafts: list[Draft]) -> Applied:
        """Publishes what changed and puts it in force; see `apply_metadata`."""
        return apply_metadata(
            self.bootstrap,
            drafts,
            self.operator_key,
            operator_keys=self.operator_keys,
            events_topic=self.events_topic,
            metadata_topic=self.metadata_topic,
            client=self.client,
        )

    def view(self) -> View:
        """The view of all published metadata."""
        copy = read_metadata(self.bootstrap, self.trusted, topic=self.metadata_topic, client=self.client)
        return copy.log.view(copy.log.loaded_to)


@dataclass(frozen=True, slots=True)
class AddedGateway:
    """A gateway's key in force; `kid` is what its emitter is configured with, its secret is in the secrets file."""

    gateway_id: str
    kid: str
    applied: Applied


def add_gateway(
    connection: Connection, secrets_path: Path, gateway_id: str, kind: str, *, rotate: bool = False
) -> AddedGateway:
    """Registers a gateway with a new key, or with `rotate` gives it another one and lets the earlier ones run out.

    Raises `MetadataError` for a bad name or kind, or where the gateway is there and `rotate` is not set.
    """
    if not _NAME.fullmatch(gateway_id):
        raise MetadataError(
            f"gateway name must be 1 to 48 of A-Z a-z 0-9 . _ -, not starting with _, got {gateway_id!r}"
        )
    check_choice("kind", kind, GATEWAY_KINDS)
    view = connection.view()
    if gateway_id in view.gateways and not rotate:
        raise MetadataError(f"gateway {gateway_id!r} is registered; give it another key with --rotate")
    if gateway_id not in view.gateways and rotate:
        raise MetadataError(f"gateway {gateway_id!r} is not registered; add it without --rotate")
    return _with_new_key(connection, secrets_path, view, gateway_id, kind)


def ensure_tick_gateway(connection: Connection, secrets_path: Path) -> AddedGateway:
    """The reserved gateway with which workers move log time: makes its key once, then only puts it in force again."""
    view = connection.view()
    known = load_secrets(secrets_path) if secrets_path.exists() else {}
    now_us = time.time_ns() // 1_000
    for kid, key in view.keys.items():
        if key.gateway_id == TICK_GATEWAY and key.valid_at(now_us) and kid in known:
            return AddedGateway(TICK_GATEWAY, kid, connection.apply([]))
    return _with_new_key(connection, secrets_path, view, TICK_GATEWAY, "policy_point")


def _with_new_key(connection: Connection, secrets_path: Path, view: View, gateway_id: str, kind: str) -> AddedGateway:
    known = load_secrets(secrets_path) if secrets_path.exists() else {}
    now_us = time.time_ns() // 1_000
    kid = _free_kid(gateway_id, set(view.keys) | set(known))
    secrets_path.parent.mkdir(parents=True, exist_ok=True)
    save_secrets(secrets_path, {**known, kid: new_secret()})
    applied = connection.apply([with_key(view, gateway_id, kind, kid, now_us)])
    return AddedGateway(gateway_id, kid, applied)


def _free_kid(gateway_id: str, taken: set[str]) -> str:
    number = 1
    while f"{gateway_id}-{number}" in taken:
        number += 1
    return f"{gateway_id}-{number}"


def with_key(view: View, gateway_id: str, kind: str, kid: str, now_us: int) -> Draft:
    """The gateway's record with one more key; its earlier keys end a day from now, unless they end sooner."""
    gateway = view.gateways.get(gateway_id)
    earlier = {} if gateway is None else dict(gateway.keys)
    end = now_us + ROTATION_OVERLAP_US
    ending = {
        old: GatewayKey(key.gateway_id, key.gateway_kind, key.valid_from_us, min(key.valid_to_us or end, end))
        for old, key in earlier.items()
    }
    keys = {**ending, kid: GatewayKey(gateway_id, kind, now_us - CLOCK_TOLERANCE_US)}
    return Draft(
        "Gateway",
        {
            "gateway_id": gateway_id,
            "gateway_kind": kind,
            "keys": [
                {"kid": kid, "valid_from": key.valid_from_us, "valid_to": key.valid_to_us} for kid, key in keys.items()
            ],
        },
    )
