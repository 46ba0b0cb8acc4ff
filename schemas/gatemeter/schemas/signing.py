"""Who said it: the MAC of gateway batches and the signatures of operator records, for both ends of the wire.

Gateways: keyed BLAKE2b-256 (RFC 7693) over the record's value, headers `gm-kid` and `gm-mac`. Operators: Ed25519
(RFC 8032) over the record's value, headers `gm-kid` and `gm-sig`. Secrets live in a file of mode 0600, never in Kafka.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KID_HEADER: Final = "gm-kid"
MAC_HEADER: Final = "gm-mac"
SIGNATURE_HEADER: Final = "gm-sig"
SECRET_LENGTH: Final = 32
TICK_GATEWAY: Final = "_tick"
"""Reserved gateway of the empty batches with which workers move log time."""

_KID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def mac(secret: bytes, value: bytes) -> bytes:
    """32 bytes: keyed BLAKE2b-256 of a record's value."""
    return hashlib.blake2b(value, key=secret, digest_size=32).digest()


def keyed_mac(secret: bytes) -> hashlib.blake2b:
    """The state of `mac` before the value: copied and updated for each of many values."""
    return hashlib.blake2b(key=secret, digest_size=32)


def mac_is_valid(secret: bytes, value: bytes, claimed: bytes) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(mac(secret, value), claimed)


def new_secret() -> bytes:
    """A random gateway secret of 32 bytes."""
    return secrets.token_bytes(SECRET_LENGTH)


class SecretsError(ValueError):
    """The secrets file cannot be used; the text names the file, the entry and what is accepted."""


def load_secrets(path: Path) -> dict[str, bytes]:
    """Reads `{"kid": "64 hex digits", …}` (JSON). Raises `SecretsError`."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SecretsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SecretsError(f"{path}: must be a JSON object of key id and 64 hex digits: {error}") from error
    if not isinstance(entries, dict):
        raise SecretsError(f"{path}: must be a JSON object of key id and 64 hex digits")
    return {kid: _secret(path, kid, text) for kid, text in entries.items()}


def _secret(path: Path, kid: str, text: object) -> bytes:
    if not _KID.fullmatch(kid):
        raise SecretsError(f"{path}: key id {kid!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise SecretsError(f"{path}: secret of key id {kid!r} must be 64 hex digits")
    return bytes.fromhex(text)


def save_secrets(path: Path, entries: Mapping[str, bytes]) -> None:
    """Writes the file of `load_secrets` with mode 0600, replacing it as a whole."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({kid: secret.hex() for kid, secret in sorted(entries.items())}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class OperatorKey:
    """An operator's Ed25519 key with its key id."""

    def __init__(self, kid: str, private: Ed25519PrivateKey) -> None:
        self.kid = kid
        self._private = private

    @classmethod
    def generate(cls, kid: str) -> OperatorKey:
        """A new random key."""
        return cls(kid, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> OperatorKey:
        """Reads `{"kid": …, "private": 64 hex digits}`. Raises `SecretsError`."""
        try:
            entry = json.loads(path.read_text("utf-8"))
            return cls(str(entry["kid"]), Ed25519PrivateKey.from_private_bytes(bytes.fromhex(entry["private"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SecretsError(f"{path}: must hold JSON with kid and private (64 hex digits): {error}") from error

    def save(self, path: Path) -> None:
        """Writes the file of `load` with mode 0600."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"kid": self.kid, "private": self._private.private_bytes_raw().hex()}, file)

    @property
    def public_hex(self) -> str:
        """The public key, 64 hex digits."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, value: bytes) -> bytes:
        """64 bytes of Ed25519 signature over a record's value."""
        return self._private.sign(value)

    def headers(self, value: bytes) -> list[tuple[str, bytes]]:
        """Kafka headers of an operator record with this value."""
        return [(KID_HEADER, self.kid.encode()), (SIGNATURE_HEADER, self.sign(value))]


def signature_is_valid(public_keys: Mapping[str, str], headers: Mapping[str, bytes | None], value: bytes) -> bool:
    """Whether a known operator (`public_keys`: key id → 64 hex digits) signed `value`; a header may have no value."""
    public = public_keys.get((headers.get(KID_HEADER) or b"").decode("utf-8", "replace"))
    if public is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(headers.get(SIGNATURE_HEADER) or b"", value)
    except InvalidSignature:
        return False
    return True
