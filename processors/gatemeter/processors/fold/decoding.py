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
from itertools import pairwise
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
HASH: Final = np.dtype(f"V{codec.CONTENT_HASH_LENGTH}")

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
    "usage_consistency",
    "outcome",
)
_AS_PLAIN_TYPES: Final = (pl.col(*_TIMES).cast(pl.Int64), pl.col(*_ENUMS).cast(pl.String))


@dataclass(slots=True)
class Envelopes:
    """What the fold needs of the records' envelopes, one value a record; empty where `present` is False (refused).

    The events of record i are rows [start[i], start[i] + count[i]) of the stretch. `details` gives the counters and
    `closed` of one record.
    """

    present: Mask
    gateway_id: pl.Series
    gateway_kind: pl.Series
    epoch: pl.Series
    first_sequence: Ints
    start: Ints
    count: Ints
    details: Callable[[int], dict[str, Any]]
    attested: dict[int, bytes]
    """By record, the attestation that it carries."""


def content_hashes(events: pl.DataFrame) -> npt.NDArray[np.void]:
    """The content hash of each event; a view of Arrow's buffer, so no event is touched by itself."""
    if not events.height:
        return np.zeros(0, HASH)
    array = events["content_hash"].rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    start = int(np.frombuffer(array.buffers()[1], np.int64)[array.offset])
    return np.frombuffer(array.buffers()[2], HASH, len(array), start)


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


@dataclass(frozen=True, slots=True)
class _Block:
    """A decoded block: of each body its envelope and how many events it has; `events` has rows of sentinels, too.

    Sentinels vanish where the events are laid out: they have none. Taking their rows out before copies every event.
    """

    envelopes: pl.DataFrame
    counts: Ints
    events: pl.DataFrame
    is_body: Mask

    def events_of(self, wanted: Mask) -> pl.DataFrame:
        """One row an event of the wanted bodies, in order."""
        events = self.events
        if self.counts[~wanted].any():
            rows = self.is_body.copy()
            rows[self.is_body] = wanted
            events = events.filter(pl.Series(rows))
        return events.explode("events", empty_as_null=False).unnest("events")


def decode(items: Sequence[admission.Authentic | Refused], topic: str, partition: int) -> Decoded:
    """All records of a stretch; those that cannot be decoded or do not fit are in `refused`."""
    refused = {i: item for i, item in enumerate(items) if isinstance(item, Refused)}
    numbers = [i for i in range(len(items)) if i not in refused] if refused else range(len(items))
    authentic = [item for item in items if not isinstance(item, Refused)]
    values = [item.record.value for item in authentic]
    if {value[: codec.PREFIX_LENGTH] for value in values} <= {SCHEMA.prefix}:
        block = _read([value[codec.PREFIX_LENGTH :] for value in values], _ends([item.kid for item in authentic]))
        if block is not None:
            return _columnar(len(items), numbers, authentic, block, refused, (topic, partition))
    return _one_by_one(len(items), numbers, authentic, refused, (topic, partition))


def _ends(kids: Sequence[str]) -> list[int]:
    """After which bodies a sentinel stands: the last one of each run of one key id."""
    return [*(at for at, (kid, after) in enumerate(pairwise(kids), start=1) if kid != after), len(kids)]


def _read(bodies: list[bytes], ends: list[int]) -> _Block | None:
    """None where the block is not what it announces."""
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
    is_body = np.ones(len(parts), np.bool_)
    is_body[sentinels] = False
    counts = frame["events"].list.len().to_numpy().astype(np.int64)[is_body]
    return _Block(frame.drop("events").filter(pl.Series(is_body)), counts, frame.select("events"), is_body)


@lru_cache(maxsize=65_536)
def _start_of(epoch: str) -> int | None:
    try:
        return epoch_start_us(epoch)
    except ValueError:
        return None


def _columnar(
    records: int,
    numbers: Sequence[int],
    authentic: Sequence[admission.Authentic],
    block: _Block,
    refused: dict[int, Refused],
    place: tuple[str, int],
) -> Decoded:
    counts = block.counts
    fits = _fits(block.envelopes, counts, authentic, place)
    for at in np.flatnonzero(~fits).tolist():
        item = authentic[at]
        wrong = admission.envelope_refusal(item, block.envelopes.row(at, named=True), int(counts[at]), *place)
        if wrong is None:
            fits[at] = True
        else:
            refused[numbers[at]] = Refused(item.record, *wrong, item.gateway_id)
    places = np.array(numbers, np.int64)
    events = block.events_of(fits).with_columns(_AS_PLAIN_TYPES)
    envelopes = _envelopes(records, block.envelopes, places, fits, counts)
    return Decoded(envelopes, refused, events, *_positions(places[fits], counts[fits]))


