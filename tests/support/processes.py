"""Child processes of a test: started with a log of their own, ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support.kafka import die_with_parent

WAIT_SECONDS = 90.0


class Process:
    """One child process; its output goes to `log_path`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_path: Path) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                list(command),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float = WAIT_SECONDS) -> int:
        """Its exit code."""
        return self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, and waits."""
        if self.running:
            self._process.kill()
        self._process.wait(10)


class Processes:
    """All child processes of a test; a context manager that kills what is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Starts one."""
        process = Process(command, environment, self._folder / f"process-{len(self._started)}.log")
        self._started.append(process)
        return process

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()
            print(f"--- {process.log_path}\n{process.log[-6000:]}")


def eventually(condition: Callable[[], object], what: str, timeout_seconds: float = WAIT_SECONDS) -> None:
    """Waits until `condition()` is true; fails with `what` otherwise.

    A look that takes long, as a command that is started anew, is repeated more rarely: what is waited for has at least
    half of the time to itself.
    """
    began = time.monotonic()
    deadline = began + timeout_seconds
    while not condition():
        looked = time.monotonic()
        if looked > deadline:
            raise AssertionError(f"waited {timeout_seconds:.0f} s: {what}")
        time.sleep(max(0.1, looked - began))
        began = time.monotonic()
