"""`gateway_epochs` event by event: what is compared does not depend on how runs of sequences were cut."""

from __future__ import annotations

import hashlib
from typing import Any

from gatemeter.processors.auditing.comparing import KEPT
from gatemeter.sinks.arrow import rows_to_arrow
from support.facts import blank_row

(RECEIVED,) = (kept for kept in KEPT if kept.table == "gateway_epochs")


def content(sequence: int) -> bytes:
    return hashlib.blake2b(str(sequence).encode(), digest_size=16).digest()


def run(first: int, after: int, **changes: Any) -> dict[str, Any]:
    hashes = b"".join(content(sequence) for sequence in range(first, after))
    row = {"gateway_id": "gw", "epoch": "e", "first_sequence": first, "next_sequence": after, "content_hashes": hashes}
    return blank_row("gateway_epochs") | row | changes


def test_other_cuts_give_the_same_events() -> None:
    whole = RECEIVED.frame(rows_to_arrow("gateway_epochs", [run(3, 10)]))
    parts = RECEIVED.frame(rows_to_arrow("gateway_epochs", [run(3, 5), run(5, 5), run(5, 10)]))
    assert whole.equals(parts)
    assert whole["content_hash"].to_list() == [content(sequence) for sequence in range(3, 10)]
    assert whole["sequence"].to_list() == list(range(3, 10))


def test_hashes_of_another_length_differ_and_shift_nothing() -> None:
    rows = [run(0, 2, content_hashes=content(0)), run(2, 4, content_hashes=b"x" * 99), run(4, 5)]
    hashes = RECEIVED.frame(rows_to_arrow("gateway_epochs", rows))["content_hash"].to_list()
    assert hashes == [content(0), bytes(16), b"x" * 16, b"x" * 16, content(4)]


def test_a_long_run_takes_the_memory_of_its_hashes_only() -> None:
    frame = RECEIVED.frame(rows_to_arrow("gateway_epochs", [run(0, 100_000)]))
    assert frame.height == 100_000
    assert frame.row(99_999)[3] == content(99_999)
    assert frame.estimated_size() < 100 * 100_000
