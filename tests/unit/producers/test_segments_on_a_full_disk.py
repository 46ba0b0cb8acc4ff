"""A write that a full disk cut short leaves nothing behind: not in the way of the next, and not for the heir."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatemeter.producers.segments import FileSegment, frame, read_records


@pytest.mark.parametrize("cut", [1, 5, 21, 60])
def test_a_part_of_a_record_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Else a shorter record written over it would be followed by its rest, which reads as damage."""
    path = tmp_path / "0.seg"
    segment = FileSegment.create(path, 0, fsync=False)
    segment.append(frame(0, 0, b"first"))
    write = os.pwrite
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:cut], offset))
        with pytest.raises(OSError, match=f"only {cut} of"):
            segment.append(frame(0, 1, b"x" * 100))
    assert path.stat().st_size == segment.size
    segment.append(frame(0, 1, b"next"))
    segment.close()
    left = FileSegment.open(path, 0)
    assert [(record.sequence, record.body) for record in read_records(left, 0)] == [(0, b"first"), (1, b"next")]
    left.close()
