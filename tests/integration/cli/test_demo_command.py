"""`gatemeter demo` and `gatemeter local` as a user runs them: right numbers, right exit codes, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.leftovers import MARK, marked, pids_of
from support.processes import eventually

GATEMETER = str(Path(sys.executable).with_name("gatemeter"))


@dataclass
class Home:
    """A place of its own for temporary files, and a mark on every process that starts in it."""

    folder: Path
    mark: str

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark, "TMPDIR": str(self.folder)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GATEMETER, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def left(self) -> list[str]:
        return marked(self.mark)


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="gm-") as folder:
        place = Home(Path(folder), uuid.uuid4().hex)
        yield place
        eventually(lambda: place.left == [], "nothing is left running", 20)


def test_the_demo_counts_the_whole_trace_exactly_and_ends_clean(home: Home) -> None:
    demo = home.start("demo", "--json")
    out, err = demo.communicate(timeout=300)
    assert demo.returncode == 0, err
    assert out.count("\n") == 1
    result = json.loads(out)
    wanted = ["requests", "input_tokens", "output_tokens", "attempts", "duplicates_dropped", "quarantined"]
    assert list(result) == [*wanted, "conservation", "currency", "total", "events", "seconds"]
    assert result["requests"] == 28_185
    assert result["input_tokens"] == 40_421_844
    assert result["output_tokens"] == 4_334_561
    assert result["attempts"] == 29_163  # 978 attempts did not answer
    assert result["duplicates_dropped"] == 733  # 253 responses said twice, 20 events of 2 gateways in 12 partitions
    assert result["quarantined"] == 0
    assert result["conservation"] == "ok"
    assert result["currency"] == "USD"
    assert re.fullmatch(r"\d+\.\d+", result["total"])
    assert home.left == []
    assert list(home.folder.iterdir()) == [], "keys and data are deleted"


def started(home: Home) -> tuple[subprocess.Popen[str], str]:
    """`gatemeter local` up to the point where it says that it runs, and what it printed."""
    local = home.start("local", "--workers", "1")
    assert local.stdout is not None
    printed = ""
    while "gatemeter tenants apply" not in printed:
        line = local.stdout.readline()
        assert line, f"it ended: {printed}"
        printed += line
    return local, printed


def ends_in_order(home: Home, local: subprocess.Popen[str], printed: str, number: signal.Signals, code: int) -> None:
    """On a signal: its own exit code, and neither a process nor a file is left."""
    assert len(home.left) == 4, "the command, ClickHouse, the broker, a worker"
    [keys] = [Path(match[1]) for match in re.finditer(r"Keys, logs +(\S+)", printed)]
    assert keys.stat().st_mode & 0o777 == 0o700
    local.send_signal(number)
    local.communicate(timeout=60)
    assert local.returncode == code
    assert home.left == []
    assert list(home.folder.iterdir()) == []


def test_local_ends_in_order_when_it_is_told_to(home: Home) -> None:
    local, printed = started(home)
    ends_in_order(home, local, printed, signal.SIGTERM, 143)


def test_nothing_outlives_a_killed_command(home: Home) -> None:
    local, _ = started(home)
    local.kill()
    local.communicate(timeout=60)
    eventually(lambda: home.left == [], "all children have died with it", 20)


def told(home: Home, shell: str, command: str) -> str:
    """What a command prints in a shell that was pointed at the system."""
    words = ["bash", "-c", f"{shell} && {GATEMETER} {command.removeprefix('gatemeter ')}"]
    done = subprocess.run(words, env=home.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def requests_of(home: Home, shell: str) -> int:
    return sum(line["requests"] for line in json.loads(told(home, shell, "gatemeter report --json")))


def works_as_printed(home: Home, shell: str, printed: str) -> None:
    """Every command that it prints does what it says; 100 requests are charged."""
    emit, report, explain, audit, tenants = re.findall(r"^  (gatemeter .*)$", printed, re.M)
    told(home, shell, tenants)
    told(home, shell, f"{emit} --limit 200")
    eventually(lambda: requests_of(home, shell) == 100, "a REQUEST and a RESPONSE each are sunk", 60)
    assert "engineering" in told(home, shell, report)
    assert "adds up" in told(home, shell, explain)
    assert "clean" in told(home, shell, audit)
    [curl] = re.findall(r"^  (curl [^\n\\]*\\\n.*)$", printed, re.M)
    row = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "engineering" in row


def survives_a_killed_worker(home: Home, shell: str, printed: str, local: subprocess.Popen[str]) -> None:
    """It is started again, and nothing is lost: 300 requests more are charged once."""
    emit = next(line for line in printed.splitlines() if "gatemeter emit" in line).strip()
    told(home, shell, f"{emit} --limit 400")
    [worker] = pids_of(home.mark, "gatemeter.cli.main worker")
    os.kill(worker, signal.SIGKILL)
    assert local.stdout is not None
    lines = iter(local.stdout.readline, "")
    assert next(line for line in lines if "worker-1" in line) == "• worker-1 was killed (SIGKILL): started again\n"
    told(home, shell, f"{emit} --limit 200")
    eventually(lambda: requests_of(home, shell) == 400, "all that was emitted is charged once", 90)
    assert "clean" in told(home, shell, "gatemeter audit")


def test_local_works_as_printed_survives_a_killed_worker_and_ends_in_order_on_ctrl_c(home: Home) -> None:
    local, printed = started(home)
    try:
        [shell] = re.findall(r"^  (\. \S+)$", printed, re.M)
        works_as_printed(home, shell, printed)
        survives_a_killed_worker(home, shell, printed, local)
        ends_in_order(home, local, printed, signal.SIGINT, 130)
    finally:
        local.kill()
        local.communicate(timeout=60)
