"""Every setting of a worker, read from the environment once and checked: the only module that reads it.

A value that is wrong raises `SettingsError`, one line that names the setting and what is accepted.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gatemeter.processors.sealing.anchors import AnchorError, anchor_at
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC, SEALS_TOPIC
from gatemeter.schemas.signing import OperatorKey, SecretsError, load_secrets
from gatemeter.sinks.exceptions.endpoint import Webhook, WebhookError, webhook_of
from gatemeter.sinks.exceptions.thresholds import Thresholds, ThresholdsError, load_thresholds

PREFIX: Final = "GATEMETER_"
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class SettingsError(ValueError):
    """A setting has a value that is not accepted; the text is one line."""


@dataclass(frozen=True)
class KafkaSecurity:
    """How to reach the brokers. `protocol`: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""

    protocol: str = "PLAINTEXT"
    ca_file: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class SealingSettings:
    """How a worker seals. `key_file` None: it does not. `sealers`: key id → public key, 64 hex digits."""

    seals_topic: str = SEALS_TOPIC
    key_file: Path | None = None
    sealers: Mapping[str, str] = field(default_factory=dict)
    every_ms: int = 60_000
    anchors: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExceptionSettings:
    """How a worker looks for exceptions. `every_ms` 0: it does not."""

    every_ms: int = 900_000
    thresholds: Thresholds = field(default_factory=Thresholds)
    webhook: Webhook | None = None


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know; `docs/operating.md` has the table of settings."""

    brokers: tuple[str, ...]
    topic: str
    metadata_topic: str
    group: str
    worker: str
    secrets_file: Path
    operator_keys: Mapping[str, str]
    security: KafkaSecurity
    clickhouse_url: str
    clickhouse_user: str
    clickhouse_password: str = field(repr=False)
    clickhouse_database: str
    clickhouse_timeout_ms: int
    flush_rows: int
    flush_interval_ms: int
    max_unflushed_rows: int
    fetch_bytes: int
    poll_records: int
    fold_bytes: int
    fold_linger_ms: int
    session_timeout_ms: int
    stop_timeout_ms: int
    tick_after_ms: int
    budgets_every_ms: int
    web_host: str
    web_port: int
    embedded_broker: bool
    sealing: SealingSettings
    exceptions: ExceptionSettings = field(default_factory=ExceptionSettings)


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads and checks `environment` (default: the process's). Raises `SettingsError`."""
    read = _Reader(os.environ if environment is None else environment)
    settings = Settings(
        brokers=read.brokers("BOOTSTRAP", "127.0.0.1:9092"),
        topic=read.topic("TOPIC", EVENTS_TOPIC),
        metadata_topic=read.topic("METADATA_TOPIC", METADATA_TOPIC),
        group=read.topic("GROUP", "gatemeter"),
        worker=read.text("WORKER", f"{socket.gethostname()}-{os.getpid()}", longest=128),
        secrets_file=read.secrets_file("SECRETS_FILE"),
        operator_keys=read.operator_keys("OPERATOR_KEYS_FILE"),
        security=read.security(),
        clickhouse_url=read.url("CLICKHOUSE_URL", "http://127.0.0.1:8123"),
        clickhouse_user=read.text("CLICKHOUSE_USER", "gatemeter_writer", longest=128),
        clickhouse_password=read.needed_password("CLICKHOUSE_PASSWORD"),
        clickhouse_database=read.identifier("CLICKHOUSE_DATABASE", "gatemeter"),
        clickhouse_timeout_ms=read.number("CLICKHOUSE_TIMEOUT_MS", 60_000, 1_000, 3_600_000),
        flush_rows=read.number("FLUSH_ROWS", 50_000, 100, 1_000_000),
        flush_interval_ms=read.number("FLUSH_INTERVAL_MS", 1_000, 10, 60_000),
        max_unflushed_rows=read.number("MAX_UNFLUSHED_ROWS", 250_000, 100, 10_000_000),
        fetch_bytes=read.number("FETCH_BYTES", 4 << 20, 1 << 20, 64 << 20),
        poll_records=read.number("POLL_RECORDS", 20_000, 1, 1_000_000),
        fold_bytes=read.number("FOLD_BYTES", 16 << 20, 1, 64 << 20),
        fold_linger_ms=read.number("FOLD_LINGER_MS", 200, 0, 10_000),
        session_timeout_ms=read.number("SESSION_TIMEOUT_MS", 10_000, 3_000, 300_000),
        stop_timeout_ms=read.number("STOP_TIMEOUT_MS", 15_000, 100, 300_000),
        tick_after_ms=read.number("TICK_AFTER_MS", 5_000, 100, 600_000),
        budgets_every_ms=read.number("BUDGETS_EVERY_MS", 300_000, 1_000, 86_400_000),
        web_host=read.text("WEB_HOST", "127.0.0.1", longest=255),
        web_port=read.number("WEB_PORT", 0, 0, 65_535),
        embedded_broker=read.flag("EMBEDDED_BROKER"),
        sealing=read.sealing(),
        exceptions=read.exceptions(),
    )
    if settings.max_unflushed_rows < settings.flush_rows:
        raise read.error("MAX_UNFLUSHED_ROWS", f"at least GATEMETER_FLUSH_ROWS ({settings.flush_rows})")
    return settings


