"""`gatemeter tail envoy`: what it says of settings that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gatemeter.cli.main import app
from gatemeter.producers.tails import Positions


def run(tmp_path: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["tail", "envoy", str(tmp_path / "log"), "--state", str(tmp_path / "state"), *more])
    return done.exit_code, done.output


def test_a_setting_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEMETER_BOOTSTRAP", raising=False)
    assert run(tmp_path) == (2, "GATEMETER_BOOTSTRAP: must be set\n")


def test_two_tails_never_share_a_state_folder(tmp_path: Path) -> None:
    positions = Positions(tmp_path / "state")
    code, said = run(tmp_path)
    positions.close()
    assert code == 2 and "is used by another tail that runs" in said


def test_a_file_of_fields_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "fields.toml").write_text("[fields]\nmodell = 'x'\n")
    code, said = run(tmp_path, "--fields", str(tmp_path / "fields.toml"))
    assert code == 2 and "fields: must be of log, request_id" in said and "got 'modell'" in said


def test_a_file_of_an_application_logs_fields_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "fields.toml").write_text("[fields]\nmodell = 'x'\n")
    arguments = ["tail", "jsonl", str(tmp_path / "log"), "--state", str(tmp_path / "state")]
    done = CliRunner().invoke(app, [*arguments, "--fields", str(tmp_path / "fields.toml")])
    assert done.exit_code == 2 and "fields: must be of timestamp" in done.output and "got 'modell'" in done.output
