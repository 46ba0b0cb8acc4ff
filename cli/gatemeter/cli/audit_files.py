"""The files that an auditor gives: public keys, secrets for a re-fold, settings of Kafka."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gatemeter.cli.clickhouse_options import OptionError
from gatemeter.cli.operator_options import client_settings
from gatemeter.processors.auditing.logs import Kafka
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.schemas.signing import SecretsError, load_secrets
from gatemeter.sinks.reports.attestations import AttestationKey, keys_from


def kafka_settings(bootstrap: str, config: Path | None) -> Kafka | None:
    """Where Kafka is; None where no brokers are given. Raises `OptionError`."""
    if not bootstrap:
        return None
    try:
        return Kafka(bootstrap, client_settings(config))
    except MetadataError as error:
        raise OptionError(f"--kafka-config: {error}") from error


def public_keys(option: str, path: Path | None) -> dict[str, str] | None:
    """Public keys by key id (JSON), as `gatemeter operators init` writes them. Raises `OptionError`."""
    if path is None:
        return None
    try:
        return load_operator_keys(path)
    except SecretsError as error:
        raise OptionError(f"{option}: {error}") from error


def secrets_of(path: Path | None) -> dict[str, bytes] | None:
    """Secrets of gateways by key id. Raises `OptionError`."""
    if path is None:
        return None
    try:
        return load_secrets(path)
    except SecretsError as error:
        raise OptionError(f"--secrets: {error}") from error


def attestation_keys(path: Path | None) -> Mapping[str, AttestationKey] | None:
    """Gateways' public keys, as `gatemeter gateways keys` prints them. Raises `OptionError`."""
    if path is None:
        return None
    try:
        return keys_from(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"--gateway-keys: {path}: must be what `gatemeter gateways keys` prints: {error}"
        raise OptionError(text) from error
