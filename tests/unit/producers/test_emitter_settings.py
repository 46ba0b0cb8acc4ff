"""A wrong setting ends with one line that names it and the accepted range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatemeter.producers import EmitterSettings, SettingsError
from gatemeter.schemas import signing
from support.producers import SECRET, settings


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"linger_ms": -1}, "linger_ms: must be an integer of 0 to 60000, got -1"),
        ({"batch_events": 1001}, "batch_events: must be an integer of 1 to 1000, got 1001"),
        ({"batch_bytes": 900_001}, "batch_bytes: must be an integer of 1024 to 900000, got 900001"),
        ({"max_spool_bytes": 1}, "max_spool_bytes: must be an integer of 65536 to 1099511627776, got 1"),
        ({"gateway_kind": "toaster"}, "gateway_kind: must be one of api_gateway, inference_proxy"),
        ({"spool_mode": "paper"}, "spool_mode: must be one of process, memory, fsync, got 'paper'"),
        ({"spool_mode": "process"}, "spool_folder: must be given in modes process and fsync only, got None"),
        ({"secret": b"short"}, "secret: must be 32 bytes, got 5"),
        ({"gateway_id": ""}, "gateway_id: must be text of 1 to 128 characters"),
    ],
)
def test_a_wrong_value_is_named_with_its_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(None, **changed)


def test_the_secret_is_not_shown() -> None:
    assert "kkkk" not in repr(settings(None))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signing.save_secrets(tmp_path / "secrets.json", {"gw-1": SECRET})
    for name, value in {
        "BOOTSTRAP": "kafka:9092",
        "GATEWAY_ID": "gw",
        "GATEWAY_KIND": "api_gateway",
        "KID": "gw-1",
        "SECRETS_FILE": str(tmp_path / "secrets.json"),
        "SPOOL_FOLDER": str(tmp_path),
        "MAX_SPOOL_BYTES": "100000",
    }.items():
        monkeypatch.setenv(f"GATEMETER_{name}", value)
    found = EmitterSettings.from_environment(linger_ms=5)
    assert (found.gateway_kind, found.secret, found.spool_folder) == ("api_gateway", SECRET, tmp_path)
    assert (found.linger_ms, found.max_spool_bytes) == (5, 100_000)
    monkeypatch.setenv("GATEMETER_KID", "gw-2")
    with pytest.raises(SettingsError, match="has no secret for key id 'gw-2'"):
        EmitterSettings.from_environment()
    monkeypatch.delenv("GATEMETER_BOOTSTRAP")
    with pytest.raises(SettingsError, match="GATEMETER_BOOTSTRAP: must be set"):
        EmitterSettings.from_environment()
