"""The memory of simple exchanges and decisions, as columns: one entry each, found by its key in a dictionary.

An entry is simple while it is one REQUEST, one RESPONSE of revision 0, both, or one POLICY. Whatever else happens to it
is the plain fold's business: `ColumnarStretches` inflates it there. Entries are in order of their last log time.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from gatemeter.processors.fold.decoding import HASH, Ints, Mask
from gatemeter.processors.metadata.views import View

HAS_REQUEST: Final = 1
HAS_RESPONSE: Final = 2
IS_POLICY: Final = 4
ABSENT: Final = -1
COMPLEX: Final = -2
"""Number of a key that the plain fold remembers."""
NOT_WAITING: Final = 0
COMPACT_AFTER_US: Final = 60_000_000


@dataclass(slots=True)
class Generation:
    """What the entries of one stretch refer to by row."""

    first: int
    view: View
    requests: pl.DataFrame | None
    """REQUEST events with the columns of their record, for orphans."""
    parts: pl.DataFrame
    """What RESPONSEs added to windows."""
    unpaired: pl.DataFrame
    """Whole facts whose REQUEST has not come."""
    log_time_us: int
    compacted: bool = False


@dataclass(slots=True)
class Entries:
    """New entries, one value an entry: see the columns of `Recent`."""

    keys: list[str]
    flags: npt.NDArray[np.uint8]
    first_offset: Ints
    last_log_time: Ints
    deadline: Ints
    request_started: Ints
    response_started: Ints
    request_hash: npt.NDArray[np.void]
    response_hash: npt.NDArray[np.void]
    response_offset: Ints
    request_row: Ints
    part_row: Ints
    unpaired_row: Ints


_COLUMNS: Final = (
    ("flags", np.dtype(np.uint8)),
    ("first_offset", np.dtype(np.int64)),
    ("last_log_time", np.dtype(np.int64)),
    ("deadline", np.dtype(np.int64)),
    ("request_started", np.dtype(np.int64)),
    ("response_started", np.dtype(np.int64)),
    ("request_hash", HASH),
    ("response_hash", HASH),
    ("response_offset", np.dtype(np.int64)),
    ("request_row", np.dtype(np.int64)),
    ("part_row", np.dtype(np.int64)),
    ("unpaired_row", np.dtype(np.int64)),
)


class Recent:
    """Entries [base, after); a number stands for the same entry until it is evicted."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._keys: list[str] = []
        self._base = 0
        self._size = 0
        self._dead = 0
        """Rows [0, dead) are evicted; their place is taken back when they are the larger part."""
        self._columns = {name: np.zeros(1024, dtype) for name, dtype in _COLUMNS}
        self._generations: list[Generation] = []
        self._first_deadline_us = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._size - self._dead

    @property
    def base(self) -> int:
        """Number of row 0."""
        return self._base

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One column of all entries; row = number − base."""
        return self._columns[name][: self._size]

    def rows(self, numbers: Ints) -> Ints:
        """Rows of numbers."""
        return numbers - self._base

    def key(self, number: int) -> str:
        """Key of an entry."""
        return self._keys[number - self._base]

    def generation(self, number: int) -> Generation:
        """Generation of an entry."""
        firsts = [generation.first for generation in self._generations]
        return self._generations[bisect_right(firsts, number) - 1]

    def add(self, new: Entries, generation: Generation) -> None:
        """Adds the entries of a stretch, in order of last log time; `generation.first` is set."""
        count = len(new.keys)
        if not count:
            return
        self._reserve(count)
        for name, _ in _COLUMNS:
            self._columns[name][self._size : self._size + count] = getattr(new, name)
        generation.first = self._base + self._size
        self._generations.append(generation)
        self._keys += new.keys
        self.numbers.update(zip(new.keys, range(generation.first, generation.first + count), strict=True))
        self._size += count
        waiting = new.deadline[new.deadline != NOT_WAITING]
        if len(waiting):
            earliest = int(waiting.min())
            self._first_deadline_us = min(self._first_deadline_us, earliest) if self._waiting else earliest
            self._waiting += len(waiting)

    def _reserve(self, count: int) -> None:
        needed = self._size + count
        for name, dtype in _COLUMNS:
            column = self._columns[name]
            if len(column) < needed:
                grown = np.zeros(max(needed, 2 * len(column)), dtype)
                grown[: self._size] = column[: self._size]
                self._columns[name] = grown

    def stop_waiting(self, rows: Ints) -> None:
        """Their RESPONSE came, their orphan was written, or the plain fold took them over."""
        deadline = self._columns["deadline"]
        self._waiting -= int((deadline[rows] != NOT_WAITING).sum())
        deadline[rows] = NOT_WAITING

    def due(self, log_time_us: int) -> Ints:
        """Rows whose deadline log time has reached."""
        if not self._waiting or log_time_us < self._first_deadline_us:
            return np.zeros(0, np.int64)
        deadline = self.column("deadline")
        rows = np.flatnonzero((deadline != NOT_WAITING) & (deadline <= log_time_us))
        later = deadline[deadline > log_time_us]
        self._first_deadline_us = int(later.min()) if len(later) else 0
        return rows

    def shorten_waits(self, horizon_us: int) -> None:
        """As `PlainFold.shorten_waits`."""
        deadline = self.column("deadline")
        waits = np.flatnonzero(deadline != NOT_WAITING)
        deadline[waits] = np.minimum(deadline[waits], self.column("last_log_time")[waits] + horizon_us)
        self._first_deadline_us = int(deadline[waits].min()) if len(waits) else 0

    def is_alive(self, rows: Ints, floor: Ints, log_time: Ints) -> Mask:
        """Whether entries are in memory at records of these memory floors and log times."""
        waits = self.column("deadline")[rows] > log_time
        alive: Mask = (self.column("last_log_time")[rows] >= floor) | waits
        return alive

    def forget(self, number: int) -> None:
        """The entry is another's business from here on."""
        self.column("flags")[number - self._base] = 0
        self.stop_waiting(np.array([number - self._base], np.int64))

    def evict(self, floor_us: int) -> None:
        """Drops the entries before the first that is within the horizon or waits."""
        last, deadline = self.column("last_log_time"), self.column("deadline")
        kept = int(np.searchsorted(last, floor_us, side="left"))
        waiting = np.flatnonzero(deadline[:kept] != NOT_WAITING)
        gone = int(waiting[0]) if len(waiting) else kept
        get = self.numbers.get
        for number, key in enumerate(self._keys[self._dead : gone], start=self._base + self._dead):
            if get(key) == number:
                del self.numbers[key]
        self._dead = max(self._dead, gone)
        if self._dead * 2 > self._size:
            self._reclaim()

    def _reclaim(self) -> None:
        del self._keys[: self._dead]
        for name, _ in _COLUMNS:
            column = self._columns[name]
            column[: self._size - self._dead] = column[self._dead : self._size].copy()
        self._size -= self._dead
        self._base += self._dead
        self._dead = 0
        firsts = [generation.first for generation in self._generations[1:]]
        del self._generations[: bisect_right(firsts, self._base)]

    def compact(self, log_time_us: int) -> None:
        """Keeps of older generations only the REQUESTs that still wait."""
        if not self._generations:
            return
        ends = [generation.first for generation in self._generations[1:]] + [self._base + self._size]
        for generation, end in zip(self._generations, ends, strict=True):
            if generation.compacted or generation.log_time_us + COMPACT_AFTER_US > log_time_us:
                continue
            generation.compacted = True
            if generation.requests is None:
                continue
            rows = np.arange(max(generation.first, self._base) - self._base, end - self._base)
            waits = rows[self.column("deadline")[rows] != NOT_WAITING]
            generation.requests = generation.requests[self.column("request_row")[waits]] if len(waits) else None
            self.column("request_row")[waits] = np.arange(len(waits))

    def needed_from(self) -> int | None:
        """Lowest first offset of the entries."""
        return int(self.column("first_offset")[self._dead :].min()) if len(self) else None
