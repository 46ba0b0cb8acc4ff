"""Operators' keys: the private one of a person or pipeline (mode 0600), the public ones that workers trust."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from gatemeter.schemas.signing import OperatorKey, SecretsError


def load_operator_keys(path: Path) -> dict[str, str]:
    """Reads `{"kid": "64 hex digits", …}` (JSON), the public keys. Raises `SecretsError`."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SecretsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SecretsError(f"{path}: must be a JSON object of key id and 64 hex digits: {error}") from error
    if not isinstance(entries, dict):
        raise SecretsError(f"{path}: must be a JSON object of key id and 64 hex digits")
    for kid, text in entries.items():
        if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{64}", text):
            raise SecretsError(f"{path}: public key of operator {kid!r} must be 64 lower-case hex digits")
    return entries


def save_operator_keys(path: Path, entries: Mapping[str, str]) -> None:
    """Writes the file of `load_operator_keys`, replacing it as a whole."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", "utf-8")
    draft.replace(path)


def init_operator(key_path: Path, public_path: Path, kid: str, role: str = "operator") -> OperatorKey:
    """Makes a key and adds its public half to the workers' file. An existing key file is taken as it is.

    `role`: operator or sealer, for errors: their keys are made alike and kept in files of their own.
    Raises `SecretsError` where the files contradict each other: a key id names one key for ever.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", kid):
        raise SecretsError(f"{role} key id must be 1 to 64 of A-Z a-z 0-9 . _ -, got {kid!r}")
    public = load_operator_keys(public_path) if public_path.exists() else {}
    if key_path.exists():
        key = OperatorKey.load(key_path)
        if key.kid != kid:
            raise SecretsError(f"{key_path}: holds the key of {role} {key.kid!r}, not of {kid!r}")
    elif kid in public:
        raise SecretsError(f"{public_path}: knows {role} {kid!r} already; choose another key id")
    else:
        key = OperatorKey.generate(kid)
        key_path.parent.mkdir(parents=True, exist_ok=True)
        key.save(key_path)

    if public.get(kid, key.public_hex) != key.public_hex:
        raise SecretsError(f"{public_path}: has another public key for {role} {kid!r}")
    if kid not in public:
        public_path.parent.mkdir(parents=True, exist_ok=True)
        save_operator_keys(public_path, {**public, kid: key.public_hex})
    return key
