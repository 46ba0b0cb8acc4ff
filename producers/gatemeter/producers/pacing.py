"""Short slices: the background thread gives the interpreter back often, so that a request never waits long for it.

A thread that holds the GIL keeps it for 5 ms by default, and that interval belongs to the host. So the background
thread lets go by itself, with a sleep as short as the kernel makes it (about 60 µs), after every slice of work.
"""

from __future__ import annotations

import time
from typing import Final

SLICE_NS: Final = 25_000
_SLEEP_SECONDS: Final = 1e-6


class Pace:
    """Call `breathe` after each small step of work."""

    def __init__(self) -> None:
        self.hurried = False
        """Set when the host is waiting for us (close): no more sleeping."""
        self._slice_began_ns = time.perf_counter_ns()

    def breathe(self) -> None:
        """Sleeps where the slice is used up."""
        if time.perf_counter_ns() - self._slice_began_ns < SLICE_NS or self.hurried:
            return
        time.sleep(_SLEEP_SECONDS)
        self._slice_began_ns = time.perf_counter_ns()
