"""A state machine over the plain fold, free of Kafka, Faust and ClickHouse: workers do what they may, the tables agree.

Several workers fold one log at once: the owner and zombies that go on from older state. Each flush is two steps, rows
and checkpoint, with a crash, a lost reply or a stale read of the checkpoint possible between any two steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatemeter.processors.fold.state import Totals
from gatemeter.processors.partition import Output, PartitionFold
from support.generated_logs import Builder, Step, examples, steps
from support.logs import assert_conserved, collapse, completed, new_fold, received, run


@dataclass
class Worker:
    """One fold and the outputs that it has not written yet."""

    fold: PartitionFold
    pending: list[Output] = field(default_factory=list)
    rows_written: int = 0


class FoldMachine(RuleBasedStateMachine):
    """`written`: the rows of the sink; `checkpoints`: its `ingest_batches`."""

    def __init__(self) -> None:
        super().__init__()
        self.builder = Builder()
        self.written: list[Output] = []
        self.checkpoints: list[dict[str, Any]] = []
        self.workers = [self._start(None)]

    def _start(self, checkpoint: dict[str, Any] | None) -> Worker:
        return Worker(new_fold(self.builder.views, columnar=False, checkpoint=checkpoint))

    @rule(more=st.lists(steps(), min_size=1, max_size=4))
    def the_log_grows(self, more: list[Step]) -> None:
        for step in more:
            self.builder.step(step)

    @rule(which=st.integers(0, 3), count=st.integers(1, 6), steps_done=st.sampled_from((0, 1, 2, 2, 2, 2)))
    def a_worker_folds(self, which: int, count: int, steps_done: int) -> None:
        """And flushes: nothing, the rows, or the rows and the checkpoint."""
        worker = self.workers[which % len(self.workers)]
        records = self.builder.log.records[worker.fold.next_offset :][:count]
        if records:
            worker.pending.append(completed(worker.fold.fold(records), self.builder.log.records))
        if steps_done > 0:
            self.a_worker_writes_rows(which)
        if steps_done > 1:
            self.a_worker_writes_its_checkpoint(which, False)

    @rule(more=st.lists(steps(), min_size=1, max_size=4), count=st.integers(1, 3))
    def the_log_grows_and_the_owner_follows(self, more: list[Step], count: int) -> None:
        for step in more:
            self.builder.step(step)
            self.a_worker_folds(-1, count, 2)

    @rule(which=st.integers(0, 3))
    def a_worker_writes_rows(self, which: int) -> None:
        worker = self.workers[which % len(self.workers)]
        self.written += worker.pending[worker.rows_written :]
        worker.rows_written = len(worker.pending)

    @rule(which=st.integers(0, 3), reply_lost=st.booleans())
    def a_worker_writes_its_checkpoint(self, which: int, reply_lost: bool) -> None:
        worker = self.workers[which % len(self.workers)]
        rows = [output.checkpoint for output in worker.pending[: worker.rows_written] if output.checkpoint]
        self.checkpoints += rows[-1:]
        if reply_lost:
            self.written += worker.pending[: worker.rows_written]
        else:
            del worker.pending[: worker.rows_written]
            worker.rows_written = 0

    @rule(which=st.integers(0, 3), stale=st.integers(0, 2), zombie=st.booleans())
    def a_worker_dies_or_loses_the_partition(self, which: int, stale: int, zombie: bool) -> None:
        """The next owner reads the newest checkpoint or an older one; the old worker may go on writing."""
        newest = sorted(self.checkpoints, key=lambda row: int(row["next_offset"]))
        successor = self._start(newest[-1 - min(stale, len(newest) - 1)] if newest else None)
        if zombie and len(self.workers) < 3:
            self.workers.append(successor)
        else:
            self.workers[which % len(self.workers)] = successor

    @precondition(lambda self: len(self.checkpoints) > 0)
    @invariant()
    def totals_are_conserved(self) -> None:
        assert_conserved(self.checkpoints[-1])

    def teardown(self) -> None:
        """All workers catch up and write: the tables are those of one fold that nothing disturbed."""
        records = self.builder.log.records
        expected = run(new_fold(self.builder.views, columnar=False), records)
        for worker in self.workers:
            rest = records[worker.fold.next_offset :]
            if rest:
                worker.pending.append(completed(worker.fold.fold(rest), records))
            self.written += worker.pending
            self.checkpoints += [output.checkpoint for output in worker.pending if output.checkpoint][-1:]
        assert collapse(self.written) == collapse(expected)
        assert received(self.written) == received(expected)
        newest = max(self.checkpoints, key=lambda row: int(row["next_offset"]))
        assert expected[0].checkpoint is not None
        for name in Totals.__dataclass_fields__:
            assert newest[name] == expected[0].checkpoint[name], name


TestFoldMachine = FoldMachine.TestCase
TestFoldMachine.settings = settings(examples(40), stateful_step_count=120)
