"""Where a tail goes on after a restart: how far it has read, and what the reader of lines has in mind. Durable.

<state folder>/position.json    replaced as a whole, so a crash leaves the old one or the new one
<state folder>/lock             locked (flock) by the tail that runs; the kernel frees it when the process dies
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_VERSION: Final = 1


class PositionError(OSError):
    """The position cannot be read, or another tail uses the folder. One line, with what to do about it."""


@dataclass(frozen=True)
class Position:
    """`head` is the fingerprint of the file's first line ('' where nothing was read), `offset` is behind the last line
    that was handled, in bytes. `state` is what the lines read so far leave behind, as JSON.
    """

    head: str = ""
    offset: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    since_ns: int = 0


class Positions:
    """The position in a state folder, which belongs to this object until `close`. Raises `PositionError`, `OSError`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "position.json"
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise PositionError(
                f"{folder}: is used by another tail that runs; give each its own state folder"
            ) from None

    def load(self) -> Position:
        """The position that was saved last; the beginning, from now on, where there is none. Raises `PositionError`."""
        try:
            values = json.loads(self._path.read_bytes())
            if values["version"] != _VERSION:
                raise ValueError(f"version: must be {_VERSION}, got {values['version']!r}")
            position = Position(values["head"], values["offset"], values["state"], values["since_ns"])
            if not (isinstance(position.head, str) and isinstance(position.state, dict)):
                raise ValueError("head, state: must be text and an object")
            for name in ("offset", "since_ns"):
                if type(getattr(position, name)) is not int or getattr(position, name) < 0:
                    raise ValueError(f"{name}: must be an integer of 0 or more, got {getattr(position, name)!r}")
        except FileNotFoundError:
            position = Position(since_ns=time.time_ns())
            self.save(position)
        except (ValueError, KeyError, TypeError) as error:
            raise PositionError(
                f"{self._path}: cannot be used ({error}); move it away to read the log from its beginning: what is read"
                " twice is counted once"
            ) from None
        return position

    def save(self, position: Position) -> None:
        """Returns when the disk has it. Raises `OSError`."""
        values = {"version": _VERSION, **asdict(position)}
        written = self._path.with_suffix(".new")
        with written.open("wb") as file:
            file.write(json.dumps(values, separators=(",", ":")).encode())
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Lets another tail use the folder."""
        os.close(self._lock)
