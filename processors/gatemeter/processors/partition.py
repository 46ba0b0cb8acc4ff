"""One partition's fold and its checkpoint: records in, rows and a checkpoint row out; resume and loud stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from gatemeter.processors.admission import Admission, Operated, Sorted, Stretch, Trust
from gatemeter.processors.fold import checkpoint as checkpoints
from gatemeter.processors.fold import operating
from gatemeter.processors.fold.checkpoint import Checkpoint, Position, Snapshot
from gatemeter.processors.fold.columnar import ColumnarStretches
from gatemeter.processors.fold.conflicts import RecordAt, conflict_rows, wanted
from gatemeter.processors.fold.exchanges import Conflict
from gatemeter.processors.fold.partition_state import PartitionState
from gatemeter.processors.fold.state import REFUSED, Clock, Decisions, Epochs, Totals
from gatemeter.processors.fold.stretches import PlainStretches
from gatemeter.processors.fold.types import FOLD_RELEASE, HOUR_US, LogRecord, LoudStop, Rows
from gatemeter.processors.fold.windows import WindowBook
from gatemeter.processors.generations import next_generation
from gatemeter.processors.metadata.entries import Parameters
from gatemeter.processors.metadata.log import MetadataLog
from gatemeter.processors.metadata.views import View
from gatemeter.sinks.arrow import rows_to_arrow

__all__ = ["Output", "PartitionFold", "Trust"]

PIECES_OF_A_HORIZON: Final = 16
SNAPSHOT_EVERY_US: Final = 1_000_000
"""Log time between two snapshots: how much too early `replay_from` may be."""


class Stretches(Protocol):
    """A fold of stretches: the plain or the columnar one."""

    def fold(self, stretch: Stretch) -> None:
        """Folds records that are under one view."""

    def control(self, record: LogRecord, view: View | None, before: View | None) -> None:
        """Folds what all records of operators do: `view` (if new) is in force after it, `before` was until it."""

    def needed_from(self) -> int | None:
        """Lowest offset that the exchanges in memory need."""

    def take(self) -> dict[str, pa.Table]:
        """The rows since the last call."""


@dataclass
class Output:
    """What one call yields: `tables` to write first, then `checkpoint` (None while replaying).

    Where `wanted` names offsets, it may not be written before `complete` was given the records there.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    checkpoint: dict[str, Any] | None = None
    next_offset: int = 0
    events: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    """Conflicts that are not in `tables` yet."""
    held: dict[int, LogRecord] = field(default_factory=dict)
    """Those records with copies that came first that this call was given."""

    @property
    def wanted(self) -> list[int]:
        """Offsets of the records that the rows of conflicts still need, in order."""
        return wanted(self.conflicts, self.held)

    def complete(self, record_at: RecordAt) -> None:
        """Makes the rows of conflicts; `record_at` is asked for the offsets `wanted`. Whatever it raises, or `LoudStop`
        where the log holds another record there: then nothing has changed."""
        rows = conflict_rows(self.conflicts, lambda offset: self.held.get(offset) or record_at(offset))
        if rows:
            tables = [self.tables["exceptions"]] if "exceptions" in self.tables else []
            self.tables["exceptions"] = pa.concat_tables([*tables, rows_to_arrow("exceptions", rows)])
        self.conflicts, self.held = [], {}


