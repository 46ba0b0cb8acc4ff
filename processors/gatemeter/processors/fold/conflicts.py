"""Conflicts: one key, two contents. Neither overwrites the other; a row keeps both as bytes and says what differs.

The fold remembers of the copy that came first its offset and content hash, not its bytes: that record is read again
from the log, which nobody changes and which is kept from `replay_from` on. So the row is a pure function of the log,
and it is complete or it is not written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gatemeter.processors.fold.exchanges import Conflict
from gatemeter.processors.fold.notices import exception
from gatemeter.processors.fold.state import CONFLICT
from gatemeter.processors.fold.types import LogRecord, LoudStop, Row
from gatemeter.processors.generations import next_generation
from gatemeter.schemas import codec
from gatemeter.schemas.uncounted import TEXT_FIELDS

LONGEST_TEXT: Final = 200
"""Characters of a field that `detail` shows; the records beside it have all of them."""

RecordAt = Callable[[int], LogRecord]
"""The partition's record at an offset. What it raises is the caller's: the fold has no part in it."""


def wanted(conflicts: Iterable[Conflict], held: Mapping[int, LogRecord]) -> list[int]:
    """Offsets of the records to read again, in order; those `held` are at hand."""
    return sorted({conflict.first.offset for conflict in conflicts} - held.keys())


def conflict_rows(conflicts: Iterable[Conflict], record_at: RecordAt) -> list[Row]:
    """Rows of `exceptions` in log order. A record's bytes stand in its first row, those of a first copy likewise.

    Raises `LoudStop` where the log holds another record under an offset than the one that was folded.
    """
    rows: list[Row] = []
    events: dict[int, list[dict[str, Any]]] = {}
    kept: set[tuple[int, int]] = set()

    def events_of(record: LogRecord) -> list[dict[str, Any]]:
        if record.offset not in events:
            events[record.offset] = _events(record)
        return events[record.offset]

    for conflict in sorted(conflicts, key=lambda each: (each.record.offset, each.index)):
        offset, first = conflict.record.offset, record_at(conflict.first.offset)
        raw = b"" if (offset, -1) in kept else conflict.record.value
        first_raw = b"" if (offset, first.offset) in kept else first.value
        kept |= {(offset, -1), (offset, first.offset)}
        row = exception(conflict.event, conflict.index, conflict.source, CONFLICT, raw)
        earlier = _first_of(conflict, events_of(first))
        detail = json.loads(row["detail"]) | {
            "first_content_hash": conflict.first.content_hash.hex(),
            "differs": differences(earlier, events_of(conflict.record)[conflict.index]),
        }
        rows.append(
            row | {"detail": json.dumps(detail, sort_keys=True), "first_offset": first.offset, "first_raw": first_raw}
        )
    return rows


def _events(record: LogRecord) -> list[dict[str, Any]]:
    try:
        events: list[dict[str, Any]] = codec.decode(record.value).datum.get("events", [])
    except codec.CodecError:
        return []
    return events


def _first_of(conflict: Conflict, events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    for event in events:
        if event["content_hash"] == conflict.first.content_hash:
            return event
    raise LoudStop(
        f"{conflict.source.topic}[{conflict.source.partition}]: the record at offset {conflict.first.offset} is not the"
        f" one that was folded there: the log was re-created; restore it, or {next_generation(conflict.source.topic)}"
        " (docs/operating.md, 'Loud stops')"
    )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields that differ, in the order of the schema, with both values; times in microseconds."""
    return [
        {"field": name, "first": _shown(name, first[name]), "second": _shown(name, second[name])}
        for name in codec.EVENT_FIELDS
        if first[name] != second[name]
    ]


def _shown(name: str, value: Any) -> Any:
    if name in TEXT_FIELDS and value is not None:
        return f"text of {len(value)} characters"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[:LONGEST_TEXT] + "…"
    return value
