"""Log lines for a host that must not be flooded: each sort at most once a minute, with the number left out."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Final

INTERVAL_SECONDS: Final = 60.0


class Complaints:
    """`say` logs a warning, or counts it where the same template was logged less than a minute ago. Thread-safe."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval = interval_seconds
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def say(self, log: logging.Logger, template: str, *values: object) -> None:
        """`template` and `values` as for `logging`. Never blocks: where another thread is logging, it is left out."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            last, left_out = self._last.get(template, (-self._interval, 0))
            if now - last < self._interval:
                self._last[template] = (last, left_out + 1)
                return
            self._last[template] = (now, 0)
        finally:
            self._lock.release()
        with contextlib.suppress(Exception):  # a filter or handler of the host that raises is not the caller's business
            log.warning(template + (f" (and {left_out} more like it)" if left_out else ""), *values)
