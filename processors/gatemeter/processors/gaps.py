"""A gap that an operator accepts: retention cut records from a log before they were folded, or while they were needed.

Nothing is guessed. Rows that were written stay; what was lost is counted in `records_skipped`, its sequences are listed
by completeness, and who accepted it, when and why, is in the operator log. The fold then begins behind the gap with the
sequences that were settled, and with floors at the last log time: nothing posts to an hour that may be sealed, and what
could be the second copy of something that memory no longer holds adds nothing to live windows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.auditing.logs import LogReader
from gatemeter.processors.fold import checkpoint as checkpoints
from gatemeter.processors.fold import intervals
from gatemeter.processors.fold.checkpoint import Checkpoint, Snapshot
from gatemeter.processors.fold.state import Clock, EpochKey, EpochState, Totals
from gatemeter.processors.fold.types import FOLD_RELEASE
from gatemeter.processors.generations import next_generation
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.port import FactSink
from gatemeter.sinks.rows import query_rows

WORKER: Final = "accept-gap"
"""What stands as `worker` in the row that an operator writes."""

_RUNS: Final = """
SELECT gateway_id, epoch, first_sequence, next_sequence, toUnixTimestamp64Micro(recorded_at) AS at_us
FROM gateway_epochs
WHERE topic = {topic:String} AND partition = {partition:Int64} AND next_sequence > first_sequence
    AND first_offset >= {from:Int64} AND first_offset < {to:Int64} AND at_us <= {log_time:Int64}
ORDER BY gateway_id, epoch, first_sequence, next_sequence
"""
_HOLES: Final = """
SELECT gateway_id, epoch, first_sequence, next_sequence FROM quarantine_state
WHERE topic = {topic:String} AND partition = {partition:Int64} AND event_index >= 0 AND state = 'open'
    AND offset >= {from:Int64} AND offset < {to:Int64}
"""
_DISCARDS: Final = """
SELECT gateway_id, epoch, first_sequence, next_sequence FROM quarantine_discards FINAL
WHERE topic = {topic:String} AND partition = {partition:Int64} AND next_sequence > first_sequence
    AND discard_offset >= {from:Int64} AND discard_offset < {to:Int64}
"""


class GapError(Exception):
    """There is no gap that can be accepted; the text says what there is, and the command that goes on."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Of one partition: the log holds [earliest, end); the fold wants it from `needed`, rows go up to `written`."""

    topic: str
    partition: int
    partitions: int
    needed: int
    written: int
    earliest: int
    end: int

    @property
    def begin(self) -> int:
        """Where the fold begins again."""
        return max(self.earliest, self.written)

    @property
    def lost(self) -> int:
        """Offsets that were never folded."""
        return self.begin - self.written


def find_gap(log: LogReader, topic: str, partition: int, checkpoint: Mapping[str, Any] | None) -> Gap:
    """Compares the log with the newest checkpoint. Raises `GapError` where no gap can be accepted, `CannotCheck`."""
    name = f"{topic}[{partition}]"
    partitions = log.partitions(topic)
    if not 0 <= partition < partitions:
        raise GapError(f"--partition must be 0 to {partitions - 1}, got {partition}")
    earliest, end = log.bounds(topic, partition)
    resume = None if checkpoint is None else checkpoints.read(checkpoint)
    needed, written = (resume.at.offset, resume.next_offset) if resume else (0, 0)
    if resume is not None:
        _check_same_log(log, name, (topic, partition), resume, (earliest, end))
    if earliest <= needed:
        raise GapError(f"{name}: there is no gap: the log starts at offset {earliest}, it is needed from {needed}")
    return Gap(topic, partition, partitions, needed, written, earliest, end)


def _check_same_log(
    log: LogReader, name: str, place: tuple[str, int], resume: Checkpoint, bounds: tuple[int, int]
) -> None:
    last = resume.next_offset - 1
    if bounds[1] < resume.next_offset:
        raise GapError(
            f"{name}: the log ends at offset {bounds[1]}, but rows up to {resume.next_offset} are in ClickHouse: it was"
            f" re-created or cut, which no gap mends; restore it, or {next_generation(place[0])}"
        )
    if bounds[0] <= last and resume.last_digest:
        found = checkpoints.record_digest(log.record_at(*place, last))
        if found != resume.last_digest:
            raise GapError(
                f"{name}: the record at offset {last} is not the one that was folded there: the log was re-created,"
                f" which no gap mends; restore it, or {next_generation(place[0])}"
            )


