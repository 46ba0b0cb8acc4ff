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