class PartitionFold:
    """Folds one partition from its checkpoint on. Not thread-safe; nothing is consumed by a call that raises.

    `record_at` reads one record of the log again; where it is given, outputs come complete, and it must not fail: what
    it raises ends the fold. Without it the caller completes them (`Output.wanted`).
    """

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        partitions: int,
        metadata: MetadataLog,
        trust: Trust,
        worker: str,
        checkpoint: Mapping[str, Any] | None,
        columnar: bool = True,
        record_at: RecordAt | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._name = f"{topic}[{partition}]"
        self._place = (topic, partition, partitions, worker)
        self._metadata = metadata
        self._admission = Admission(topic, partition, metadata, trust)
        self._now_us = now_us
        self._record_at = record_at
        self._resume = None if checkpoint is None else checkpoints.read(checkpoint)
        self._written = self._resume.next_offset if self._resume else 0
        self._check_partitions(partitions)
        at = self._resume.at if self._resume else Snapshot(0, Clock(), 0, {})
        self._admits = at.admits
        self._view: View | None = None
        self._view_offset = at.metadata_offset
        decisions = Decisions.recorded(self._resume.decisions) if self._resume else Decisions()
        self._state = PartitionState(
            topic=topic,
            partition=partition,
            clock=at.clock.copy(),
            epochs=Epochs(dict(at.epochs)),
            totals=Totals(),
            decisions=decisions,
            book=WindowBook(topic, partition),
            rows=Rows(),
        )
        self._stretches: Stretches = ColumnarStretches(self._state) if columnar else PlainStretches(self._state)
        self._snapshots: list[Snapshot] = []
        self._first_offset = self._written
        """Where this fold began to write: its checkpoints cover [first_offset, next_offset)."""
        self.next_offset = at.offset
        if self._resume is not None and self._resume.next_offset == at.offset:
            self._end_replay(self._resume)  # an accepted gap: there is nothing to replay

    @property
    def replaying(self) -> bool:
        """Whether the next record is below the checkpoint: it is folded, and nothing is written."""
        return self._resume is not None

    @property
    def log_time_us(self) -> int:
        """Log time after the last record."""
        return self._state.clock.log_time_us

    def check_log_bounds(self, *, earliest: int, end: int) -> None:
        """Compares the log on the broker ([earliest, end)) with the checkpoint. Raises `LoudStop`."""
        if earliest > self.next_offset:
            raise LoudStop(
                f"{self._name}: the log starts at offset {earliest}, but the fold needs it from {self.next_offset}:"
                " restore it, or accept the gap with: gatemeter topics accept-gap --events-topic"
                f" {self._place[0]} --partition {self._place[1]} --reason TEXT (docs/operating.md, 'Loud stops')"
            )
        if end < self._written:
            raise LoudStop(
                f"{self._name}: the log ends at offset {end}, but rows up to {self._written} are in ClickHouse: the log"
                f" was re-created or cut; restore it, or {next_generation(self._place[0])}"
                " (docs/operating.md, 'Loud stops')"
            )

    def fold(self, records: Sequence[LogRecord]) -> Output:
        """Folds records in offset order; those below `next_offset` are passed over.

        Raises `NeedsMetadata`, `SecretMissing` (call again later) or `LoudStop`; then nothing was consumed.
        """
        records = [record for record in records if record.offset >= self.next_offset]
        if not records:
            return Output(next_offset=self.next_offset)
        self._check_clock(records)
        if self._resume is None:
            return self._fold_part(records)
        again = [record for record in records if record.offset < self._resume.next_offset]
        for piece in self._pieces(again):
            self._replay(piece)
        rest = records[len(again) :]
        return self._fold_part(rest) if rest else Output(next_offset=self.next_offset)

    def _check_partitions(self, partitions: int) -> None:
        if self._resume is not None and self._resume.partitions != partitions:
            raise LoudStop(
                f"{self._name}: the topic has {partitions} partitions, its checkpoint was written with"
                f" {self._resume.partitions}; the number never changes: {next_generation(self._place[0])}"
            )

    def _check_clock(self, records: Sequence[LogRecord]) -> None:
        latest = max(record.timestamp_us for record in records)
        ahead_us = latest - self._now_us()
        if ahead_us > HOUR_US:
            raise LoudStop(
                f"{self._name}: a record is {ahead_us // 1_000_000} s ahead of this worker's clock, more than an hour:"
                " set the clocks of broker and worker right, then start the worker again"
            )

    def _current_view(self) -> View | None:
        if self._view is None and self._view_offset:
            view = self._metadata.view(self._view_offset)
            self._check_release(view, self.next_offset)
            self._view = view
        return self._view

    def _fold_part(self, records: list[LogRecord]) -> Output:
        sorted_records = self._admission.sort(records, self._current_view(), self._admits)
        self._check_releases(sorted_records.steps)
        self._snapshot(records[0].offset)
        received = self._state.totals.events_received
        self._run(sorted_records)
        self.next_offset = records[-1].offset + 1
        position = Position(
            first_offset=self._first_offset,
            next_offset=self.next_offset,
            last_record=records[-1],
            clock=self._state.clock,
            metadata_offset=self._view_offset,
            totals=self._state.totals,
        )
        at = self._prune(records[-1].offset)
        row = checkpoints.row(*self._place, position, at, self._state.decisions.taken)
        output = Output(self._take(), row, self.next_offset, self._state.totals.events_received - received)
        self._take_conflicts(output, records)
        return output

    def _take_conflicts(self, output: Output, records: Sequence[LogRecord]) -> None:
        """Hands the conflicts over; their rows are made at once where no record has to be read again."""
        output.conflicts, self._state.conflicts = self._state.conflicts, []
        firsts = {conflict.first.offset for conflict in output.conflicts}
        output.held = {record.offset: record for record in records if record.offset in firsts} if firsts else {}
        if self._record_at is not None:
            output.complete(self._record_at)
        elif not output.wanted:
            output.complete(output.held.__getitem__)

    def _pieces(self, again: list[LogRecord]) -> Iterator[list[LogRecord]]:
        """Parts of a replay: a snapshot before each, so that the next replay need not begin where this one did."""
        if not again:
            return
        view = self._current_view()
        span_us = (view.parameters if view else Parameters()).horizon_us // PIECES_OF_A_HORIZON
        begin = 0
        for index, record in enumerate(again):
            if record.timestamp_us >= again[begin].timestamp_us + span_us:
                yield again[begin:index]
                begin = index
        yield again[begin:]

    def _replay(self, records: list[LogRecord]) -> None:
        resume = self._resume
        if resume is None:
            raise AssertionError("no checkpoint to replay to")
        refused = frozenset(entry.offset for entry in resume.decisions if entry.code == REFUSED)
        sorted_records = self._admission.sort(records, self._current_view(), self._admits, refused)
        self._check_releases(sorted_records.steps)
        ends = records[-1].offset + 1 == resume.next_offset
        if ends and checkpoints.record_digest(records[-1]) != resume.last_digest:
            raise LoudStop(
                f"{self._name}: the record at offset {records[-1].offset} is not the one that was folded there: the log"
                f" was re-created; restore it, or {next_generation(self._place[0])} (docs/operating.md, 'Loud stops')"
            )
        self._snapshot(records[0].offset)
        self._run(sorted_records)
        self.next_offset = records[-1].offset + 1
        self._stretches.take()
        self._state.book.take_rows(self._state.clock.slice_us)  # dropped before they become Arrow
        if ends:
            self._end_replay(resume)

    def _end_replay(self, resume: Checkpoint) -> None:
        self._resume = None
        self._state.decisions.end_replay()
        for name in Totals.__dataclass_fields__:
            setattr(self._state.totals, name, getattr(resume.totals, name))

    def _check_releases(self, steps: Sequence[Stretch | Operated]) -> None:
        for step in steps:
            if isinstance(step, Operated) and step.view is not None:
                self._check_release(step.view, step.record.offset)

    def _check_release(self, view: View, offset: int) -> None:
        release = view.parameters.fold_release
        if release != FOLD_RELEASE:
            raise LoudStop(
                f"{self._name}@{offset}: fold release {release} is in force, this worker has {FOLD_RELEASE}:"
                " install the release that the parameters name"
            )

    def _run(self, sorted_records: Sorted) -> None:
        self._admits = sorted_records.admits
        for step in sorted_records.steps:
            if isinstance(step, Stretch):
                self._stretches.fold(step)
                continue
            self._stretches.control(step.record, step.view, self._view)
            operating.take(self._state, step, self._view_offset, self._metadata)
            if step.view is not None:
                self._view, self._view_offset = step.view, step.view.offset

    def _snapshot(self, offset: int) -> None:
        clock = self._state.clock
        last = self._snapshots[-1] if self._snapshots else None
        if last is None or clock.log_time_us >= last.clock.log_time_us + SNAPSHOT_EVERY_US:
            epochs = self._state.epochs.snapshot(clock.log_time_us)
            self._snapshots.append(Snapshot(offset, clock.copy(), self._view_offset, epochs, self._admits))

    def _prune(self, last_offset: int) -> Snapshot:
        """Drops the snapshots and decisions that no resume needs, and returns where one would begin."""
        needed = [self._stretches.needed_from(), self._state.book.needed_from(), last_offset]
        lowest = min(offset for offset in needed if offset is not None)
        while len(self._snapshots) > 1 and self._snapshots[1].offset <= lowest:
            del self._snapshots[0]
        self._state.decisions.prune(self._snapshots[0].offset)
        return self._snapshots[0]

    def _take(self) -> dict[str, pa.Table]:
        tables = self._stretches.take()
        windows = self._state.book.take_rows(self._state.clock.slice_us)
        if windows:
            tables["usage_windows"] = rows_to_arrow("usage_windows", windows)
        return tables
