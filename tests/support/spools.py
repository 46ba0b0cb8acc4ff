"""What lies in a spool, as fields: what a hook said, whatever became of its process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gatemeter.producers.events import FIELDS
from gatemeter.producers.segments import FileSegment, read_header, read_records


def spooled(folder: Path, planted: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The events in a spool, oldest first; none of them holds what was planted."""
    for path in sorted(folder.rglob("*.seg")):
        segment = FileSegment.open(path, 0)
        found = read_header(segment)
        for record in () if found is None else read_records(segment, found[1]):
            assert not any(text.encode() in record.body for text in planted)
            kind, *values = msgspec.msgpack.decode(record.body)
            yield {"kind": kind, **dict(zip(FIELDS[kind], values, strict=False))}
        segment.close()
