"""Turns among partitions that fold again what is below their checkpoints: one after the other, not all at once.

Folding a horizon again takes a while. In turns the first partition has new rows after its own share of that time; side
by side all would have to wait for the end of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from faust.types import TP

GRACE_SECONDS: Final = 0.5
"""How long the others wait for records of the partition whose turn it is."""
LOOK_SECONDS: Final = 0.02


class Turns:
    """Partitions are served in order; one that waits for something else holds up nobody."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._busy_until: dict[TP, float] = {}

    async def take(self, tp: TP) -> None:
        """Returns when no partition before `tp` has something to fold again, or had a moment ago."""
        while True:
            self.keep(tp)
            now = self._now()
            if min(other for other, until in self._busy_until.items() if until >= now) == tp:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def keep(self, tp: TP) -> None:
        """Its turn goes on: more is to come soon."""
        self._busy_until[tp] = self._now() + GRACE_SECONDS

    def end(self, tp: TP) -> None:
        """It is through, or gone."""
        self._busy_until.pop(tp, None)
