"""The checkpoint of a partition: a row of `ingest_batches`, and the state as at `replay_from` that it carries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec

from gatemeter.processors.fold.state import Clock, Decision, EpochKey, EpochState, Totals
from gatemeter.processors.fold.types import FOLD_RELEASE, LogRecord


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state before the record at `offset`, without exchanges: they are folded again from there."""

    offset: int
    clock: Clock
    metadata_offset: int
    epochs: Mapping[EpochKey, EpochState]
    admits: frozenset[tuple[str, str]] = frozenset()
    """Admits of operators that no record has used up: (record digest in hex, key id)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a worker resumes from: fold `at` … `next_offset` with `decisions`, write nothing, go on with `totals`."""

    next_offset: int
    at: Snapshot
    decisions: list[Decision]
    totals: Totals
    last_digest: str
    partitions: int


class _State(msgspec.Struct, array_like=True):
    clock: tuple[int, int, int, int]
    metadata_offset: int
    epochs: list[tuple[str, str, list[tuple[int, int]], int]]
    decisions: list[tuple[int, int, int, str]]
    admits: list[tuple[str, str]] = []


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_State)


def record_digest(record: LogRecord) -> str:
    """BLAKE2b-128, hex, over timestamp, key, value and headers: another record under an offset is found out."""
    parts = (record.timestamp_us, record.key, record.value, record.headers)
    return hashlib.blake2b(_ENCODER.encode(parts), digest_size=16).hexdigest()


def encode_state(at: Snapshot, decisions: list[Decision]) -> bytes:
    """The column `state`, msgpack. `decisions` are those of [`at.offset`, `next_offset`)."""
    clock = at.clock
    epochs = [
        (gateway_id, epoch, list(state.settled), state.last_heard_us)
        for (gateway_id, epoch), state in sorted(at.epochs.items())
    ]
    return _ENCODER.encode(
        _State(
            (clock.log_time_us, clock.posting_floor_us, clock.memory_floor_us, clock.future_bound_us),
            at.metadata_offset,
            epochs,
            [
                (entry.offset, entry.first, entry.last, entry.code)
                for entry in sorted(decisions, key=attrgetter("offset", "first"))
            ],
            sorted(at.admits),
        )
    )


def read(row: Mapping[str, Any]) -> Checkpoint:
    """From a row of `ingest_batches` as Python values."""
    state = _DECODER.decode(row["state"])
    epochs = {
        (gateway_id, epoch): EpochState(tuple((a, b) for a, b in settled), heard)
        for gateway_id, epoch, settled, heard in state.epochs
    }
    return Checkpoint(
        next_offset=row["next_offset"],
        at=Snapshot(
            row["replay_from"],
            Clock(*state.clock),
            state.metadata_offset,
            epochs,
            frozenset((digest, kid) for digest, kid in state.admits),
        ),
        decisions=[Decision(*entry) for entry in state.decisions],
        totals=Totals(**{name: row[name] for name in asdict(Totals())}),
        last_digest=row["last_digest"],
        partitions=row["partitions"],
    )


@dataclass(frozen=True, slots=True)
class Position:
    """Where the fold stands: after the record below `next_offset`."""

    first_offset: int
    next_offset: int
    last_record: LogRecord
    clock: Clock
    metadata_offset: int
    totals: Totals


def row(
    topic: str,
    partition: int,
    partitions: int,
    worker: str,
    position: Position,
    at: Snapshot,
    decisions: list[Decision],
) -> dict[str, Any]:
    """The row of `ingest_batches` but for `written_at`, captured when the fold passes `next_offset`."""
    return {
        "topic": topic,
        "partition": partition,
        "first_offset": position.first_offset,
        "next_offset": position.next_offset,
        "replay_from": at.offset,
        "state": encode_state(at, [entry for entry in decisions if entry.offset >= at.offset]),
        "log_time": position.clock.log_time_us,
        "posting_floor": position.clock.posting_floor_us,
        "metadata_offset": position.metadata_offset,
        "last_digest": record_digest(position.last_record),
        "partitions": partitions,
        "fold_release": FOLD_RELEASE,
        **asdict(position.totals),
        "worker": worker,
    }
