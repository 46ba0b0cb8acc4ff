"""What the commands of operators share: their options, the connection, and errors as one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatemeter.cli.one_line import errors, one_line_errors_of
from gatemeter.cli.screen import screen
from gatemeter.processors.metadata.control import Applied
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.log import MetadataProblem
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.processors.metadata.publishing import DeliveryFailed, RecordTooLarge
from gatemeter.processors.metadata.reading import MetadataUnreachable
from gatemeter.processors.metadata.yamlfiles import instant_us
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC
from gatemeter.schemas.signing import OperatorKey, SecretsError

Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap", envvar="GATEMETER_BOOTSTRAP", help="Kafka brokers, HOST:PORT, several separated by commas."
    ),
]
OperatorKeyFile = Annotated[
    Path,
    typer.Option(
        "--operator-key", envvar="GATEMETER_OPERATOR_KEY_FILE", help="Your private key file (gatemeter operators init)."
    ),
]
OperatorKeysFile = Annotated[
    Path | None,
    typer.Option(
        "--operator-keys",
        envvar="GATEMETER_OPERATOR_KEYS_FILE",
        help="Public keys of all operators; needed where you are not the only one.",
    ),
]
SecretsFile = Annotated[
    Path,
    typer.Option("--secrets", envvar="GATEMETER_SECRETS_FILE", help="Secrets file of gateway keys (mode 0600)."),
]
KafkaConfig = Annotated[
    Path | None, typer.Option("--kafka-config", help="JSON file of more librdkafka settings, for example TLS and SASL.")
]
EventsTopic = Annotated[str, typer.Option("--events-topic", help="Topic that gets the CONTROL records.")]
MetadataTopic = Annotated[str, typer.Option("--metadata-topic", help="Topic that keeps the metadata.")]

Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the operator log.")]

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092"
DEFAULT_OPERATOR_KEY: Final = Path("operator.json")
DEFAULT_SECRETS: Final = Path("secrets.json")
FAILURES: Final = (MetadataError, MetadataProblem, MetadataUnreachable, DeliveryFailed, RecordTooLarge, SecretsError)

console = screen(soft_wrap=True)
one_line_errors = one_line_errors_of({1: FAILURES})


def connect(
    bootstrap: str,
    operator_key: Path,
    operator_keys: Path | None,
    kafka_config: Path | None,
    events_topic: str = EVENTS_TOPIC,
    metadata_topic: str = METADATA_TOPIC,
) -> Connection:
    """The connection of an operator. Raises `SecretsError`, `MetadataError` for files that cannot be used."""
    key = OperatorKey.load(operator_key)
    others = load_operator_keys(operator_keys) if operator_keys else None
    return Connection(bootstrap, key, others, events_topic, metadata_topic, client_settings(kafka_config))


def client_settings(path: Path | None) -> dict[str, Any] | None:
    """What `--kafka-config` names; None without it. Raises `MetadataError`."""
    if path is None:
        return None
    try:
        client = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MetadataError(f"{path}: must be a JSON object of librdkafka settings: {error}") from error
    if not isinstance(client, dict):
        raise MetadataError(f"{path}: must be a JSON object of librdkafka settings")
    return client


def moment(option: str, text: str) -> int:
    """Microseconds of a UTC time given as an option. Raises `MetadataError`."""
    at_us = instant_us(text)
    if at_us is None:
        raise MetadataError(f"{option} must be a UTC time such as 2026-11-24T12:00:00Z, got {text!r}")
    return at_us


def report(applied: Applied) -> None:
    """Says what was published and what is in force."""
    console.print(
        f"{applied.published} published, {applied.unchanged} unchanged; in force in "
        f"{len(applied.control_offsets)} partitions: metadata below offset {applied.metadata_offset}, "
        f"digest {applied.digest.hex()[:16]}…"
    )
    if applied.refused:
        errors.print(
            f"warning: {applied.refused} records of the metadata topic do not count here: signed by an operator who is "
            "not in --operator-keys, or out of range"
        )
