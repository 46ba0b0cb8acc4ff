"""Who makes a call, as the host knows it: names and a fingerprint, never a credential."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

MIN_KEY_BYTES: Final = 16
MAX_KEY_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the host says of a caller. `identity_source` is how it knows: only `verified_credential` and `mtls` are
    charged on every plan; `header_claim` (the default) is what a caller merely said. None is unknown.

    `client_address`: the IP address that the caller is seen from, where the host knows it and the hook does not, or
    knows it better; only its network is published (`networks.py`).
    """

    tenant_id: str | None = None
    app_id: str | None = None
    workload_id: str | None = None
    credential_fingerprint: str | None = None
    end_user: str | None = None
    client_address: str | None = None
    identity_source: Literal["verified_credential", "mtls", "header_claim"] = "header_claim"


def fingerprint(key: bytes, credential: str) -> str:
    """The keyed BLAKE2b-128 of a credential, 32 hex digits: the same for the same credential, and no way back to it.

    `key`: 16 to 64 secret bytes that all gateways of an organisation share. Raises `ValueError`.
    """
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"key: must be {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, got {len(key)}")
    return hashlib.blake2b(credential.encode(), key=key, digest_size=16).hexdigest()