class _Reader:
    """Takes one setting after the other out of the environment, by name without prefix."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def _raw(self, name: str) -> str:
        return self._environment.get(PREFIX + name, "")

    def error(self, name: str, accepted: str, shown: str | None = None) -> SettingsError:
        """An error that names the setting, what is accepted and what was given."""
        given = repr(self._raw(name)) if shown is None else shown
        return SettingsError(f"{PREFIX}{name} must be {accepted}, got {given or 'nothing'}")

    def text(self, name: str, default: str, *, longest: int) -> str:
        """Printable text."""
        value = self._raw(name) or default
        if not value.isprintable() or len(value) > longest:
            raise self.error(name, f"1 to {longest} printable characters")
        return value

    def topic(self, name: str, default: str) -> str:
        """A name that Kafka takes for topics and groups."""
        value = self._raw(name) or default
        if not _TOPIC.fullmatch(value):
            raise self.error(name, "1 to 249 of A-Z a-z 0-9 . _ -")
        return value

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """An integer in [lowest, highest]."""
        raw = self._raw(name).strip()
        if not raw:
            return default
        if not re.fullmatch(r"-?[0-9]{1,18}", raw) or not lowest <= int(raw) <= highest:
            raise self.error(name, f"an integer from {lowest} to {highest}")
        return int(raw)

    def flag(self, name: str) -> bool:
        """1, true, yes, on or 0, false, no, off; default off."""
        value = self._raw(name).strip().lower()
        if value in ("", "0", "false", "no", "off"):
            return False
        if value in ("1", "true", "yes", "on"):
            return True
        raise self.error(name, "1 or 0")

    def brokers(self, name: str, default: str) -> tuple[str, ...]:
        """HOST:PORT, several separated by commas."""
        entries = tuple(entry.strip() for entry in (self._raw(name) or default).split(",") if entry.strip())
        for entry in entries or ("",):
            match = _BROKER.fullmatch(entry)
            if match is None or not 1 <= int(match[2]) <= 65_535:
                raise self.error(name, "HOST:PORT, several separated by commas, ports 1 to 65535")
        return entries

    def url(self, name: str, default: str) -> str:
        """An http or https address without a password in it."""
        value = self._raw(name) or default
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise self.error(name, "http://HOST:PORT or https://HOST:PORT") from None
        if parts.username is not None or parts.password is not None:
            raise self.error(name, "an address without user and password", "one with them")
        if not good:
            raise self.error(name, "http://HOST:PORT or https://HOST:PORT")
        return value

    def password(self, name: str) -> str:
        """The setting, or the first line of the file that NAME_FILE names; not both."""
        file_name = self._raw(f"{name}_FILE")
        if not file_name:
            return self._raw(name)
        if self._raw(name):
            raise self.error(f"{name}_FILE", f"unset where {PREFIX}{name} is set")
        try:
            return Path(file_name).read_text("utf-8").split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError):
            raise self.error(f"{name}_FILE", "a readable text file") from None

    def needed_password(self, name: str) -> str:
        """As `password`; empty is not accepted."""
        password = self.password(name)
        if not password:
            raise SettingsError(f"{PREFIX}{name} or {PREFIX}{name}_FILE must be set: there is no default password")
        return password

    def identifier(self, name: str, default: str) -> str:
        """A name in ClickHouse."""
        value = self._raw(name) or default
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", value):
            raise self.error(name, "1 to 128 of A-Z a-z 0-9 _, not beginning with a digit")
        return value

    def secrets_file(self, name: str) -> Path:
        """A file of gateway secrets; read here once so that a bad one ends the program at its start."""
        path = self._file(name, "a JSON file of key id and 64 hex digits")
        try:
            load_secrets(path)
        except SecretsError as error:
            raise SettingsError(f"{PREFIX}{name}: {error}") from None
        return path

    def operator_keys(self, name: str) -> dict[str, str]:
        """`{"kid": "64 hex digits of the public key", …}` (JSON)."""
        return self._public_keys(name)

    def _public_keys(self, name: str) -> dict[str, str]:
        accepted = "a JSON file of key id and public key (64 hex digits), at least one"
        path = self._file(name, accepted)
        try:
            entries = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            raise self.error(name, accepted) from None
        if not isinstance(entries, dict) or not entries:
            raise self.error(name, accepted)
        for kid, key in entries.items():
            if not isinstance(key, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", key):
                raise self.error(name, accepted, f"another value for key id {kid!r} in {str(path)!r}")
        return entries

    def _file(self, name: str, accepted: str) -> Path:
        raw = self._raw(name)
        if not raw or not Path(raw).is_file():
            raise self.error(name, accepted)
        return Path(raw)

    def sealing(self) -> SealingSettings:
        """Sealing by a timer, on where a sealer's key is set; the key must be among the public ones."""
        topic = self.topic("SEALS_TOPIC", SEALS_TOPIC)
        every_ms = self.number("SEAL_EVERY_MS", 60_000, 1_000, 3_600_000)
        anchors = tuple(entry.strip() for entry in self._raw("ANCHORS").split(",") if entry.strip())
        self._check_anchors(anchors)
        if not self._raw("SEALER_KEY_FILE"):
            return SealingSettings(topic, None, {}, every_ms, anchors)
        accepted = "a file made by gatemeter sealers init"
        path = self._file("SEALER_KEY_FILE", accepted)
        try:
            key = OperatorKey.load(path)
        except SecretsError as error:
            raise SettingsError(f"{PREFIX}SEALER_KEY_FILE: {error}") from None
        sealers = self._public_keys("SEALERS_FILE")
        if sealers.get(key.kid) != key.public_hex:
            raise self.error("SEALERS_FILE", f"a file with the public key of sealer {key.kid!r}")
        return SealingSettings(topic, path, sealers, every_ms, anchors)

    def exceptions(self) -> ExceptionSettings:
        """The looks for exceptions: how often, by which thresholds, and the webhook that is told."""
        every_ms = self.number("EXCEPTIONS_EVERY_MS", 900_000, 0, 86_400_000)
        header = self._raw("EXCEPTIONS_WEBHOOK_HEADER_FILE")
        thresholds = self._raw("EXCEPTIONS_THRESHOLDS_FILE")
        try:
            return ExceptionSettings(
                every_ms,
                load_thresholds(Path(thresholds) if thresholds else None),
                webhook_of(self._raw("EXCEPTIONS_WEBHOOK"), Path(header) if header else None),
            )
        except ThresholdsError as error:
            raise SettingsError(f"{PREFIX}EXCEPTIONS_THRESHOLDS_FILE: {error}") from None
        except WebhookError as error:
            raise SettingsError(f"{PREFIX}EXCEPTIONS_WEBHOOK: {error}") from None

    @staticmethod
    def _check_anchors(anchors: tuple[str, ...]) -> None:
        for place in anchors:
            try:
                anchor_at(place)
            except AnchorError as error:
                raise SettingsError(f"{PREFIX}ANCHORS: {error}") from None

    def security(self) -> KafkaSecurity:
        """Transport and login of the brokers."""
        protocol = (self._raw("KAFKA_SECURITY") or "PLAINTEXT").upper()
        if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise self.error("KAFKA_SECURITY", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        mechanism = self._raw("KAFKA_SASL_MECHANISM") or "SCRAM-SHA-512"
        if mechanism not in SASL_MECHANISMS:
            raise self.error("KAFKA_SASL_MECHANISM", " or ".join(SASL_MECHANISMS))
        ca_file = self._file("KAFKA_CA_FILE", "a PEM file") if self._raw("KAFKA_CA_FILE") else None
        user, password = self._raw("KAFKA_USER"), self.password("KAFKA_PASSWORD")
        if protocol.startswith("SASL") and not (user and password):
            raise SettingsError(f"{PREFIX}KAFKA_USER and {PREFIX}KAFKA_PASSWORD(_FILE) must be set with {protocol}")
        return KafkaSecurity(protocol, ca_file, mechanism, user, password)


_PROCESS: Final = {
    "POLARS_MAX_THREADS": "1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:30000,muzzy_decay_ms:-1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def prepare_process() -> None:
    """Before polars is imported: one thread for it, since workers scale by process, and memory kept between chunks.

    Frames of some MB come and go with every chunk; memory that went back to the system is zeroed page by page again.
    pyarrow imports pandas at its first array where pandas is installed: 0.2 s and 40 MB for what a worker never uses.
    """
    for name, value in _PROCESS.items():
        os.environ.setdefault(name, value)
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas:
    """The first finder of the import system: pandas is not there."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Leaves every other module to the finders behind it."""
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas' in a worker", name=name)