def accept(
    sink: FactSink,
    client: Client,
    gap: Gap,
    checkpoint: Mapping[str, Any] | None,
    *,
    metadata_offset: int,
    kid: str,
    reason: str,
) -> dict[str, Any]:
    """Writes the row of the operator log, then the one of `ingest_batches` from which workers go on; the latter.

    `metadata_offset`: the view in force behind the gap. A crash between the two leaves the gap as it was: run it again.
    Raises `SinkUnavailable`, `SinkRefused`.
    """
    now_us = time.time_ns() // 1_000
    resume = None if checkpoint is None else checkpoints.read(checkpoint)
    totals = resume.totals if resume else Totals()
    clock = Clock()
    epochs: Mapping[EpochKey, EpochState] = {}
    if resume is not None and checkpoint is not None:
        log_time_us = checkpoint["log_time"]
        clock = Clock(log_time_us, checkpoint["posting_floor"], log_time_us, resume.at.clock.future_bound_us)
        epochs = settled_at(client, gap, resume, log_time_us)
    row = {
        "topic": gap.topic,
        "partition": gap.partition,
        "first_offset": gap.begin,
        "next_offset": gap.begin,
        "replay_from": gap.begin,
        "state": checkpoints.encode_state(Snapshot(gap.begin, clock, metadata_offset, epochs), []),
        "log_time": clock.log_time_us,
        "posting_floor": clock.posting_floor_us,
        "metadata_offset": metadata_offset,
        "last_digest": "",
        "partitions": gap.partitions,
        "fold_release": FOLD_RELEASE,
        **asdict(replace(totals, records_skipped=totals.records_skipped + gap.lost)),
        "worker": WORKER,
        "written_at": now_us,
    }
    act = {
        "topic": gap.topic,
        "partition": gap.partition,
        "offset": -1 - gap.begin,  # no record of the log: below zero, and one for each gap
        "at": now_us,
        "kid": kid,
        "act": "accept_gap",
        "subject": f"{gap.topic}[{gap.partition}]",
        "reason": reason,
        "detail": json.dumps(asdict(gap) | {"begin": gap.begin, "lost": gap.lost, "metadata_offset": metadata_offset}),
    }
    sink.write("operator_log", rows_to_arrow("operator_log", [act]))
    sink.write("ingest_batches", rows_to_arrow("ingest_batches", [row]))
    return row


def settled_at(client: Client, gap: Gap, resume: Checkpoint, log_time_us: int) -> Mapping[EpochKey, EpochState]:
    """What was settled at `gap.written`: the state as at `needed`, what was received since, without the open holes."""
    asked = {
        "topic": gap.topic,
        "partition": gap.partition,
        "from": gap.needed,
        "to": gap.written,
        "log_time": log_time_us,
    }
    settled = {key: (state.settled, state.last_heard_us) for key, state in resume.at.epochs.items()}
    for row in query_rows(client, "read what was received", _RUNS, asked):
        key = (row["gateway_id"], row["epoch"])
        known, heard = settled.get(key, ((), 0))
        known = intervals.add(known, row["first_sequence"], row["next_sequence"])
        settled[key] = (known, max(heard, row["at_us"]))
    for row in query_rows(client, "read the holes", _HOLES, asked):
        key = (row["gateway_id"], row["epoch"])
        if key in settled:
            known, heard = settled[key]
            settled[key] = (intervals.remove(known, row["first_sequence"], row["next_sequence"]), heard)
    for row in query_rows(client, "read the discards", _DISCARDS, asked):
        key = (row["gateway_id"], row["epoch"])
        known, heard = settled.get(key, ((), 0))
        settled[key] = (intervals.add(known, row["first_sequence"], row["next_sequence"]), heard)
    return {key: EpochState(known, heard) for key, (known, heard) in settled.items()}
