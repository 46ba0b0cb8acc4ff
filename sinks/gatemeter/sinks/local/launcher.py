"""Starts the embedded ClickHouse as a child process and hands over its address and password."""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self


class LaunchFailed(Exception):
    """The server did not become ready; the text says what it printed."""


def _end(process: subprocess.Popen[str], timeout: timedelta) -> None:
    """SIGTERM, so that the server deletes its data; SIGKILL after `timeout`."""
    process.terminate()
    try:
        process.wait(timeout.total_seconds())
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class LocalClickHouse:
    """A running embedded server. A context manager: it is stopped, and its data deleted, at the end of the block.

    It also stops by itself within a second when the process that started it dies.
    """

    url: str
    user: str
    password: str
    process: subprocess.Popen[str]
    folder: Path  # the data; deleted by the server itself, by `stop` where the server could not

    def stop(self, timeout: timedelta = timedelta(seconds=15)) -> None:
        """Ask the server to end and wait; kill it after `timeout`. Calling it again does nothing."""
        _end(self.process, timeout)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(*, port: int = 0, user: str = "gatemeter", timeout: timedelta = timedelta(seconds=60)) -> LocalClickHouse:
    """Start a server with a new random password and wait until it is ready. `port` 0: any free one.

    Raises `LaunchFailed`. The password goes through a pipe, never to a disk or a command line.
    """
    password = secrets.token_urlsafe(24)
    command = [sys.executable, "-m", "gatemeter.sinks.local.server", "--die-with-parent"]
    command += ["--port", str(port), "--user", user, "--password-file", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = _wait_until_ready(process, password, timeout)
    except BaseException:
        _end(process, timedelta(seconds=5))
        raise
    return LocalClickHouse(said["ready"], user, password, process, Path(said["data"]))


def _wait_until_ready(process: subprocess.Popen[str], password: str, timeout: timedelta) -> dict[str, str]:
    """What the server prints, by first word, up to `ready`."""
    assert process.stdin is not None and process.stdout is not None  # both were opened with pipes
    said: dict[str, str] = {}
    deadline = time.monotonic() + timeout.total_seconds()
    with process.stdin as pipe:
        pipe.write(password + "\n")
    descriptor = process.stdout.fileno()
    text = ""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(descriptor, 4096).decode()
            text += piece
            said = {line.split(" ", 1)[0]: line.split(" ", 1)[-1] for line in text.split("\n")[:-1]}
            if "ready" in said:
                return said
            if not piece:
                raise LaunchFailed(f"the embedded ClickHouse ended with code {process.wait()} before it was ready")
    raise LaunchFailed(f"the embedded ClickHouse was not ready within {timeout}")
