"""The embedded server keeps its password off disks and command lines, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from gatemeter.sinks.local.launcher import LaunchFailed, start
from gatemeter.sinks.local.server import main


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_for(what: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_a_server_has_a_random_password_and_forgets_when_it_stops() -> None:
    with start() as first, start() as second:
        assert first.password != second.password
        assert len(first.password) >= 24
        assert first.password.encode() not in Path(f"/proc/{first.process.pid}/cmdline").read_bytes()
        assert first.folder.stat().st_mode & 0o777 == 0o700
        client = connect(ClickHouseSettings(first.url, first.user, first.password, "default"))
        client.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    for server in (first, second):
        assert server.process.returncode == 0
        assert not server.folder.exists()
    first.stop()  # again: nothing happens


def test_it_listens_on_loopback_only() -> None:
    with start() as server:
        assert server.url.startswith("http://127.0.0.1:")
        port = f":{int(server.url.rsplit(':', 1)[1]):04X}"
        lines = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
        ]
        listening = [line[1] for line in lines if line[1].endswith(port) and line[3] == "0A"]
        assert listening == [f"0100007F{port}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_deletes_the_data(number: signal.Signals) -> None:
    server = start()
    os.kill(server.process.pid, number)
    assert server.process.wait(15) == 0
    assert not server.folder.exists()
    server.stop()


def test_it_dies_with_its_parent() -> None:
    script = (
        "import os\n"
        "from gatemeter.sinks.local.launcher import start\n"
        "server = start()\n"
        "print(server.process.pid, server.folder, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    pid, folder = parent.stdout.split()
    assert parent.returncode == -9
    assert wait_for(lambda: gone(int(pid)))
    assert wait_for(lambda: not Path(folder).exists())


def test_data_of_a_killed_server_is_deleted_by_its_launcher() -> None:
    server = start()
    server.process.kill()
    server.process.wait()
    server.stop()
    assert not server.folder.exists()


def test_a_port_in_use_is_a_failed_launch() -> None:
    with start() as server, pytest.raises(LaunchFailed, match="ended with code 1"):
        start(port=int(server.url.rsplit(":", 1)[1]))


def test_help_documents_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for said in ("--password-file", "ready http://127.0.0.1:PORT", "X-ClickHouse-Key", "ArrowStream", "Example:"):
        assert said in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port: must be 0 (any free port) to 65535, got 70000"),
        (["--threads", "0"], "--threads: must be 1 to 64, got 0"),
        (["--memory-mib", "1"], "--memory-mib: must be 16 to 1048576 MiB, got 1"),
    ],
)
def test_a_wrong_option_is_named_with_its_range(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("short\n")
    with pytest.raises(SystemExit, match="must have 8 characters or more"):
        main(["--password-file", str(file), "--port", "0"])
