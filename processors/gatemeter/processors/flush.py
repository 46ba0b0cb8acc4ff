"""The flush: rows of several partitions in one write a table, then their checkpoints, then the acknowledgements.

The fold is never repeated on the same state: when the sink fails, the write of the same rows is tried again, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.port import FactSink, SinkUnavailable

CHECKPOINTS: Final = "ingest_batches"
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)

Place = tuple[str, int]
"""Topic and partition."""


class Folded(Protocol):
    """What the flush needs of a fold's output."""

    tables: dict[str, pa.Table]
    checkpoint: dict[str, Any] | None
    events: int

    @property
    def wanted(self) -> list[int]:
        """Offsets of records that rows still need; there must be none."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The output of one call of a partition's fold; `written` is called when it is durable."""

    place: Place
    output: Folded
    written: Callable[[], None]

    @property
    def rows(self) -> int:
        """Rows of all tables, the checkpoint included."""
        return sum(int(table.num_rows) for table in self.output.tables.values()) + (self.output.checkpoint is not None)


@dataclass
class FlushFigures:
    """Totals since the worker started, and what the sink last said."""

    flushes: int = 0
    rows: int = 0
    events: int = 0
    retries: int = 0
    seconds: float = 0.0
    waiting_for_sink: str = field(default="")


class Flusher:
    """Collects entries and writes them, every `interval_seconds` or from `rows` rows on, one flush at a time."""

    def __init__(self, sink: FactSink, *, rows: int, interval_seconds: float, max_unflushed_rows: int) -> None:
        self._sink = sink
        self._flush_rows = rows
        self._interval_seconds = interval_seconds
        self._max_unflushed_rows = max_unflushed_rows
        self._pending: list[Entry] = []
        self._unflushed_rows = 0
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._lock = asyncio.Lock()
        self.figures = FlushFigures()

    @property
    def unflushed_rows(self) -> int:
        """Rows that are folded and not yet durable."""
        return self._unflushed_rows

    async def room(self) -> None:
        """Waits until another output may be folded: the back-pressure of the sink."""
        await self._room.wait()

    def add(self, entry: Entry) -> None:
        """Takes an output, in the order of its partition."""
        if entry.output.wanted:
            raise AssertionError(f"{entry.place}: rows still need the records at {entry.output.wanted}")
        self._pending.append(entry)
        self._unflushed_rows += entry.rows
        self._measure()
        self._filled.set()

    def drop(self, place: Place) -> None:
        """Forgets what waits for a partition that is gone; a write under way goes on, and does no harm."""
        for entry in [entry for entry in self._pending if entry.place == place]:
            self._pending.remove(entry)
            self._unflushed_rows -= entry.rows
        self._measure()

    def _measure(self) -> None:
        if self._unflushed_rows >= self._flush_rows:
            self._full.set()
        if self._unflushed_rows >= self._max_unflushed_rows:
            self._room.clear()
        else:
            self._room.set()

    async def run(self) -> None:
        """Flushes until cancelled. Raises `SinkRefused`."""
        while True:
            await self._filled.wait()
            with contextlib.suppress(TimeoutError):  # the usual end of the wait: the interval is over
                await asyncio.wait_for(self._full.wait(), self._interval_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Writes everything that was added before the call. Raises `SinkRefused`; then nothing is forgotten."""
        async with self._lock:
            entries, self._pending = self._pending, []
            self._filled.clear()
            self._full.clear()
            if not entries:
                return
            try:
                await self._write_entries(entries)
            except BaseException:
                # A later checkpoint speaks for all rows before it: what was not written stays first in line.
                self._pending[:0] = entries
                self._filled.set()
                raise
            self._unflushed_rows -= sum(entry.rows for entry in entries)
            self._measure()

    async def _write_entries(self, entries: list[Entry]) -> None:
        started = time.monotonic()
        tables = await asyncio.to_thread(_concatenated, entries)
        for table, rows in tables.items():
            await self._write(table, rows)  # 1. a crash here: the rows are written again, identical, and collapse
        checkpoints = _last_checkpoints(entries)
        if checkpoints is not None:
            await self._write(CHECKPOINTS, checkpoints)  # 2. from here on these offsets never yield rows again
        for entry in entries:
            entry.written()  # 3. lets Kafka's committed offset move: for lag tools; losing it costs nothing
        self.figures.flushes += 1
        self.figures.rows += sum(entry.rows for entry in entries)
        self.figures.events += sum(entry.output.events for entry in entries)
        self.figures.seconds += time.monotonic() - started

    async def _write(self, table: str, rows: pa.Table) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                await asyncio.to_thread(self._sink.write, table, rows)
            except SinkUnavailable as error:
                delay = min(max(delay, error.retry_after.total_seconds()), LONGEST_DELAY_SECONDS)
                self.figures.retries += 1
                self.figures.waiting_for_sink = str(error)
                log.warning(
                    "ClickHouse is not available (%s): %d rows of %s wait, next try in %.1f s",
                    error,
                    rows.num_rows,
                    table,
                    delay,
                )
                await asyncio.sleep(delay)
                delay *= 2
                continue
            if self.figures.waiting_for_sink:
                log.warning("ClickHouse is available again")
                self.figures.waiting_for_sink = ""
            return


def _concatenated(entries: Iterable[Entry]) -> dict[str, pa.Table]:
    """One Arrow table per ClickHouse table, in the order of `TABLES`."""
    parts: dict[str, list[pa.Table]] = {table: [] for table in TABLES}
    for entry in entries:
        for table, rows in entry.output.tables.items():
            if rows.num_rows:
                parts[table].append(rows)
    return {table: pa.concat_tables(found) for table, found in parts.items() if found}


def _last_checkpoints(entries: Iterable[Entry]) -> pa.Table | None:
    """The last checkpoint of each partition: it speaks for those before it."""
    rows: dict[Place, dict[str, Any]] = {}
    for entry in entries:
        if entry.output.checkpoint is not None:
            rows[entry.place] = entry.output.checkpoint
    if not rows:
        return None
    written_at = time.time_ns() // 1000
    return rows_to_arrow(CHECKPOINTS, [{**row, "written_at": written_at} for row in rows.values()])
