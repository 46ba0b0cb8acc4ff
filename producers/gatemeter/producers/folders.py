"""Who owns which spool files: one folder an epoch, with a lock file beside it that dies with its process.

    <spool folder>/<epoch>.lock         locked (flock) by the process that writes or has taken over the epoch
    <spool folder>/<epoch>/00000000.seg segments (`segments.py`); `end` where the emitter was closed in order

So any number of processes share one spool folder and never one epoch. The lock is taken before the folder is made and
removed after it, so a folder without a locked lock file belongs to a dead process, and so does a lock file without a
folder that nobody holds.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SEGMENT_GLOB: Final = "*.seg"
END_FILE: Final = "end"
DAMAGED_SUFFIX: Final = ".damaged"


class EpochFolder:
    """A locked epoch. `path` is its folder."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, root: Path, epoch: str) -> EpochFolder:
        """A new epoch of this process. Raises `OSError`."""
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _try_lock(root / f"{epoch}.lock")
        if lock is None:
            raise FileExistsError(f"{root}: epoch {epoch} is in use")
        path = root / epoch
        path.mkdir(mode=0o700)
        return cls(path, lock)

    @classmethod
    def abandoned(cls, root: Path) -> Iterator[EpochFolder]:
        """Locks and yields, one by one, the epochs whose processes are dead, oldest first."""
        _remove_lone_locks(root)
        for path in sorted(entry for entry in root.iterdir() if entry.is_dir()):
            lock = _try_lock(root / f"{path.name}.lock")
            if lock is None:
                continue
            if path.is_dir():
                yield cls(path, lock)
            else:  # another process has finished with it between our look and our lock
                os.close(lock)

    def segments(self) -> list[Path]:
        """Segment files in order."""
        return sorted(self.path.glob(SEGMENT_GLOB))

    @property
    def first_damaged(self) -> float:
        """Lowest number of a segment that was set aside; infinite where none was."""
        return min((int(path.stem) for path in self.path.glob(f"*{DAMAGED_SUFFIX}")), default=math.inf)

    def release(self) -> None:
        """Leaves the epoch to whoever comes next. Calling it twice is harmless."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def remove(self) -> None:
        """Ends the epoch: nothing of it is left to send. Damaged segments stay, and their folder with them."""
        for path in (*self.segments(), self.path / END_FILE):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()
            self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)
        self.release()


def _remove_lone_locks(root: Path) -> None:
    """Of processes that died before they had made their folder or after they had removed it."""
    for path in root.glob("*.lock"):
        if path.with_suffix("").is_dir():
            continue
        lock = _try_lock(path)
        if lock is not None:
            if not path.with_suffix("").is_dir():
                path.unlink(missing_ok=True)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """The locked file that is at `path` now: one that was removed while it was being locked protects nothing."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
