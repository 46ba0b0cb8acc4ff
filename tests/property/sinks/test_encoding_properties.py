"""Bodies come out whole whatever their frames and however the network cut them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.sinks.local.encodings import decoder
from gatemeter.sinks.local.errors import FrontError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
PARTS = st.lists(st.binary(max_size=300) | st.builds(lambda n: b"\0" * n, st.integers(0, 3_000_000)), max_size=4)


def cut(body: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in at)})
    return [body[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("encoding", PACK)
@given(parts=PARTS, at=st.lists(st.integers(0, 10_000), max_size=5))
@settings(max_examples=50, deadline=None)
def test_all_frames_come_out_however_they_are_cut(encoding: str, parts: list[bytes], at: list[int]) -> None:
    unpack = decoder(encoding)
    body = b"".join(PACK[encoding](part) for part in parts)
    pieces = [piece for chunk in cut(body, at) for piece in unpack.feed(chunk)]
    unpack.finish()
    assert b"".join(pieces) == b"".join(parts)
    assert encoding == "identity" or all(len(piece) <= 1 << 20 for piece in pieces)


@pytest.mark.parametrize("encoding", [name for name in PACK if name != "identity"])
@given(part=st.binary(min_size=1, max_size=300), lost=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_a_body_that_was_cut_short_is_an_error(encoding: str, part: bytes, lost: int) -> None:
    unpack = decoder(encoding)
    body = PACK[encoding](part)[:-lost]
    with pytest.raises(FrontError):
        list(unpack.feed(body))
        unpack.finish()


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
def test_garbage_is_an_error(encoding: str) -> None:
    unpack = decoder(encoding)
    with pytest.raises(FrontError):
        list(unpack.feed(b"this is not compressed at all, not even a little"))
        unpack.finish()
