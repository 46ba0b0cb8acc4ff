"""The loop of a tail: read a line, publish what it says, remember the place. At least once, and nothing twice.

1. A line's events are in the emitter's spool.   A crash here: the line is read again, its events are the same, the
                                                 workers drop them as duplicates.
2. The position behind it is on the disk.        From here on it is not read again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.emitter import MAX_SPOOLED_BYTES, EmitterCounters
from gatemeter.producers.events import Event
from gatemeter.producers.tails.following import Lines
from gatemeter.producers.tails.positions import Position, Positions
from gatemeter.producers.validation import InvalidEvent, spool_form

_log: Final = logging.getLogger(__name__)
MAX_BACKLOG_EVENTS: Final = 20_000
"""Where more is spooled, the tail waits: the gateway's log keeps the rest."""
SAVE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.1


class Emits(Protocol):
    """What a tail needs of an `Emitter`."""

    def emit(self, event: Event) -> bool:
        """False where it was refused."""
        ...

    def counters(self) -> EmitterCounters:
        """Totals."""
        ...


class BadLine(ValueError):
    """A line that says nothing that can be metered. The text names the field and what is accepted, never its value."""


class Reader(Protocol):
    """What lines mean. `state` is what a restart needs beside the position, as JSON."""

    def events(self, line: bytes) -> Iterable[Event]:
        """What a line says; the same for the same lines in the same order. Raises `BadLine`."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """What the lines so far leave behind."""
        ...


class TailReport(NamedTuple):
    """Of this run. `bad_lines` were no lines of the log's form, or too long; `invalid` events were refused."""

    lines: int
    bad_lines: int
    events: int
    invalid: int
    errors: int


class Tail:
    """One log, one reader, one emitter. `positions` is None for a pipe."""

    def __init__(
        self, lines: Lines, reader: Reader, emitter: Emits, positions: Positions | None = None, *, since_ns: int = 0
    ) -> None:
        """`since_ns`: as in the `Position` that was loaded."""
        self._source, self._reader, self._emitter, self._positions = lines, reader, emitter, positions
        self._since_ns = since_ns
        self._complaints = Complaints()
        self._saved: Position | None = None
        self._lines = self._bad = self._events = self._invalid = self._errors = 0
        self._saved_at = time.monotonic()
        self._is_torn = False

    def report(self) -> TailReport:
        """Counts of this run."""
        bad = self._bad + self._source.passed_over
        return TailReport(self._lines, bad, self._events, self._invalid, self._errors)

    def run(self, stopped: threading.Event, *, once: bool = False) -> TailReport:
        """Until `stopped` is set, or the log is over; `once`: to its present end. Raises `OSError` of the log."""
        while not stopped.is_set():
            for line in self._source.ready():
                if stopped.is_set():
                    break
                if time.monotonic() - self._saved_at >= SAVE_SECONDS:
                    self._save()
                self._handle(line, stopped)
            else:
                self._save()
                if once or self._source.is_over:
                    break
                stopped.wait(POLL_SECONDS)
        self._save()
        return self.report()

    def _save(self) -> None:
        """The place behind the last line whose events are all in the spool."""
        self._saved_at = time.monotonic()
        if self._positions is None or self._is_torn:
            return
        position = Position(*self._source.at(), self._reader.state, self._since_ns)
        if position != self._saved:
            self._positions.save(position)
            self._saved = position

    def _handle(self, line: bytes, stopped: threading.Event) -> None:
        """A line that cannot be read costs itself only."""
        self._lines += 1
        try:
            events = list(self._reader.events(line))
        except BadLine as error:
            self._bad += 1
            self._complaints.say(_log, "a line of the log was passed over: %s", error)
            return
        except Exception as error:  # noqa: BLE001  one line must not stop the meter; its text may hold what a caller sent
            self._errors += 1
            self._complaints.say(_log, "a line of the log could not be metered: %s", type(error).__name__)
            return
        for event in events:
            self._publish(event, stopped)

    def _publish(self, event: Event, stopped: threading.Event) -> None:
        """Returns when the spool has it; a full spool (Kafka or the disk is away) is waited for."""
        try:
            size = len(spool_form(event))
            if size > MAX_SPOOLED_BYTES:
                raise InvalidEvent(f"an event must have at most {MAX_SPOOLED_BYTES} bytes, got {size}")
        except InvalidEvent as error:
            self._invalid += 1
            self._complaints.say(_log, "an event was refused: %s", error)
            return
        if self._events % 100 == 0:
            while self._emitter.counters().spooled > MAX_BACKLOG_EVENTS and not stopped.wait(POLL_SECONDS):
                pass
        while not self._emitter.emit(event):
            if stopped.wait(POLL_SECONDS):
                self._is_torn = True  # the next run reads the line again
                return
        self._events += 1
