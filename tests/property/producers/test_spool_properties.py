"""Whatever is written, cut or torn: the spool gives back a prefix of what was accepted, and the bytes are the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.encoding import EventEncoder
from gatemeter.producers.events import EVENT_TYPES, FIELDS, MAX_TIME_US, Event
from gatemeter.producers.segments import (
    Damaged,
    FileSegment,
    MemorySegment,
    Record,
    SegmentHeader,
    frame,
    header_bytes,
    read_header,
    read_records,
)
from gatemeter.producers.spool import Spool
from gatemeter.producers.validation import InvalidEvent, spool_form
from gatemeter.schemas import codec
from gatemeter.schemas.partitions import partition_of

_HEADER = SegmentHeader(
    gateway_id="gw",
    gateway_kind="inference_proxy",
    epoch="1-2-3",
    topic="t",
    partitions=2,
    next_sequences=[0, 0],
    dropped=[0, 0],
    fields={"REQUEST": ["request_id"]},
)
_BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


def _read(data: bytes) -> list[Record]:
    segment = MemorySegment(0)
    segment.append(data)
    found = read_header(segment)
    return [] if found is None else list(read_records(segment, found[1]))


@given(_BODIES, st.data())
def test_any_cut_of_the_tail_gives_back_the_whole_records_before_it(bodies: list[bytes], data: st.DataObject) -> None:
    start = header_bytes(_HEADER)
    frames = [frame(number % 2, number, body) for number, body in enumerate(bodies)]
    whole = start + b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    zeros = data.draw(st.integers(0, 100)) * b"\0"
    ends = [len(start) + sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    expected = [body for body, end in zip(bodies, ends, strict=True) if end <= cut]
    try:
        records = _read(whole[:cut] + zeros)
    except Damaged:
        assert zeros  # a record that was half data, half zeros is damage or a longer record's beginning, never an event
        return
    assert [record.body for record in records][: len(expected)] == expected
    if not zeros:
        assert len(records) == len(expected)
    assert [record.sequence for record in records] == list(range(len(records)))


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20), st.data())
def test_no_flipped_bit_ever_yields_an_event_that_was_not_written(bodies: list[bytes], data: st.DataObject) -> None:
    start = header_bytes(_HEADER)
    whole = bytearray(start + b"".join(frame(0, number, body) for number, body in enumerate(bodies)))
    at = data.draw(st.integers(len(start), len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    segment, found = MemorySegment(0), []
    segment.append(bytes(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatemeter.producers.segments.CHUNK_BYTES", 64)
        try:
            found.extend(read_records(segment, len(start)))
        except Damaged:
            assert True
    assert [record.body for record in found] == bodies[: len(found)]
    assert len(found) < len(bodies)


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 30), st.integers(1, 3000)),
        st.tuples(st.just("take"), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("free"), st.just(0), st.just(0)),
        st.tuples(st.just("learn"), st.just(0), st.just(0)),
        st.tuples(st.just("prepare"), st.just(0), st.just(0)),
        st.tuples(st.just("renew"), st.just(0), st.just(0)),
    ),
    max_size=120,
)


def _body(request_id: str, size: int) -> bytes:
    event: dict[str, Any] = dict.fromkeys(FIELDS["REQUEST"])
    event |= {"request_id": request_id, "request_started_at": 1, "occurred_at": 1, "attempt": 1, "model": "m" * size}
    event |= {"identity_source": "mtls", "workload_class": "batch", "purpose": "workload"}
    return msgspec.msgpack.encode(["REQUEST", *event.values()])


class _Program:
    """Runs operations on a spool and keeps what they must have done."""

    def __init__(self, folder: Path | None) -> None:
        def new_segment(number: int) -> Any:
            if folder is None:
                return MemorySegment(number)
            return FileSegment.create(folder / f"{number:08d}.seg", number, fsync=False)

        self.spool = Spool(
            "gw",
            "inference_proxy",
            "1-1-a",
            "t",
            new_segment=new_segment,
            max_bytes=64 * 1024,
            segment_bytes=8 * 1024,
            complaints=Complaints(),
        )
        self.accepted: list[str] = []
        self.dropped = 0
        self.taken: list[tuple[int, int]] = []

    def append(self, number: int, size: int) -> None:
        request_id = f"request-{number}-{len(self.accepted)}"
        if self.spool.append(request_id, _body(request_id, size)):
            self.accepted.append(request_id)
        else:
            self.dropped += 1

    def take(self, count: int, _: int) -> None:
        for _number, event in zip(range(count), self.spool.take(), strict=False):
            self.taken.append((event.partition, event.sequence))
            self.spool.settle(event.held, event.partition, 1)

    def free(self, *_: int) -> None:
        for held in self.spool.freeable():
            self.spool.free(held)

    def learn(self, *_: int) -> None:
        if not self.spool.partitions:
            self.spool.learn(3)

    def prepare(self, *_: int) -> None:
        self.spool.prepare()

    def renew(self, *_: int) -> None:
        self.spool.renew()


@given(_OPERATIONS, st.booleans())
def test_sequences_have_no_holes_whatever_is_dropped_freed_and_when_the_partitions_become_known(
    operations: list[tuple[str, int, int]], in_files: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = _Program(Path(folder) if in_files else None)
        for name, first, second in operations:
            getattr(program, name)(first, second)
            assert program.spool.bytes <= 64 * 1024 + 4096
        program.learn()
        program.take(1 << 30, 0)
        expected: list[tuple[int, int]] = []
        numbers = [0, 0, 0]
        for request_id in program.accepted:
            partition = partition_of(request_id, 3)
            expected.append((partition, numbers[partition]))
            numbers[partition] += 1
        totals = program.spool.totals()
        assert (program.taken, totals.spooled) == (expected, 0)
        assert (totals.emitted, totals.dropped) == (len(program.accepted), program.dropped)
        assert program.spool.next_sequences == numbers
        program.spool.close()


_TEXT = st.none() | st.text(st.characters(codec="utf-8"), max_size=40)
_SPECIAL = {
    "request_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    "decision_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    "policy_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    "client_network": st.none() | st.sampled_from(["203.0.113.0/24", "2001:db8:7::/48"]),
    "identity_source": st.sampled_from(["verified_credential", "mtls", "header_claim"]),
    "workload_class": st.sampled_from(["realtime", "batch"]),
    "purpose": st.sampled_from(["workload", "policy_evaluation"]),
    "status": st.sampled_from(["ok", "error", "cancelled", "timeout"]),
    "outcome": st.sampled_from(["allow", "deny", "redact", "flag", "error"]),
    "gateway_cache": st.sampled_from(["none", "miss", "exact", "semantic"]),
    "usage_source": st.sampled_from([None, "reported", "estimated", "missing"]),
    "usage_consistency": st.just("mismatch"),
    "attempt": st.integers(1, 65_535),
    "usage_revision": st.integers(0, 127),
    "units": st.none() | st.integers(0, 10_000_000),
    "scanned_tokens": st.none() | st.integers(0, 50_000_000),
    "latency_us": st.none() | st.integers(0, 10**12),
    "ttft_us": st.none() | st.integers(0, 10**12),
    "http_status": st.none() | st.integers(0, 999),
    "stream": st.none() | st.booleans(),
    "delivered": st.none() | st.booleans(),
}
_COUNTS = ("input_", "output_", "images", "media_ms", "searches", "tool_calls")


@st.composite
def _events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(sorted(EVENT_TYPES)))
    fields: dict[str, Any] = {}
    for name in FIELDS[kind]:
        if name.startswith(_COUNTS):
            fields[name] = draw(st.none() | st.integers(0, 10_000))
        elif name not in ("request_started_at", "occurred_at"):
            fields[name] = draw(_SPECIAL.get(name, _TEXT))
    occurred = draw(st.integers(0, MAX_TIME_US))
    started = max(0, occurred - draw(st.integers(0, 10**12)))
    return EVENT_TYPES[kind](**fields, occurred_at=occurred, request_started_at=started)


@given(_events())
def test_the_fast_encoder_writes_what_the_schema_says(event: Event) -> None:
    body = spool_form(event)
    kind = msgspec.msgpack.decode(body)[0]
    datum: dict[str, Any] = dict.fromkeys(codec.EVENT_FIELDS)
    defaults = {"workload_class": "realtime", "purpose": "workload", "gateway_cache": "none", "usage_revision": 0}
    datum |= defaults | msgspec.structs.asdict(event) | {"kind": kind}
    encoded = EventEncoder(FIELDS).encode(body)
    assert encoded == codec.encode_event(datum)
    assert encoded == EventEncoder(FIELDS).encode(body)
    assert len(encoded) <= len(body) + 300


@given(
    st.dictionaries(st.sampled_from(FIELDS["RESPONSE"]), st.integers() | st.text(max_size=5) | st.floats() | st.none())
)
def test_validation_refuses_or_accepts_and_never_fails_otherwise(fields: dict[str, Any]) -> None:
    values = {"request_id": "r", "request_started_at": 1, "status": "ok", **fields}
    try:
        body = spool_form(EVENT_TYPES["RESPONSE"](**values))
    except InvalidEvent as refusal:
        assert "RESPONSE" in str(refusal)
    else:
        assert len(EventEncoder(FIELDS).encode(body)) > 16
