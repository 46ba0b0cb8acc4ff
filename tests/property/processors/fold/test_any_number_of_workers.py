"""Facts do not depend on how many workers there are, nor on who owned which partition when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.partition import Output, PartitionFold
from support.generated_logs import Step, build_log, examples, programs
from support.logs import collapse, completed, new_fold, received, run

PARTITIONS = 3
TURNS = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 3), st.integers(1, 9)), max_size=40)
"""(partition, worker that owns it from now on, records that it folds)."""


class Group:
    """Workers that share partitions; a new owner resumes from the checkpoint that the last one wrote."""

    def __init__(self, logs: list[Any], views: list[Any], *, columnar: bool) -> None:
        self.logs, self.views, self.columnar = logs, views, columnar
        self.outputs: list[list[Output]] = [[] for _ in logs]
        self._folds: dict[int, tuple[int, PartitionFold]] = {}
        self._checkpoints: dict[int, dict[str, Any]] = {}

    def turn(self, partition: int, worker: int, count: int) -> None:
        owner, fold = self._folds.get(partition, (None, None))
        if fold is None or owner != worker:
            checkpoint = self._checkpoints.get(partition)
            fold = new_fold(self.views[partition], columnar=self.columnar, checkpoint=checkpoint)
            self._folds[partition] = (worker, fold)
        while True:  # a new owner folds what it needs again, then `count` records of its own
            records = self.logs[partition].records[fold.next_offset :][:count]
            output = completed(fold.fold(records), self.logs[partition].records)
            self.outputs[partition].append(output)
            if output.checkpoint is not None:
                self._checkpoints[partition] = output.checkpoint
            if output.checkpoint is not None or not records:
                return


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
@given(st.lists(programs(max_size=15, min_size=4), min_size=PARTITIONS, max_size=PARTITIONS), TURNS)
@examples(12)
def test_any_assignment_of_partitions_to_workers_gives_the_same_rows(
    columnar: bool, several: list[list[Step]], turns: list[tuple[int, int, int]]
) -> None:
    logs, views = zip(*(build_log(program) for program in several), strict=True)
    group = Group(list(logs), list(views), columnar=columnar)
    for partition, worker, count in turns:
        group.turn(partition, worker, count)
    for partition in range(PARTITIONS):
        group.turn(partition, 9, len(logs[partition].records))
        alone = run(new_fold(views[partition], columnar=columnar), logs[partition].records)
        assert collapse(group.outputs[partition]) == collapse(alone)
        assert received(group.outputs[partition]) == received(alone)
