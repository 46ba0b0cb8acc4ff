"""The collector's settings: one TOML file, checked once.

    listen = "0.0.0.0:4319"
    spool_folder = "/var/lib/gatemeter-collector"

    [gateways.kong-eu]            # as registered with `gatemeter gateways add`
    kind = "api_gateway"
    kid = "kong-eu-1"

    [senders.kong-eu-nodes]       # who may post: `gatemeter collector token` makes one
    gateway = "kong-eu"
    source = "kong"
    token_sha256 = ["…64 hex digits…"]

Brokers, secrets and topic come from GATEMETER_BOOTSTRAP, GATEMETER_SECRETS_FILE and GATEMETER_TOPIC where the file
does not name them.
"""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gatemeter.producers.collector.senders import Sender, is_digest
from gatemeter.producers.collector.sources import SOURCES, Naming, NamingError
from gatemeter.producers.settings import TELEMETRY, EmitterSettings, SettingsError, read_secret

MIB: Final = 1024 * 1024
_NUMBERS: Final = {
    "max_body_bytes": (1024, 256 * MIB, 8 * MIB),
    "max_unpacked_bytes": (1024, 1024 * MIB, 64 * MIB),
    "max_items": (1, 100_000, 10_000),
    "max_waiting": (1, 10_000, 64),
    "read_seconds": (1, 600, 30),
    "max_spool_bytes": (MIB, 1 << 40, 256 * MIB),
}
_TOP: Final = (
    *("listen", "spool_folder", "spool_mode", "bootstrap", "secrets_file", "topic", "uncounted_text"),
    *("tls", "gateways", "senders"),
    *_NUMBERS,
)
_TLS: Final = ("certificate", "key", "client_ca")
_GATEWAY: Final = ("kind", "kid", "attestation_key_file")
_SENDER: Final = ("gateway", "source", "token_sha256", "fields", "constants", "providers", "verified", "subject")
_SUBJECT: Final = ("gateway", "ids")


@dataclass(frozen=True)
class CollectorSettings:
    """Raises `SettingsError` where a value is out of range.

    `max_body_bytes`: of a request as it comes; `max_unpacked_bytes`: after gzip; `max_items`: in one request.
    `max_waiting`: requests that may wait for the spool at once. `read_seconds`: how long a request's body may take.
    `gateways`: an emitter each, by gateway id. `tls` None: plain HTTP.
    """

    host: str
    port: int
    spool_folder: Path
    gateways: Mapping[str, EmitterSettings]
    senders: tuple[Sender, ...]
    tls: ssl.SSLContext | None = None
    numbers: Mapping[str, int] = field(default_factory=lambda: {name: rule[2] for name, rule in _NUMBERS.items()})

    def number(self, name: str) -> int:
        """A limit by name."""
        return self.numbers[name]

    @classmethod
    def from_file(cls, path: Path) -> CollectorSettings:
        """Reads the TOML file. Raises `SettingsError`, which names the entry and what it accepts."""
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path}: must be a TOML file: {error}") from None
        _only(values, "the file", _TOP)
        host, port = _address(values.get("listen", "127.0.0.1:4319"))
        folder = Path(_text(values, "spool_folder", "a folder of this collector alone"))
        numbers = {name: _number(values, name, *rule) for name, rule in _NUMBERS.items()}
        gateways = {
            gateway_id: _emitter(gateway_id, gateway, values, folder, numbers["max_spool_bytes"])
            for gateway_id, gateway in _tables(values, "gateways").items()
        }
        senders = tuple(_sender(name, entry, gateways) for name, entry in _tables(values, "senders").items())
        _distinct(senders)
        return cls(host, port, folder, gateways, senders, _tls(values.get("tls")), numbers)


