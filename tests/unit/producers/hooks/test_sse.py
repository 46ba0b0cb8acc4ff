"""Payloads from bytes as they pass: server-sent events and newline-delimited JSON."""

from __future__ import annotations

import pytest

from gatemeter.producers.hooks.sse import JsonLines, ServerSentEvents


@pytest.mark.parametrize(
    ("text", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\nid: 1\nretry: 5\n: a comment\ndata: a\n\n", [b"a"]),
        (b": keep-alive\n\nevent: nothing\n\ndatabase: x\n\n", []),
        (b"data\n\n", [b""]),
        (b"data: unended", [b"unended"]),
        (b"data: unended\n", [b"unended"]),
        (b"", []),
    ],
)
def test_events_are_found_wherever_the_chunks_are_cut(text: bytes, payloads: list[bytes]) -> None:
    for size in range(1, len(text) + 2):
        events = ServerSentEvents()
        got = [payload for at in range(0, len(text), size) for payload in events.feed(text[at : at + size])]
        assert got + events.end() == payloads, size


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_an_event_over_the_bound_is_left_out_and_the_next_is_read(size: int) -> None:
    text = b"data: " + b"x" * 50 + b"\n\ndata: ok\n\n" + b"data: 1234\ndata: 1234\ndata: 1234\n\ndata: ok\n\n"
    events = ServerSentEvents(max_bytes=10)
    got = [payload for at in range(0, len(text), size) for payload in events.feed(text[at : at + size])]
    assert (got, events.oversized) == ([b"ok", b"ok"], 2)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_of_json_are_found_wherever_the_chunks_are_cut(size: int) -> None:
    text = b'{"a":1}\n\n{"b":2}\r\n' + b"x" * 50 + b'\n{"c":3}'
    lines = JsonLines(max_bytes=10)
    got = [payload for at in range(0, len(text), size) for payload in lines.feed(text[at : at + size])]
    assert got + lines.end() == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert lines.oversized == 1
