"""The collector's file of settings: what it reads, and how it says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatemeter.producers import SettingsError
from gatemeter.producers.collector.senders import Senders, new_token, token_digest
from gatemeter.producers.collector.settings import CollectorSettings
from support.certificates import Certificates

DIGEST = "ab" * 32
GOOD = f"""
listen = "127.0.0.1:0"
bootstrap = "127.0.0.1:9092"
spool_folder = "SPOOL"
secrets_file = "SECRETS"
max_items = 7

[gateways.kong-eu]
kind = "api_gateway"
kid = "kong-eu-1"

[senders.nodes]
gateway = "kong-eu"
source = "kong"
token_sha256 = ["{DIGEST}"]
fields = {{ tenant_id = "consumer.custom_id" }}
"""


def read(folder: Path, text: str = GOOD) -> CollectorSettings:
    secrets = folder / "secrets.json"
    secrets.write_text(json.dumps({"kong-eu-1": "cd" * 32}))
    secrets.chmod(0o600)
    (folder / "collector.toml").write_text(
        text.replace("SPOOL", str(folder / "spool")).replace("SECRETS", str(secrets))
    )
    return CollectorSettings.from_file(folder / "collector.toml")


def test_a_file_names_address_gateways_and_senders(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert (settings.host, settings.port, settings.tls) == ("127.0.0.1", 0, None)
    gateway = settings.gateways["kong-eu"]
    assert (gateway.gateway_kind, gateway.spool_folder) == ("api_gateway", tmp_path / "spool" / "kong-eu")
    [sender] = settings.senders
    assert (sender.name, sender.source, sender.naming.fields) == ("nodes", "kong", {"tenant_id": "consumer.custom_id"})
    assert (settings.number("max_items"), settings.number("max_body_bytes")) == (7, 8 * 1024 * 1024)


def test_the_environment_of_one_gateway_says_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEMETER_ATTESTATION_KEY_FILE", str(tmp_path / "of-another.json"))
    monkeypatch.setenv("GATEMETER_SPOOL_MODE", "memory")
    monkeypatch.setenv("GATEMETER_GATEWAY_ID", "another")
    gateway = read(tmp_path).gateways["kong-eu"]
    assert (gateway.gateway_id, gateway.attestation_key_file, gateway.spool_mode) == ("kong-eu", None, "process")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("max_items = 7", "max_items = 0", "max_items: must be an integer of 1 to 100000, got 0"),
        (
            'source = "kong"',
            'source = "otlp"',
            "senders.nodes.gateway: must be of kind telemetry for source otlp, got api_gateway",
        ),
        ("max_items = 7", "max_itms = 7", "the file: must have listen, spool_folder, "),
        ('"127.0.0.1:0"', '"4319"', "listen: must be HOST:PORT with a port of 0 to 65535, got '4319'"),
        ('"api_gateway"', '"gate"', "gateways.kong-eu: gateway_kind: must be one of api_gateway, "),
        ('"kong"\n', '"kng"\n', "senders.nodes.source: must be one of kong, apisix, opa, events"),
        ('gateway = "kong-eu"', 'gateway = "other"', "senders.nodes.gateway: must be one of kong-eu, got 'other'"),
        (DIGEST, "secret", "senders.nodes.token_sha256: must be a list of SHA-256 digests"),
        ("tenant_id =", "tenant =", "senders.nodes.fields: must be of tenant_id, "),
        ("fields", 'verified = ["route"]\nfields', "senders.nodes.verified: must be of tenant_id, app_id"),
        ('kid = "kong-eu-1"', 'kid = "kong-eu-2"', "secrets.json: has no secret for key id 'kong-eu-2'"),
        ("max_items = 7", 'spool_mode = "memory"', "spool_mode: must be process or fsync, got 'memory'"),
        ("max_items = 7", 'tls = { certificate = "no.pem", key = "no.key" }', "tls: must name readable PEM files"),
        ("[senders.nodes]", "[senders]", "senders.gateway: must be a table"),
        ("listen", "= listen", "must be a TOML file"),
    ],
)
def test_a_wrong_entry_is_named_with_what_it_accepts(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert error in str(raised.value)


def test_two_senders_never_share_a_token(tmp_path: Path) -> None:
    other = GOOD[GOOD.index("[senders.nodes]") :].replace("nodes", "others")
    with pytest.raises(SettingsError, match=r"^senders.others.token_sha256: must be its own, nodes has it too$"):
        read(tmp_path, GOOD + other)


def test_tls_is_read_and_may_ask_for_client_certificates(tmp_path: Path) -> None:
    Certificates(tmp_path, "spiffe://acme/kong")
    tls = "".join(
        f'{name} = "{tmp_path}/{file}"\n' for name, file in (("certificate", "server.pem"), ("key", "server.key"))
    )
    settings = read(tmp_path, GOOD + f'[tls]\n{tls}client_ca = "{tmp_path}/ca.pem"\n')
    assert settings.tls is not None and settings.tls.verify_mode.name == "CERT_REQUIRED"


def test_a_token_finds_its_sender_and_nobody_elses(tmp_path: Path) -> None:
    token, older = new_token(), new_token()
    text = GOOD.replace(f'["{DIGEST}"]', json.dumps([token_digest(token), token_digest(older)]))
    senders = Senders(read(tmp_path, text).senders)
    assert senders.of(f"Bearer {token}") is senders.of(f"bearer  {older} ") is not None
    for wrong in (
        None,
        "",
        "Bearer",
        f"Basic {token}",
        token,
        f"Bearer {token}x",
        f"Bearer {token_digest(token)}",
        "Bearer \udcff",
    ):
        assert senders.of(wrong) is None