def _envelopes(records: int, frame: pl.DataFrame, numbers: Ints, fits: Mask, counts: Ints) -> Envelopes:
    """`frame` has the envelope of the records `numbers`, of which those that `fits` are taken."""
    present = np.zeros(records, np.bool_)
    count, first = np.zeros(records, np.int64), np.zeros(records, np.int64)
    present[numbers] = fits
    count[numbers] = np.where(fits, counts, 0)
    first[numbers] = frame["first_sequence"].to_numpy()
    row_of = np.zeros(records, np.int64)
    row_of[numbers] = np.arange(len(numbers))

    def texts(name: str) -> pl.Series:
        values = frame[name].cast(pl.String)
        if len(values) == records and fits.all():
            return values
        if not len(values):
            return pl.Series(name, [""] * records, pl.String)
        return pl.select(pl.when(pl.Series(present)).then(values.gather(row_of)).otherwise(pl.lit(""))).to_series()

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
        attested=_attested(frame, numbers, fits),
    )


def _attested(frame: pl.DataFrame, numbers: Ints, fits: Mask) -> dict[int, bytes]:
    rows = np.flatnonzero(frame["attestation"].is_not_null().to_numpy() & fits)
    if not len(rows):
        return {}
    return dict(zip(numbers[rows].tolist(), frame["attestation"][rows].to_list(), strict=True))


def _fits(frame: pl.DataFrame, counts: Ints, authentic: Sequence[admission.Authentic], place: tuple[str, int]) -> Mask:
    """The checks of `admission.envelope_refusal` for all records at once; False means: ask it."""
    timestamps = np.array([item.record.timestamp_us for item in authentic], np.int64)
    owners = pl.Series([item.gateway_id for item in authentic], dtype=pl.String)
    epochs = frame["epoch"]
    starts = {epoch: _start_of(epoch) for epoch in epochs.unique().to_list()}
    start = pl.Series([starts[epoch] for epoch in epochs.to_list()], dtype=pl.Int64)
    topic, partition = place
    checks = frame.select(
        pl.all_horizontal(
            pl.col("gateway_id") == owners,
            pl.col("topic") == topic,
            pl.col("partition") == partition,
            pl.col("first_sequence").is_between(0, limits.MAX_SEQUENCE),
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
    numbers: Sequence[int],
    authentic: Sequence[admission.Authentic],
    refused: dict[int, Refused],
    place: tuple[str, int],
) -> Decoded:
    batches: list[Batch] = []
    decoded: list[int] = []
    for i, item in zip(numbers, authentic, strict=True):
        batch = admission.decode(item, *place)
        if isinstance(batch, Refused):
            refused[i] = batch
        else:
            batches.append(batch)
            decoded.append(i)
    frame = pl.DataFrame([batch.envelope for batch in batches], schema=ENVELOPE_SCHEMA)
    events = pl.DataFrame([event for batch in batches for event in batch.events], schema=EVENT_SCHEMA)
    counts = np.array([len(batch.events) for batch in batches], np.int64)
    places = np.array(decoded, np.int64)
    envelopes = _envelopes(records, frame, places, np.ones(len(places), np.bool_), counts)
    return Decoded(envelopes, refused, events, *_positions(places, counts))


def _schemas() -> tuple[pl.Schema, pl.Schema]:
    empty = _read([], [0])
    if empty is None:
        raise AssertionError("polars-avro cannot read the sentinel of this schema")
    struct = empty.events.schema["events"]
    fields = {entry.name: entry.dtype for entry in struct.inner.fields}  # type: ignore[attr-defined]
    fields |= dict.fromkeys(_TIMES, pl.Int64()) | dict.fromkeys(_ENUMS, pl.String())
    kept = ("gateway_id", "epoch", "first_sequence", "counters", "closed", "attestation")
    envelope = {name: empty.envelopes.schema[name] for name in kept} | {"gateway_kind": pl.String()}
    return pl.Schema(fields), pl.Schema(envelope)


EVENT_SCHEMA, ENVELOPE_SCHEMA = _schemas()
"""Columns of `Decoded.events`, and what is kept of an envelope."""
