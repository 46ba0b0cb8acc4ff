"""Gateways and their keys: a random secret into the secrets file, the key id with its validity into the metadata.

A secret never leaves the file. The file is written first: a key that is valid but has no secret pauses partitions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gatemeter.processors.metadata.control import Applied, apply_metadata
from gatemeter.processors.metadata.entries import (
    CHARGING,
    CORROBORATING,
    MINUTE_US,
    TELEMETRY,
    AttestationKey,
    Gateway,
    GatewayKey,
    MetadataError,
)
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.reading import read_metadata
from gatemeter.processors.metadata.records import GATEWAY_KINDS, check_choice
from gatemeter.processors.metadata.views import View
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.schemas.signing import (
    TICK_GATEWAY,
    OperatorKey,
    SecretsError,
    load_secrets,
    new_secret,
    save_secrets,
)

CLOCK_TOLERANCE_US: Final = 5 * MINUTE_US
"""A new key is valid from a little before now: the broker's clock judges it."""

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

    def apply(self, drafts: list[Draft], reason: str = "") -> Applied:
        """Publishes what changed and puts it in force; see `apply_metadata`."""
        return apply_metadata(
            self.bootstrap,
            drafts,
            self.operator_key,
            operator_keys=self.operator_keys,
            events_topic=self.events_topic,
            metadata_topic=self.metadata_topic,
            reason=reason,
            client=self.client,
        )

    def view(self) -> View:
        """The view of all published metadata."""
        copy = read_metadata(self.bootstrap, self.trusted, topic=self.metadata_topic, client=self.client)
        return copy.log.view(copy.log.loaded_to)


@dataclass(frozen=True, slots=True)
class AddedGateway:
    """A gateway's key in force; `kid` is what its emitter is configured with, its secret is in the secrets file.

    `attestation_kid`: the key of its attestations that was registered with it, '' for none.
    """

    gateway_id: str
    kid: str
    applied: Applied
    attestation_kid: str = ""


def add_gateway(
    connection: Connection,
    secrets_path: Path,
    gateway_id: str,
    kind: str,
    *,
    role: str = CHARGING,
    attestation_path: Path | None = None,
    reason: str = "",
) -> AddedGateway:
    """Registers a gateway with a new key, and with the public half of the attestation key in `attestation_path`.

    That file is made where it is not there. `role`: charging, or corroborating: all of its events are evidence. One of
    kind telemetry is always corroborating. Raises `MetadataError` for a bad name or kind, or a gateway that is there.
    """
    if not _NAME.fullmatch(gateway_id):
        raise MetadataError(
            f"gateway name must be 1 to 48 of A-Z a-z 0-9 . _ -, not starting with _, got {gateway_id!r}"
        )
    check_choice("kind", kind, GATEWAY_KINDS)
    view = connection.view()
    if gateway_id in view.gateways:
        raise MetadataError(
            f"gateway {gateway_id!r} is registered; give it another key with: gatemeter gateways rotate {gateway_id}"
        )
    before = Gateway(gateway_id, {}, role=CORROBORATING if kind == TELEMETRY else role)
    return _register(connection, secrets_path, view, before, kind, attestation_path, reason)


def ensure_tick_gateway(connection: Connection, secrets_path: Path, reason: str = "") -> AddedGateway:
    """The reserved gateway with which workers move log time: makes its key once, then only puts it in force again."""
    view = connection.view()
    known = load_secrets(secrets_path) if secrets_path.exists() else {}
    now_us = time.time_ns() // 1_000
    for kid, key in view.keys.items():
        if key.gateway_id == TICK_GATEWAY and key.valid_at(now_us) and kid in known:
            return AddedGateway(TICK_GATEWAY, kid, connection.apply([], reason))
    before = view.gateways.get(TICK_GATEWAY, Gateway(TICK_GATEWAY, {}))
    return _register(connection, secrets_path, view, before, "policy_point", None, reason)


def _register(
    connection: Connection,
    secrets_path: Path,
    view: View,
    before: Gateway,
    kind: str,
    attestation_path: Path | None,
    reason: str,
) -> AddedGateway:
    """One more key for a gateway as it was `before`, and one more attestation key where there is a path."""
    attestation = None
    if attestation_path is not None:
        attestation = attestation_key(view, before.gateway_id, attestation_path)
    kid = new_secret_in(secrets_path, view, before.gateway_id)
    draft = with_keys(before, kind, kid, attestation, time.time_ns() // 1_000)
    applied = connection.apply([draft], reason)
    return AddedGateway(before.gateway_id, kid, applied, attestation.kid if attestation else "")


def new_secret_in(secrets_path: Path, view: View, gateway_id: str) -> str:
    """Draws a secret for another key of a gateway and writes it to the file; its key id."""
    known = load_secrets(secrets_path) if secrets_path.exists() else {}
    kid = _free_kid(gateway_id, set(view.keys) | set(known))
    secrets_path.parent.mkdir(parents=True, exist_ok=True)
    save_secrets(secrets_path, {**known, kid: new_secret()})
    return kid


def attestation_key(view: View, gateway_id: str, path: Path) -> OperatorKey:
    """The private attestation key in a file, which is made where it is not there.

    Raises `SecretsError` where its key id is another key of the metadata: a key id names one key for ever.
    """
    taken = {
        kid: (gateway.gateway_id, key.public_hex)
        for gateway in view.gateways.values()
        for kid, key in gateway.attestation_keys.items()
    }
    if not path.exists():
        key = OperatorKey.generate(_free_kid(f"{gateway_id}-attest", set(taken) | set(view.keys)))
        path.parent.mkdir(parents=True, exist_ok=True)
        key.save(path)
        return key
    key = OperatorKey.load(path)
    if key.kid in view.keys or taken.get(key.kid, (gateway_id, key.public_hex)) != (gateway_id, key.public_hex):
        raise SecretsError(f"{path}: key id {key.kid!r} names another key already; choose another file")
    return key


def _free_kid(stem: str, taken: set[str]) -> str:
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def with_keys(before: Gateway, kind: str, kid: str, attestation: OperatorKey | None, now_us: int) -> Draft:
    """The gateway's record with one more key, and one more attestation key."""
    start_us = now_us - CLOCK_TOLERANCE_US
    attestation_keys = dict(before.attestation_keys)
    if attestation is not None and attestation.kid not in attestation_keys:
        attestation_keys[attestation.kid] = AttestationKey(attestation.public_hex, start_us)
    keys = {**before.keys, kid: GatewayKey(before.gateway_id, kind, start_us)}
    return draft_of(replace(before, keys=keys, attestation_keys=attestation_keys), kind)


def draft_of(gateway: Gateway, kind: str) -> Draft:
    """The metadata record that says a gateway's keys."""
    keys = [
        {"kid": kid, "valid_from": key.valid_from_us, "valid_to": key.valid_to_us} for kid, key in gateway.keys.items()
    ]
    attestation_keys = [
        {"kid": kid, "public_key": key.public_hex, "valid_from": key.valid_from_us, "valid_to": key.valid_to_us}
        for kid, key in gateway.attestation_keys.items()
    ]
    datum = {
        "gateway_id": gateway.gateway_id,
        "gateway_kind": kind,
        "keys": keys,
        "attestation_keys": attestation_keys,
        "role": gateway.role,
    }
    return Draft("Gateway", datum)
