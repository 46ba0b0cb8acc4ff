"""A wrong setting is one line that names the setting and what is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from gatemeter.cli.worker import worker
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.settings import ExceptionSettings, SettingsError, load_settings
from gatemeter.schemas.signing import save_secrets


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    save_secrets(tmp_path / "secrets.json", {"gw-1": bytes(32)})
    (tmp_path / "operators.json").write_text(json.dumps({"ops": "ab" * 32}))
    return {
        "GATEMETER_SECRETS_FILE": str(tmp_path / "secrets.json"),
        "GATEMETER_OPERATOR_KEYS_FILE": str(tmp_path / "operators.json"),
        "GATEMETER_CLICKHOUSE_PASSWORD": "hidden",
    }


def test_two_files_and_a_password_are_enough(environment: dict[str, str]) -> None:
    settings = load_settings(environment)
    assert settings.brokers == ("127.0.0.1:9092",)
    assert (settings.topic, settings.metadata_topic) == ("gatemeter.events", "gatemeter.metadata")
    assert (settings.flush_rows, settings.flush_interval_ms, settings.web_port) == (50_000, 1_000, 0)
    assert settings.operator_keys == {"ops": "ab" * 32}
    assert not settings.embedded_broker


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FLUSH_ROWS", "99", "must be an integer from 100 to 1000000, got '99'"),
        ("FLUSH_ROWS", "1e5", "must be an integer from 100 to 1000000, got '1e5'"),
        ("FLUSH_INTERVAL_MS", "0", "must be an integer from 10 to 60000, got '0'"),
        ("MAX_UNFLUSHED_ROWS", "200", "must be at least GATEMETER_FLUSH_ROWS (50000), got '200'"),
        ("BUDGETS_EVERY_MS", "999", "must be an integer from 1000 to 86400000, got '999'"),
        ("EXCEPTIONS_EVERY_MS", "-1", "must be an integer from 0 to 86400000, got '-1'"),
        ("WEB_PORT", "65536", "must be an integer from 0 to 65535, got '65536'"),
        ("BOOTSTRAP", "kafka", "must be HOST:PORT, several separated by commas, ports 1 to 65535, got 'kafka'"),
        ("BOOTSTRAP", "a:1,b:0", "must be HOST:PORT, several separated by commas, ports 1 to 65535, got 'a:1,b:0'"),
        ("BOOTSTRAP", ",", "must be HOST:PORT, several separated by commas, ports 1 to 65535, got ','"),
        ("TOPIC", "a b", "must be 1 to 249 of A-Z a-z 0-9 . _ -, got 'a b'"),
        ("CLICKHOUSE_URL", "clickhouse:8123", "must be http://HOST:PORT or https://HOST:PORT, got 'clickhouse:8123'"),
        ("CLICKHOUSE_URL", "http://h:port", "must be http://HOST:PORT or https://HOST:PORT, got 'http://h:port'"),
        ("CLICKHOUSE_DATABASE", "a-b", "must be 1 to 128 of A-Z a-z 0-9 _, not beginning with a digit, got 'a-b'"),
        ("EMBEDDED_BROKER", "maybe", "must be 1 or 0, got 'maybe'"),
        ("SECRETS_FILE", "/nowhere", "must be a JSON file of key id and 64 hex digits, got '/nowhere'"),
        ("SECRETS_FILE", "", "must be a JSON file of key id and 64 hex digits, got ''"),
        ("KAFKA_SECURITY", "TLS", "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, got 'TLS'"),
        ("KAFKA_SASL_MECHANISM", "MD5", "must be PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512, got 'MD5'"),
        ("WORKER", "a\nb", "must be 1 to 128 printable characters, got 'a\\nb'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(
    environment: dict[str, str], name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({**environment, f"GATEMETER_{name}": value})
    assert str(caught.value) == f"GATEMETER_{name} {message}"


def test_a_password_is_never_shown(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hidden\n")
    with_file = {**environment, "GATEMETER_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "password")}
    with pytest.raises(SettingsError, match="must be unset where GATEMETER_CLICKHOUSE_PASSWORD is set"):
        load_settings(with_file)
    settings = load_settings({**with_file, "GATEMETER_CLICKHOUSE_PASSWORD": ""})
    assert settings.clickhouse_password == "hidden"
    assert "hidden" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load_settings({**environment, "GATEMETER_CLICKHOUSE_URL": "http://me:hidden@h:1"})
    assert "hidden" not in str(caught.value)


def test_there_is_no_default_password(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="GATEMETER_CLICKHOUSE_PASSWORD or GATEMETER_CLICKHOUSE_PASSWORD_FILE"):
        load_settings({**environment, "GATEMETER_CLICKHOUSE_PASSWORD": ""})


def test_a_login_needs_user_and_password(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"GATEMETER_KAFKA_USER and GATEMETER_KAFKA_PASSWORD\(_FILE\) must be set"):
        load_settings({**environment, "GATEMETER_KAFKA_SECURITY": "SASL_SSL"})


def test_an_operator_key_that_is_none_is_named(environment: dict[str, str]) -> None:
    Path(environment["GATEMETER_OPERATOR_KEYS_FILE"]).write_text('{"ops": "short"}')
    with pytest.raises(SettingsError, match=r"64 hex digits.*another value for key id 'ops'"):
        load_settings(environment)


def test_the_command_ends_with_one_line_and_code_2(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GATEMETER_FETCH_BYTES", "lots")
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    command = Typer()
    command.command()(worker)
    result = CliRunner().invoke(command)
    assert result.exit_code == 2
    assert result.stderr == "GATEMETER_FETCH_BYTES must be an integer from 1048576 to 67108864, got 'lots'\n"


def test_sealing_is_on_where_a_sealers_key_is_set_and_its_public_half_is_known(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert load_settings(environment).sealing.key_file is None
    key_file, sealers = tmp_path / "sealer.json", tmp_path / "sealers.json"
    key = init_operator(key_file, sealers, "sealer-1", "sealer")
    environment |= {"GATEMETER_SEALER_KEY_FILE": str(key_file), "GATEMETER_ANCHORS": "/mnt/worm, https://host/seals"}
    with pytest.raises(SettingsError, match="GATEMETER_SEALERS_FILE must be a JSON file of key id and public key"):
        load_settings(environment)
    sealing = load_settings(environment | {"GATEMETER_SEALERS_FILE": str(sealers)}).sealing
    assert (sealing.key_file, sealing.sealers) == (key_file, {"sealer-1": key.public_hex})
    assert (sealing.every_ms, sealing.seals_topic) == (60_000, "gatemeter.seals")
    assert sealing.anchors == ("/mnt/worm", "https://host/seals")
    sealers.write_text(json.dumps({"sealer-2": key.public_hex}))
    with pytest.raises(SettingsError, match="must be a file with the public key of sealer 'sealer-1'"):
        load_settings(environment | {"GATEMETER_SEALERS_FILE": str(sealers)})
    key_file.write_text("{}")
    with pytest.raises(SettingsError, match=r"GATEMETER_SEALER_KEY_FILE: .*must hold JSON with kid and private"):
        load_settings(environment | {"GATEMETER_SEALERS_FILE": str(sealers)})


def test_looks_for_exceptions_have_thresholds_and_a_webhook(environment: dict[str, str], tmp_path: Path) -> None:
    assert load_settings(environment).exceptions == ExceptionSettings()
    (tmp_path / "limits.toml").write_text("[defaults]\nburst_factor = 9\n")
    (tmp_path / "header").write_text("Authorization: planted-secret\n")
    more = {
        "GATEMETER_EXCEPTIONS_THRESHOLDS_FILE": str(tmp_path / "limits.toml"),
        "GATEMETER_EXCEPTIONS_WEBHOOK": "https://hooks.example/",
        "GATEMETER_EXCEPTIONS_WEBHOOK_HEADER_FILE": str(tmp_path / "header"),
    }
    settings = load_settings(environment | more)
    assert settings.exceptions.thresholds.number("burst_factor") == 9
    assert settings.exceptions.webhook is not None and "planted" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("THRESHOLDS_FILE", "/nowhere", "THRESHOLDS_FILE: /nowhere: must be a readable TOML file"),
        ("WEBHOOK", "http://hooks.example/", "WEBHOOK: webhook: must be https://HOST"),
        ("WEBHOOK_HEADER_FILE", "/nowhere", "WEBHOOK: webhook-header-file: must not be given without a webhook"),
    ],
)
def test_a_wrong_setting_of_exceptions_ends_the_start(
    environment: dict[str, str], name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^GATEMETER_EXCEPTIONS_{message}"):
        load_settings(environment | {f"GATEMETER_EXCEPTIONS_{name}": value})
