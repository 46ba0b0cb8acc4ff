"""Evidence packs as files, checked with public keys alone: no Kafka, no ClickHouse, nothing but the folder.

`manifest.json` names every other file with its SHA-256; `manifest.signature.json` is an operator's signature over the
manifest's bytes. It proves that this operator made the pack as it is. It does not prove that the tables were right: the
seal that the manifest names bounds what can be held against signed seals (`gatemeter audit`, `gatemeter proof`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatemeter.schemas import signing
from gatemeter.schemas.signing import OperatorKey

FORMAT: Final = "gatemeter-evidence-1"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.signature.json"


class PackError(ValueError):
    """A pack that does not hold or cannot be read; one line that says where."""


@dataclass(frozen=True, slots=True)
class CheckedPack:
    """A pack whose files are those of its manifest. `kid`: who signed it, '' where nobody did."""

    manifest: Mapping[str, Any]
    kid: str

    @property
    def files(self) -> int:
        """How many the manifest names."""
        return len(self.manifest["files"])


def digest(content: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def signature_of(key: OperatorKey, manifest: bytes) -> bytes:
    """The file `manifest.signature.json`."""
    return json.dumps({"kid": key.kid, "signature": key.sign(manifest).hex()}).encode() + b"\n"


def check_pack(folder: Path, operators: Mapping[str, str]) -> CheckedPack:
    """Checks a pack. `operators`: key id → public Ed25519 key, 64 hex digits. Raises `PackError`.

    1. the manifest is signed by one of these operators; a pack without a signature is told by the empty `kid`
    2. every file that it names is there with its digest, and there is no other
    """
    manifest = _read(folder, MANIFEST)
    kid = _signer(folder, manifest, operators)
    try:
        document = json.loads(manifest)
        named = {str(name): str(entry["sha256"]) for name, entry in document["files"].items()}
        form = document["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackError(f"{MANIFEST}: must be a manifest of a pack: {error!r}") from error
    if form != FORMAT:
        raise PackError(f"{MANIFEST}: format must be {FORMAT}, got {form!r}")
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted(here - named.keys() - {MANIFEST, SIGNATURE}):
        raise PackError(f"{name}: the manifest does not name it")
    for name, expected in sorted(named.items()):
        if name not in here:
            raise PackError(f"{name}: the manifest names it, it is not there")
        if digest(_read(folder, name)) != expected:
            raise PackError(f"{name}: was changed, its SHA-256 is not that of the manifest")
    return CheckedPack(document, kid)


def _signer(folder: Path, manifest: bytes, operators: Mapping[str, str]) -> str:
    if not (folder / SIGNATURE).exists():
        return ""
    try:
        entry = json.loads(_read(folder, SIGNATURE))
        kid, signature = str(entry["kid"]), bytes.fromhex(entry["signature"])
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(f"{SIGNATURE}: must hold JSON with kid and signature (128 hex digits): {error!r}") from error
    headers = {signing.KID_HEADER: kid.encode(), signing.SIGNATURE_HEADER: signature}
    if not signing.signature_is_valid(operators, headers, manifest):
        raise PackError(f"{MANIFEST}: not signed by a known operator (key id {kid!r}), or was changed since")
    return kid


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise PackError(f"{name}: must be a readable file: {error}") from error
