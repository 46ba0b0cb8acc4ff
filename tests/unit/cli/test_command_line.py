"""Every command is there, explains itself with an example, and refuses what it does not know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gatemeter.cli.main import COMMANDS, GROUPS, Command, app

GATEMETER = str(Path(sys.executable).with_name("gatemeter"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GATEMETER, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_list_names_every_command() -> None:
    shown = run("--help").stdout
    for command in COMMANDS:
        assert f" {command.path.split()[0]} " in shown
    assert {command.path.split()[0] for command in COMMANDS if " " in command.path} == set(GROUPS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.path)
def test_every_command_has_help_with_an_example(command: Command) -> None:
    done = CliRunner().invoke(app, [*command.path.split(), "--help"])  # in this process: an interpreter each is slow
    assert done.exit_code == 0, done.output
    assert "Example:" in done.stdout
    assert f"gatemeter {command.path}" in " ".join(done.stdout.split())


def test_an_unknown_option_is_refused_by_the_command_itself() -> None:
    done = run("demo", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr


def test_an_option_out_of_range_names_option_and_range() -> None:
    done = run("local", "--workers", "0")
    assert done.returncode == 2
    assert "--workers" in done.stderr
    assert "greater than or equal to 1" in done.stderr
