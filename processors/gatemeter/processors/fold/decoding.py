"""A stretch of authentic records becomes one frame of events, all bodies decoded in one native call.

The bodies are laid end to end as one Avro container block, with a sentinel behind them and wherever the key id changes:
where a body is cut, too long or garbage, the block fails or a sentinel is not in its place, and the records are decoded
one by one instead. Nobody outside this process can write a sentinel, so no gateway can reach into another's bytes.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_avro
from polars_avro._avro_rs import AvroSource
from polars_avro._source import seekable_factory

from gatemeter.processors import admission
from gatemeter.processors.fold.partition_state import Batch, Refused
from gatemeter.processors.fold.state import epoch_start_us
from gatemeter.processors.fold.types import HOUR_US
from gatemeter.schemas import codec, limits
from gatemeter.schemas.signing import TICK_GATEWAY

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SCHEMA: Final = codec.CURRENT["GatewayBatch"]
_SENTINEL_ID: Final = secrets.token_hex(16)
_SENTINEL: Final = codec.encode_batch(
    {
        "gateway_id": _SENTINEL_ID,
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


@dataclass(slots=True)
class Envelopes:
    """What the fold needs of the records' envelopes, one value a record; empty where `present` is False (refused).

    The events of record i are rows [start[i], start[i] + count[i]) of the stretch. `details` gives the counters and
    `closed` of one record.
    """

    present: Mask
    gateway_id: list[str]
    gateway_kind: list[str]
    epoch: list[str]
    first_sequence: Ints
    start: Ints
    count: Ints
    details: Callable[[int], dict[str, Any]]


@dataclass(slots=True)
class Decoded:
    """A decoded stretch; `refused` has the records that are not.

    `events`: one row an event in log order, columns of `GatewayEvent` (times as Int64 microseconds, enums as String),
    `record_of` and `index_of` its record and its index there.
    """

    envelopes: Envelopes
    refused: dict[int, Refused]
    events: pl.DataFrame
    record_of: Ints
    index_of: Ints


def decode(items: Sequence[admission.Authentic | Refused], topic: str, partition: int) -> Decoded:
    """All records of a stretch; those that cannot be decoded or do not fit are in `refused`."""
    refused = {i: item for i, item in enumerate(items) if isinstance(item, Refused)}
    authentic = [(i, item) for i, item in enumerate(items) if not isinstance(item, Refused)]
    if all(item.record.value.startswith(SCHEMA.prefix) for _, item in authentic):
        frame = _read([item.record.value[codec.PREFIX_LENGTH :] for _, item in authentic], _ends(authentic))
        if frame is not None:
            return _columnar(len(items), authentic, frame, refused, (topic, partition))
    return _one_by_one(len(items), authentic, refused, (topic, partition))


def _ends(authentic: Sequence[tuple[int, admission.Authentic]]) -> list[int]:
    """After which bodies a sentinel stands: the last one of each run of one key id."""
    kids = [item.kid for _, item in authentic]
    return [at for at, kid in enumerate(kids, start=1) if at == len(kids) or kids[at] != kid] or [0]


def _read(bodies: list[bytes], ends: list[int]) -> pl.DataFrame | None:
    """One row a body, None where the block is not what it announces."""
    edges = zip([0, *ends[:-1]], ends, strict=True)
    parts = [part for first, after in edges for part in (*bodies[first:after], _SENTINEL)]
    sentinels = np.array(ends, np.int64) + np.arange(len(ends))
    source = AvroSource([seekable_factory(io.BytesIO(codec.container(SCHEMA, parts)))], False, False)
    try:
        # one batch of exactly the announced rows: asked for more, arrow-avro spins for ever on bytes left over; the
        # iterator has a name because dropping it while its error is raised loses the error
        batches = source.batch_iter(len(parts), None)
        frame = pl.DataFrame(next(batches))
    except (polars_avro.AvroError, pl.exceptions.PolarsError):
        return None
    if frame.height != len(parts) or not (frame["gateway_id"][sentinels] == _SENTINEL_ID).all():
        return None
    if len(ends) == 1:
        return frame.head(len(bodies))
    is_body = np.ones(len(parts), np.bool_)
    is_body[sentinels] = False
    return frame.filter(pl.Series(is_body))


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
    fits = _fits(frame, counts, authentic, place)
    for at in np.flatnonzero(~fits).tolist():
        i, item = authentic[at]
        wrong = admission.envelope_refusal(item, frame.row(at, named=True), int(counts[at]), *place)
        if wrong is None:
            fits[at] = True
        else:
            refused[i] = Refused(item.record, *wrong, item.gateway_id)
    numbers = np.fromiter((i for i, _ in authentic), np.int64, len(authentic))
    with_events = fits & (counts > 0)
    events = frame.select("events")
    if not with_events.all():
        events = events.filter(pl.Series(with_events))
    events = events.explode("events", empty_as_null=False).unnest("events")
    events = events.with_columns(pl.col(*_TIMES).cast(pl.Int64), pl.col(*_ENUMS).cast(pl.String))
    envelopes = _envelopes(records, frame, numbers, fits, counts)
    return Decoded(envelopes, refused, events, *_positions(numbers[with_events], counts[with_events]))


def _envelopes(records: int, frame: pl.DataFrame, numbers: Ints, fits: Mask, counts: Ints) -> Envelopes:
    """`frame` has the envelope of the records `numbers`, of which those that `fits` are taken."""
    present = np.zeros(records, np.bool_)
    count, first = np.zeros(records, np.int64), np.zeros(records, np.int64)
    present[numbers] = fits
    count[numbers] = np.where(fits, counts, 0)
    first[numbers] = frame["first_sequence"].to_numpy()
    row_of = np.zeros(records, np.int64)
    row_of[numbers] = np.arange(len(numbers))

    def texts(name: str) -> list[str]:
        values: list[str] = frame[name].cast(pl.String).to_list()
        if len(values) == records:
            return values
        return [values[row] if there else "" for row, there in zip(row_of.tolist(), present.tolist(), strict=True)]

    def details(record: int) -> dict[str, Any]:
        row = int(row_of[record])
        return {**frame["counters"][row], "closed": frame["closed"][row]}

    return Envelopes(
        present=present,
        gateway_id=texts("gateway_id"),
        gateway_kind=texts("gateway_kind"),
        epoch=texts("epoch"),
        first_sequence=first,
        start=np.cumsum(count) - count,
        count=count,
        details=details,
    )


def _fits(
    frame: pl.DataFrame, counts: Ints, authentic: list[tuple[int, admission.Authentic]], place: tuple[str, int]
) -> Mask:
    """The checks of `admission.envelope_refusal` for all records at once; False means: ask it."""
    timestamps = np.array([item.record.timestamp_us for _, item in authentic], np.int64)
    owners = pl.Series([item.gateway_id for _, item in authentic], dtype=pl.String)
    epochs = frame["epoch"]
    starts = {epoch: _start_of(epoch) for epoch in epochs.unique().to_list()}
    start = pl.Series([starts[epoch] for epoch in epochs.to_list()], dtype=pl.Int64)
    topic, partition = place
    checks = frame.select(
        pl.all_horizontal(
            pl.col("gateway_id") == owners,
            pl.col("topic") == topic,
            pl.col("partition") == partition,
            pl.col("first_sequence").is_between(0, admission.MAX_SEQUENCE),
            pl.Series(counts <= limits.MAX_EVENTS_PER_BATCH),
            pl.Series(counts == 0) | (owners != TICK_GATEWAY),
            (start - pl.Series(timestamps) <= HOUR_US).fill_null(False),
        ).alias("fits")
    )
    return checks["fits"].to_numpy(writable=True)


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
    batches: list[Batch] = []
    numbers: list[int] = []
    for i, item in authentic:
        batch = admission.decode(item, *place)
        if isinstance(batch, Refused):
            refused[i] = batch
        else:
            batches.append(batch)
            numbers.append(i)
    frame = pl.DataFrame([batch.envelope for batch in batches], schema=ENVELOPE_SCHEMA)
    events = pl.DataFrame([event for batch in batches for event in batch.events], schema=EVENT_SCHEMA)
    counts = np.array([len(batch.events) for batch in batches], np.int64)
    places = np.array(numbers, np.int64)
    envelopes = _envelopes(records, frame, places, np.ones(len(places), np.bool_), counts)
    return Decoded(envelopes, refused, events, *_positions(places, counts))


def _schemas() -> tuple[pl.Schema, pl.Schema]:
    empty = _read([], [0])
    if empty is None:
        raise AssertionError("polars-avro cannot read the sentinel of this schema")
    struct = empty.schema["events"]
    fields = {entry.name: entry.dtype for entry in struct.inner.fields}  # type: ignore[attr-defined]
    fields |= dict.fromkeys(_TIMES, pl.Int64()) | dict.fromkeys(_ENUMS, pl.String())
    kept = ("gateway_id", "epoch", "first_sequence", "counters", "closed")
    envelope = {name: empty.schema[name] for name in kept} | {"gateway_kind": pl.String()}
    return pl.Schema(fields), pl.Schema(envelope)


EVENT_SCHEMA, ENVELOPE_SCHEMA = _schemas()
"""Columns of `Decoded.events`, and what is kept of an envelope."""