def _emitter(
    gateway_id: str, gateway: Mapping[str, Any], values: Mapping[str, Any], folder: Path, max_spool_bytes: int
) -> EmitterSettings:
    where = f"gateways.{gateway_id}"
    _only(gateway, where, _GATEWAY)
    given: dict[str, Any] = {name: values[name] for name in ("bootstrap", "topic") if name in values}
    # What is one gateway's alone must not come from an environment that speaks of another.
    given |= {"spool_mode": values.get("spool_mode", "process"), "attestation_key_file": None}
    given |= {"uncounted_text": values.get("uncounted_text", False)}
    if given["spool_mode"] not in ("process", "fsync"):
        raise SettingsError(f"spool_mode: must be process or fsync, got {given['spool_mode']!r}")
    given |= {"gateway_id": gateway_id, "gateway_kind": _text(gateway, "kind", "a gateway's kind", where)}
    given |= {"kid": _text(gateway, "kid", "a key id", where), "max_spool_bytes": max_spool_bytes}
    given |= {"spool_folder": folder / gateway_id}
    if "attestation_key_file" in gateway:
        given["attestation_key_file"] = Path(_text(gateway, "attestation_key_file", "a path", where))
    if "secrets_file" in values:
        given["secret"] = read_secret(_text(values, "secrets_file", "a path"), given["kid"])
    try:
        return EmitterSettings.from_environment(**given)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _sender(name: str, entry: Mapping[str, Any], gateways: Mapping[str, EmitterSettings]) -> Sender:
    where = f"senders.{name}"
    _only(entry, where, _SENDER)
    gateway_id, source = _one_of(entry, "gateway", gateways, where), _one_of(entry, "source", SOURCES, where)
    kind = gateways[gateway_id].gateway_kind
    if SOURCES[source].is_telemetry and kind != TELEMETRY:
        raise SettingsError(f"{where}.gateway: must be of kind {TELEMETRY} for source {source}, got {kind}")
    digests = entry.get("token_sha256")
    if not isinstance(digests, list) or not digests or not all(is_digest(digest) for digest in digests):
        raise SettingsError(f"{where}.token_sha256: must be a list of SHA-256 digests, 64 lower-case hex digits each")
    subject = entry.get("subject", {})
    _only(subject, f"{where}.subject", _SUBJECT)
    texts: dict[str, Any] = {section: _texts(entry, section, where) for section in ("fields", "constants", "providers")}
    about = {"subject_gateway_id": subject.get("gateway"), "subject_ids": subject.get("ids", "gatemeter")}
    verified = entry.get("verified", [])
    if not isinstance(verified, list):
        raise SettingsError(f"{where}.verified: must be a list of names of fields, got {verified!r}")
    try:
        naming = Naming(gateway_id, **texts, verified=tuple(verified), **about)
    except NamingError as error:
        raise SettingsError(f"{where}.{error}") from None
    return Sender(name, gateway_id, source, tuple(digests), naming)


def _distinct(senders: tuple[Sender, ...]) -> None:
    seen: dict[str, str] = {}
    for sender in senders:
        for digest in sender.token_sha256:
            if seen.setdefault(digest, sender.name) != sender.name:
                raise SettingsError(f"senders.{sender.name}.token_sha256: must be its own, {seen[digest]} has it too")


def _tls(values: Any) -> ssl.SSLContext | None:
    if values is None:
        return None
    _only(values, "tls", _TLS)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(_text(values, "certificate", "a path", "tls"), _text(values, "key", "a path", "tls"))
        if "client_ca" in values:
            context.load_verify_locations(_text(values, "client_ca", "a path", "tls"))
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise SettingsError(f"tls: must name readable PEM files that belong together: {error}") from None
    return context


def _address(value: Any) -> tuple[str, int]:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise SettingsError(f"listen: must be HOST:PORT with a port of 0 to 65535, got {value!r}")
    return host.strip("[]"), int(port)


def _only(values: Any, where: str, accepted: tuple[str, ...]) -> None:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: must be a table")
    for name in values:
        if name not in accepted:
            raise SettingsError(f"{where}: must have {', '.join(accepted)} only, got {name!r}")


def _tables(values: Mapping[str, Any], name: str) -> Mapping[str, Mapping[str, Any]]:
    found = values.get(name)
    if not isinstance(found, dict) or not found:
        raise SettingsError(f"{name}: must have at least one table, [{name}.NAME]")
    return found


def _text(values: Mapping[str, Any], name: str, what: str, where: str = "") -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{where}{'.' if where else ''}{name}: must be {what}, got {value!r}")
    return value


def _one_of(values: Mapping[str, Any], name: str, accepted: Iterable[str], where: str) -> str:
    value = values.get(name)
    if value not in (names := tuple(accepted)):
        raise SettingsError(f"{where}.{name}: must be one of {', '.join(names)}, got {value!r}")
    return str(value)


def _texts(values: Mapping[str, Any], section: str, where: str) -> dict[str, str]:
    found = values.get(section, {})
    if not isinstance(found, dict) or not all(
        isinstance(text, str) and 1 <= len(text) <= 256 for text in found.values()
    ):
        raise SettingsError(f"{where}.{section}: must be a table of texts of 1 to 256 characters")
    return found


def _number(values: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(f"{name}: must be an integer of {low} to {high}, got {value!r}")
    return value
