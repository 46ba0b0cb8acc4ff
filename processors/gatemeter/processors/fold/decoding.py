"""A stretch of authentic records becomes one frame of events, all bodies decoded in one native call.

The bodies are laid end to end as one Avro container block, with a sentinel behind them: where a body is cut, too long or
garbage, the block fails or the sentinel is not in its place, and the records are decoded one by one instead.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_avro

from gatemeter.processors import admission
from gatemeter.processors.fold.plain import Refused
from gatemeter.processors.fold.state import epoch_start_us
from gatemeter.processors.fold.types import HOUR_US
from gatemeter.schemas import codec, limits
from gatemeter.schemas.signing import TICK_GATEWAY

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SCHEMA: Final = codec.CURRENT["GatewayBatch"]
_SENTINEL: Final = codec.encode_batch(
    {
        "gateway_id": "\x00end of block",
        "gateway_kind": "policy_point",
        "epoch": "",
        "topic": "",
        "partition": -1,
        "first_sequence": -1,
        "sent_at": 0,
        "counters": {"emitted": -1, "spooled": -1, "dropped": -1},
        "closed": False,
    },
    [],
)[codec.PREFIX_LENGTH :]
_TIMES: Final = ("request_started_at", "occurred_at")
_ENUMS: Final = (
    "kind",
    "identity_source",
    "workload_class",
    "purpose",
    "status",
    "gateway_cache",
    "usage_source",
    "outcome",
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the fold needs of one record's envelope; its events are rows [start, start + count)."""

    gateway_id: str
    gateway_kind: str
    epoch: str
    first_sequence: int
    counters: dict[str, int]
    closed: bool
    start: int
    count: int


@dataclass(slots=True)
class Decoded:
    """`envelopes[i]` is of record i, None where it is in `refused`.

    `events`: one row an event in log order, columns of `GatewayEvent` (times as Int64 microseconds, enums as String),
    `record_of` and `index_of` its record and its index there.
    """

    envelopes: list[Envelope | None]
    refused: dict[int, Refused]
    events: pl.DataFrame
    record_of: Ints
    index_of: Ints


def decode(items: Sequence[admission.Authentic | Refused], topic: str, partition: int) -> Decoded:
    """All records of a stretch; those that cannot be decoded or do not fit are in `refused`."""
    refused = {i: item for i, item in enumerate(items) if isinstance(item, Refused)}
    authentic = [(i, item) for i, item in enumerate(items) if not isinstance(item, Refused)]
    if all(item.record.value.startswith(SCHEMA.prefix) for _, item in authentic):
        frame = _read([item.record.value[codec.PREFIX_LENGTH :] for _, item in authentic])
        if frame is not None:
            return _columnar(len(items), authentic, frame, refused, (topic, partition))
    return _one_by_one(len(items), authentic, refused, (topic, partition))


def _read(bodies: list[bytes]) -> pl.DataFrame | None:
    """One row a body, None where the block is not what it announces."""
    try:
        frame = polars_avro.read_avro(io.BytesIO(codec.container(SCHEMA, [*bodies, _SENTINEL])))
    except (polars_avro.AvroError, pl.exceptions.PolarsError):
        return None
    if frame.height != len(bodies) + 1 or frame["gateway_id"][-1] != "\x00end of block":
        return None
    return frame.head(len(bodies))


@lru_cache(maxsize=65_536)
def _start_of(epoch: str) -> int | None:
    try:
        return epoch_start_us(epoch)
    except ValueError:
        return None


def _columnar(
    records: int,
    authentic: list[tuple[int, admission.Authentic]],
    frame: pl.DataFrame,
    refused: dict[int, Refused],
    place: tuple[str, int],
) -> Decoded:
    counts = frame["events"].list.len().to_numpy().astype(np.int64)
    envelopes: list[Envelope | None] = [None] * records
    kept = np.ones(len(authentic), np.bool_)
    start = 0
    columns = frame.drop("events", "attestation", "sent_at")
    for at, ((i, item), envelope, count) in enumerate(
        zip(authentic, columns.iter_rows(named=True), counts.tolist(), strict=True)
    ):
        if not _fits(item, envelope, count, place):
            wrong = admission.envelope_refusal(item, envelope, count, *place)
            if wrong is not None:
                refused[i] = Refused(item.record, *wrong, item.gateway_id)
                kept[at] = False
                continue
        envelopes[i] = Envelope(
            envelope["gateway_id"],
            envelope["gateway_kind"],
            envelope["epoch"],
            envelope["first_sequence"],
            envelope["counters"],
            envelope["closed"],
            start,
            count,
        )
        start += count
    with_events = kept & (counts > 0)
    events = (
        frame.select("events").filter(pl.Series(with_events)).explode("events", empty_as_null=False).unnest("events")
    )
    events = events.with_columns(
        *(pl.col(name).cast(pl.Int64) for name in _TIMES), *(pl.col(name).cast(pl.String) for name in _ENUMS)
    )
    numbers = np.fromiter((i for i, _ in authentic), np.int64, len(authentic))
    return Decoded(envelopes, refused, events, *_positions(numbers[with_events], counts[with_events]))


def _fits(item: admission.Authentic, envelope: dict[str, Any], count: int, place: tuple[str, int]) -> bool:
    """The checks of `admission.envelope_refusal`, cheaply; False means: ask it."""
    start = _start_of(envelope["epoch"])
    return (
        start is not None
        and start - item.record.timestamp_us <= HOUR_US
        and envelope["gateway_id"] == item.gateway_id
        and (envelope["topic"], envelope["partition"]) == place
        and 0 <= envelope["first_sequence"] <= admission.MAX_SEQUENCE
        and count <= limits.MAX_EVENTS_PER_BATCH
        and not (count and item.gateway_id == TICK_GATEWAY)
    )


def _positions(numbers: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """(record of each event, index of each event in its record)."""
    record_of = np.repeat(numbers, counts)
    starts = np.cumsum(counts) - counts
    return record_of, np.arange(len(record_of), dtype=np.int64) - np.repeat(starts, counts)


def _one_by_one(
    records: int,
    authentic: list[tuple[int, admission.Authentic]],
    refused: dict[int, Refused],
    place: tuple[str, int],
) -> Decoded:
    envelopes: list[Envelope | None] = [None] * records
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    counts: list[int] = []
    for i, item in authentic:
        batch = admission.decode(item, *place)
        if isinstance(batch, Refused):
            refused[i] = batch
            continue
        envelope = batch.envelope
        envelopes[i] = Envelope(
            envelope["gateway_id"],
            envelope["gateway_kind"],
            envelope["epoch"],
            envelope["first_sequence"],
            envelope["counters"],
            envelope["closed"],
            len(rows),
            len(batch.events),
        )
        rows += batch.events
        numbers.append(i)
        counts.append(len(batch.events))
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA)
    return Decoded(envelopes, refused, events, *_positions(np.array(numbers, np.int64), np.array(counts, np.int64)))


def _event_schema() -> pl.Schema:
    empty = _read([])
    if empty is None:
        raise AssertionError("polars-avro cannot read the sentinel of this schema")
    struct = empty.schema["events"]
    fields = {entry.name: entry.dtype for entry in struct.inner.fields}  # type: ignore[attr-defined]
    fields |= dict.fromkeys(_TIMES, pl.Int64()) | dict.fromkeys(_ENUMS, pl.String())
    return pl.Schema(fields)


EVENT_SCHEMA: Final[pl.Schema] = _event_schema()
"""Columns of `Decoded.events`."""
