"""The life of a gateway's key: two valid ones while emitters change over, and its end from a time on.

A key's validity is judged at the record's timestamp, under the view in force there: what was admitted before a
revocation reached the partition stays admitted.
"""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from gatemeter.processors.metadata.control import Applied
from gatemeter.processors.metadata.entries import (
    DAY_US,
    HOUR_US,
    AttestationKey,
    Gateway,
    GatewayKey,
    MetadataError,
    check_range,
)
from gatemeter.processors.metadata.gateways import (
    AddedGateway,
    Connection,
    attestation_key,
    draft_of,
    new_secret_in,
    with_keys,
)
from gatemeter.processors.metadata.views import View

OVERLAP_US: Final = 24 * HOUR_US
MAX_OVERLAP_US: Final = 30 * DAY_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
K = TypeVar("K", GatewayKey, AttestationKey)


def rotate_gateway(
    connection: Connection,
    secrets_path: Path,
    gateway_id: str,
    *,
    overlap_us: int = OVERLAP_US,
    attestation_path: Path | None = None,
    reason: str = "",
) -> AddedGateway:
    """Gives a gateway another key; its earlier ones stay valid for `overlap_us` more, unless they end sooner.

    With `attestation_path` its attestation key changes over in the same way. Raises `MetadataError`.
    """
    check_range("overlap", overlap_us // 1_000_000, 0, MAX_OVERLAP_US // 1_000_000, "0s to 30d, in seconds")
    view = connection.view()
    before = view.gateways.get(gateway_id)
    if before is None:
        known = ", ".join(sorted(view.gateways)) or "none"
        raise MetadataError(f"gateway {gateway_id!r} is not registered; known are {known}")
    now_us = time.time_ns() // 1_000
    attestation = None if attestation_path is None else attestation_key(view, gateway_id, attestation_path)
    kid = new_secret_in(secrets_path, view, gateway_id)
    end_us = now_us + overlap_us
    ending = dataclasses.replace(
        before,
        keys={old: _ending(key, end_us) for old, key in before.keys.items()},
        attestation_keys={
            old: key if attestation is None or old == attestation.kid else _ending(key, end_us)
            for old, key in before.attestation_keys.items()
        },
    )
    draft = with_keys(ending, kind_of(before), kid, attestation, now_us)
    applied = connection.apply([draft], reason)
    return AddedGateway(gateway_id, kid, applied, attestation.kid if attestation else "")


def _ending(key: K, end_us: int) -> K:
    end_us = max(end_us, key.valid_from_us + 1)
    return dataclasses.replace(key, valid_to_us=min(end_us if key.valid_to_us is None else key.valid_to_us, end_us))


def kind_of(gateway: Gateway) -> str:
    """What sort of control point a registered gateway is."""
    return next(key.gateway_kind for key in gateway.keys.values())


@dataclasses.dataclass(frozen=True, slots=True)
class Revoked:
    """A key that ends at `valid_to_us`."""

    gateway_id: str
    kid: str
    valid_to_us: int
    applied: Applied


def revoke_key(connection: Connection, kid: str, at_us: int, *, reason: str) -> Revoked:
    """Ends a key, of batches or of attestations, at a time. Raises `MetadataError` where it cannot end then."""
    view = connection.view()
    gateway = _owner_of(view, kid)
    key: GatewayKey | AttestationKey = gateway.keys.get(kid) or gateway.attestation_keys[kid]
    if at_us <= key.valid_from_us:
        raise MetadataError(f"time must be after {utc(key.valid_from_us)}, when key {kid!r} begins, got {utc(at_us)}")
    if key.valid_to_us is not None and key.valid_to_us < at_us:
        raise MetadataError(f"key {kid!r} ends at {utc(key.valid_to_us)} already, before {utc(at_us)}")
    ended = dataclasses.replace(
        gateway,
        keys={
            name: dataclasses.replace(k, valid_to_us=at_us) if name == kid else k for name, k in gateway.keys.items()
        },
        attestation_keys={
            name: dataclasses.replace(k, valid_to_us=at_us) if name == kid else k
            for name, k in gateway.attestation_keys.items()
        },
    )
    applied = connection.apply([draft_of(ended, kind_of(gateway))], reason)
    return Revoked(gateway.gateway_id, kid, at_us, applied)


def _owner_of(view: View, kid: str) -> Gateway:
    for gateway in view.gateways.values():
        if kid in gateway.keys or kid in gateway.attestation_keys:
            return gateway
    known = ", ".join(sorted(view.keys)) or "none"
    raise MetadataError(f"key id {kid!r} is not registered; known are {known}")


def public_attestation_keys(view: View) -> list[dict[str, Any]]:
    """What an auditor needs to check attestations: public keys with their validity, in order of gateway and key id."""
    return [
        {
            "gateway_id": gateway_id,
            "kid": kid,
            "public_key": key.public_hex,
            "valid_from": utc(key.valid_from_us),
            "valid_to": None if key.valid_to_us is None else utc(key.valid_to_us),
        }
        for gateway_id, gateway in sorted(view.gateways.items())
        for kid, key in sorted(gateway.attestation_keys.items())
    ]


def utc(at_us: int) -> str:
    """An instant of microseconds UTC as ISO 8601."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
