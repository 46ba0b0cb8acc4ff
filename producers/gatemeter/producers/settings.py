"""All settings of an emitter, checked once: where Kafka is, who the gateway is, how much the spool may hold.

The only file of the producers that reads the environment (`EmitterSettings.from_environment`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gatemeter.schemas import limits, signing
from gatemeter.schemas.partitions import EVENTS_TOPIC

TELEMETRY: Final = "telemetry"
"""The kind of what a caller may leave out (traces, application logs): it is evidence, never charged."""
GATEWAY_KINDS: Final = ("api_gateway", "inference_proxy", "agent_runtime", "policy_point", TELEMETRY)
SPOOL_MODES: Final = ("process", "memory", "fsync")
_PREFIX: Final = "GATEMETER_"
_PATHS: Final = ("spool_folder", "attestation_key_file")
_SWITCH: Final = {"on": True, "off": False}


class SettingsError(ValueError):
    """A setting that cannot be used. One line: its name, the accepted range, what it was."""


@dataclass(frozen=True, kw_only=True)
class EmitterSettings:
    """Raises `SettingsError` where a value is out of range.

    `bootstrap`: Kafka's addresses. `kid`, `secret`: the gateway's key id and its 32 bytes. `spool_folder`: where events
    wait (not for mode memory); processes may share it. `spool_mode`: process (default: survives the death of the
    process), fsync (and of the machine), memory (neither). `max_spool_bytes`: default 256 MiB; what exceeds it is
    refused and counted. `segment_bytes`: default 4 MiB, at most a quarter of the former. A batch is sent when its first
    event is `linger_ms` old (250), or before it exceeds `batch_bytes` (64 KiB) or `batch_events` (1,000).
    `heartbeat_seconds`: 30. `kafka`: further settings of librdkafka, e.g. for TLS and SASL. `attestation_key_file`:
    the private Ed25519 key with which heartbeats attest what was sent; without it nothing is attested.
    `uncounted_text`: False (default) drops every prompt and answer that a hook gives; True lets those leave the gateway
    whose tokens no provider reported, to be counted.
    """

    bootstrap: str
    gateway_id: str
    gateway_kind: str
    kid: str
    secret: bytes = field(repr=False)
    topic: str = EVENTS_TOPIC
    spool_folder: Path | None = None
    spool_mode: str = "process"
    max_spool_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 4 * 1024 * 1024
    linger_ms: int = 250
    batch_bytes: int = 64 * 1024
    batch_events: int = limits.MAX_EVENTS_PER_BATCH
    heartbeat_seconds: int = 30
    kafka: Mapping[str, str | int] = field(default_factory=dict, repr=False)
    attestation_key_file: Path | None = None
    uncounted_text: bool = False

    def __post_init__(self) -> None:
        self._texts()
        for name, low, high in (
            ("max_spool_bytes", 64 * 1024, 1 << 40),
            ("segment_bytes", 4 * 1024, 1 << 30),
            ("linger_ms", 0, 60_000),
            ("batch_bytes", 1024, limits.MAX_BATCH_BYTES),
            ("batch_events", 1, limits.MAX_EVENTS_PER_BATCH),
            ("heartbeat_seconds", 1, 3600),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise SettingsError(f"{name}: must be an integer of {low} to {high}, got {value!r}")
        if not isinstance(self.uncounted_text, bool):
            raise SettingsError(f"uncounted_text: must be True or False, got {self.uncounted_text!r}")
        if len(self.secret) != signing.SECRET_LENGTH:
            raise SettingsError(f"secret: must be {signing.SECRET_LENGTH} bytes, got {len(self.secret)}")
        if (self.spool_folder is None) != (self.spool_mode == "memory"):
            raise SettingsError(f"spool_folder: must be given in modes process and fsync only, got {self.spool_folder}")

    def _texts(self) -> None:
        for name, longest in (("bootstrap", 4096), ("gateway_id", 128), ("kid", 64), ("topic", 249)):
            value = getattr(self, name)
            if not isinstance(value, str) or not 1 <= len(value) <= longest:
                raise SettingsError(f"{name}: must be text of 1 to {longest} characters, got {value!r}")
        for name, accepted in (("gateway_kind", GATEWAY_KINDS), ("spool_mode", SPOOL_MODES)):
            if getattr(self, name) not in accepted:
                raise SettingsError(f"{name}: must be one of {', '.join(accepted)}, got {getattr(self, name)!r}")

    def attestation_key(self) -> signing.OperatorKey | None:
        """The key in `attestation_key_file`, None where none is set. Raises `SettingsError`."""
        if self.attestation_key_file is None:
            return None
        try:
            return signing.OperatorKey.load(self.attestation_key_file)
        except signing.SecretsError as error:
            raise SettingsError(f"attestation_key_file: {error}") from error

    @classmethod
    def from_environment(cls, **given: Any) -> EmitterSettings:
        """Reads GATEMETER_BOOTSTRAP, _GATEWAY_ID, _GATEWAY_KIND, _KID, _SECRETS_FILE (`gatemeter gateways add` writes
        it), _TOPIC, _SPOOL_FOLDER, _SPOOL_MODE, _MAX_SPOOL_BYTES, _ATTESTATION_KEY_FILE and _UNCOUNTED_TEXT (on, off);
        what is `given` goes first."""
        values = dict(given)
        for name in (*("bootstrap", "gateway_id", "gateway_kind", "kid", "topic", "spool_mode"), *_PATHS):
            text = os.environ.get(_PREFIX + name.upper())
            if text and name not in values:
                values[name] = Path(text) if name in _PATHS else text
        size = os.environ.get(_PREFIX + "MAX_SPOOL_BYTES")
        if size and "max_spool_bytes" not in values:
            if not size.isdecimal():
                raise SettingsError(f"{_PREFIX}MAX_SPOOL_BYTES: must be an integer of 65536 to {1 << 40}, got {size!r}")
            values["max_spool_bytes"] = int(size)
        text = os.environ.get(_PREFIX + "UNCOUNTED_TEXT")
        if text and "uncounted_text" not in values:
            if text not in _SWITCH:
                raise SettingsError(f"{_PREFIX}UNCOUNTED_TEXT: must be on or off, got {text!r}")
            values["uncounted_text"] = _SWITCH[text]
        for name in ("bootstrap", "gateway_id", "gateway_kind", "kid"):
            if name not in values:
                raise SettingsError(f"{_PREFIX}{name.upper()}: must be set")
        if "secret" not in values:
            values["secret"] = read_secret(os.environ.get(_PREFIX + "SECRETS_FILE"), values["kid"])
        return cls(**values)


def read_secret(path: str | Path | None, kid: str) -> bytes:
    """The secret of `kid` from a secrets file. Raises `SettingsError`."""
    if not path:
        raise SettingsError(f"{_PREFIX}SECRETS_FILE: must name the secrets file that holds key id {kid!r}")
    try:
        return signing.load_secrets(Path(path))[kid]
    except signing.SecretsError as error:
        raise SettingsError(str(error)) from error
    except KeyError:
        raise SettingsError(f"{path}: has no secret for key id {kid!r}") from None
