"""Batches keep order, hold one unbroken stretch of one partition each, and stay within their limits."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.batching import Batch, Batcher
from gatemeter.producers.origins import Held, Origin, Taken
from gatemeter.producers.segments import MemorySegment, SegmentHeader

_HEADER = SegmentHeader(
    gateway_id="g", gateway_kind="k", epoch="e", topic="t", partitions=3, next_sequences=[], dropped=[], fields={}
)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400), st.booleans(), st.integers(0, 50)), max_size=200),
    st.integers(1, 12),
    st.integers(100, 1000),
)
def test_batches_are_unbroken_ordered_and_within_limits(
    arrivals: list[tuple[int, int, bool, int]], max_events: int, max_bytes: int
) -> None:
    batcher = Batcher(max_events=max_events, max_bytes=max_bytes, linger_s=0.25)
    origin, held = Origin("g", "k", "e", "t"), Held(MemorySegment(0), _HEADER, 0)
    batches: list[Batch] = []
    sequences: dict[int, int] = defaultdict(int)
    expected: dict[int, list[int]] = defaultdict(list)
    now_s, oldest = 0.0, 0.0
    for partition, size, is_hole, wait_ms in arrivals:
        now_s += wait_ms / 1000
        sequences[partition] += is_hole
        cut = batcher.add(origin, Taken(held, partition, sequences[partition], b"x" * size), now_s)
        expected[partition].append(sequences[partition])
        sequences[partition] += 1
        batches += [cut] if cut is not None else []
        due = batcher.due(now_s)
        assert all(now_s - batch.started_s >= 0.25 for batch in due)
        batches += due
        oldest = max([now_s - batch.started_s for batch in due], default=oldest)
    batches += batcher.drain()
    assert not batcher.drain()
    found: dict[int, list[int]] = defaultdict(list)
    for batch in batches:
        assert 1 <= len(batch.items) <= max_events
        assert batch.size == sum(map(len, batch.items))
        assert batch.size <= max_bytes or len(batch.items) == 1
        assert len(batch.held) == len(batch.items)
        found[batch.partition] += range(batch.first_sequence, batch.first_sequence + len(batch.items))
    assert found == expected


@given(st.integers(2, 50))
def test_halves_hold_the_same_events(count: int) -> None:
    held = Held(MemorySegment(0), _HEADER, 0)
    batch = Batch(Origin("g", "k", "e", "t"), 1, 7, 0.0, [bytes((n,)) for n in range(count)], [held] * count)
    first, second = batch.halves()
    assert first.items + second.items == batch.items
    assert (first.first_sequence, second.first_sequence) == (7, 7 + len(first.items))
    assert first.items and second.items
