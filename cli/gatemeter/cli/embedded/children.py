"""Child processes that never outlive the command that started them, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

STOP_SECONDS: Final = 2.0
"""What workers have not written by then is forgotten with the rest."""
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class ChildEnded(Exception):
    """A child ended by itself; the text names it, its exit code and the last lines that it wrote."""


@dataclass(frozen=True)
class _Child:
    name: str
    command: Sequence[str]
    settings: Mapping[str, str]
    log: Path
    revived: bool
    process: subprocess.Popen[bytes]


class Children:
    """Starts processes and ends them in reverse order at the end of the block.

    Each has a session of its own, so that Ctrl-C reaches the command alone, which then ends them in order. Where the
    command itself is killed, the kernel kills them (Linux: PR_SET_PDEATHSIG, bound to the thread that starts them).
    """

    def __init__(self, log_folder: Path, say: Callable[[str], None]) -> None:
        self._log_folder = log_folder
        self._say = say
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], settings: Mapping[str, str], *, is_revived: bool = False
    ) -> None:
        """Starts `command` with `settings` on top of the environment; what it prints goes to `<name>.log`.

        `is_revived`: where it is killed, `check` starts it again, as whatever keeps such processes elsewhere would.
        """
        log = self._log_folder / f"{name}.log"
        process = _started(command, settings, log)
        self._children.append(_Child(name, command, settings, log, is_revived, process))

    def check(self) -> None:
        """Starts again what was killed and is to be revived. Raises `ChildEnded` where another one is gone."""
        for number, child in enumerate(self._children):
            code = child.process.poll()
            if code is None:
                continue
            if child.revived and code < 0:
                self._say(f"{child.name} was killed ({signal.Signals(-code).name}): started again")
                process = _started(child.command, child.settings, child.log)
                self._children[number] = replace(child, process=process)
                continue
            lines = child.log.read_text("utf-8", "replace").strip().splitlines()[-8:]
            raise ChildEnded(f"{child.name} ended with code {code}: " + "\n  ".join(lines or ["it wrote nothing"]))

    def stop(self) -> None:
        """Asks all to end, workers before broker, and kills what is still there after `STOP_SECONDS`."""
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(self._children):
            child.process.terminate()
        for child in reversed(self._children):
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._children.clear()


def _started(command: Sequence[str], settings: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),  # in the child, before it becomes the command
        )


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died between fork and prctl
        os._exit(1)
