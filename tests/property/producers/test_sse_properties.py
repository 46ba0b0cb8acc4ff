"""Server-sent events: however a stream is cut into chunks, the same payloads come out."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.hooks.sse import ServerSentEvents

PIECES = st.sampled_from(
    [b"data: ", b"data:", b"data", b"a", b"{}", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"event: x"]
)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.lists(st.integers(0, 200), max_size=12), st.integers(1, 30))
def test_where_a_stream_is_cut_does_not_matter(text: bytes, cuts: list[int], max_bytes: int) -> None:
    whole, cut = ServerSentEvents(max_bytes), ServerSentEvents(max_bytes)
    expected = whole.feed(text) + whole.end()
    places = [0, *sorted(min(cut_at, len(text)) for cut_at in cuts), len(text)]
    got = [payload for at, end in itertools.pairwise(places) for payload in cut.feed(text[at:end])]
    assert got + cut.end() == expected
    assert cut.oversized == whole.oversized
    assert all(len(payload) <= max_bytes for payload in expected)


EVENTS = st.sampled_from(
    [
        b"data: {}\n\n",
        b"event: x\ndata: a\n\n",
        b"event: x\n\n",
        b"data: a\r\n\r\n",
        b"data: a\ndata: b\n\n",
        b": c\n\n",
        b"data: a\n",
        b"data:a\n\n",
        b"\n",
        b"data: longer than most, and than any bound of this test\n",
        b"\xef\xbb\xbfdata: a\n\n",
        b"event: \n",
        b"id: 1\n",
        b"data: a\rdata: b\n\n",
        b"data: a\r\r",
        b"event: x\rdata: a\n\n",
        b"da",
        b"data: a",
    ]
)


@given(st.lists(EVENTS, max_size=12), st.integers(8, 40))
def test_whole_events_as_chunks_are_read_as_bytes_one_by_one_are(chunks: list[bytes], max_bytes: int) -> None:
    by_chunk, by_byte = ServerSentEvents(max_bytes), ServerSentEvents(max_bytes)
    got = [payload for chunk in chunks for payload in by_chunk.feed(chunk)] + by_chunk.end()
    single = [payload for byte in b"".join(chunks) for payload in by_byte.feed(bytes([byte]))] + by_byte.end()
    assert got == single
    assert by_chunk.oversized == by_byte.oversized
