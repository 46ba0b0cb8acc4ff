"""`gatemeter tail envoy` and `tail jsonl` while Kafka is away: they read, keep what they read, and go on behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from gatemeter.schemas.signing import new_secret, save_secrets
from support.envoy import free_port
from support.processes import Processes, eventually
from support.tails import request_line, written

TAIL = "from gatemeter.cli.main import app; app()"


def command(tmp_path: Path, log: str, *more: str) -> list[str]:
    arguments = ["tail", "envoy", log, "--state", str(tmp_path / "state"), "--timeout", "0", "--json", *more]
    return [sys.executable, "-c", TAIL, *arguments]


def environment(tmp_path: Path) -> dict[str, str]:
    secrets = tmp_path / "secrets.json"
    if not secrets.exists():
        save_secrets(secrets, {"envoy-eu-1": new_secret()})
    return {
        "GATEMETER_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "GATEMETER_GATEWAY_ID": "envoy-eu",
        "GATEMETER_GATEWAY_KIND": "api_gateway",
        "GATEMETER_KID": "envoy-eu-1",
        "GATEMETER_SECRETS_FILE": str(secrets),
    }


def report(said: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(said.splitlines()[-1])
    return values


def test_sigterm_leaves_the_position_behind_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(written(*(request_line(number) for number in range(50))) + b'{"half')
    with Processes(tmp_path) as processes:
        tail = processes.start(command(tmp_path, str(log)), environment(tmp_path))
        position = tmp_path / "state" / "position.json"
        eventually(lambda: position.exists() and json.loads(position.read_bytes())["offset"] > 0, "the log is read")
        tail.send(signal.SIGTERM)
        assert tail.wait() == 1  # Kafka is away, so what was read is not delivered
        said = report(tail.log)
        assert (said["lines"], said["events"], said["undelivered"], said["kept"]) == (50, 100, 100, True)
        again = processes.start(command(tmp_path, str(log), "--once"), environment(tmp_path))
        assert again.wait() == 0, again.log
        assert report(again.log)["lines"] == 0


def test_a_pipe_is_read_until_its_writer_ends(tmp_path: Path) -> None:
    lines = written(request_line(1), {"not": "ours"}, request_line(2))[:-1]
    done = subprocess.run(
        command(tmp_path, "-"),
        input=lines,
        env={**os.environ, **environment(tmp_path)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    said = report(done.stdout.decode())
    assert (done.returncode, said["lines"], said["bad_lines"], said["events"]) == (1, 3, 1, 4)
    assert b"request_id: must be text, got nothing" in done.stderr


def test_an_application_log_is_telemetry_whatever_the_environment_says(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    call = {"timestamp": "2026-11-27T12:00:00Z", "provider": "openai", "model": "m", "usage": {"prompt_tokens": 1}}
    log.write_bytes(b"".join(json.dumps({**call, "call_id": f"c-{n}"}).encode() + b"\n" for n in range(3)) + b"{}\n")
    arguments = ["tail", "jsonl", str(log), "--state", str(tmp_path / "state"), "--timeout", "0", "--json", "--once"]
    with Processes(tmp_path) as processes:
        tail = processes.start([sys.executable, "-c", TAIL, *arguments], environment(tmp_path))
        assert tail.wait() == 1, tail.log  # Kafka is away, so what was read is not delivered
        said = report(tail.log)
        assert (said["lines"], said["events"], said["ignored"], said["undelivered"]) == (4, 3, 1, 3)
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "state" / "spool").rglob("*") if path.is_file())
    assert b"telemetry" in spooled and b"api_gateway" not in spooled
