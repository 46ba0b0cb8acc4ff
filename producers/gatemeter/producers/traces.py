"""Recorded traffic, read from CSV or JSONL and played again at a chosen speed.

CSV: the columns of the Azure LLM inference trace (TIMESTAMP in UTC, ContextTokens, GeneratedTokens), one request a row.
JSONL: one event a line, the fields of `events.py` and `kind` (REQUEST, RESPONSE or POLICY);
`occurred_at` is `request_started_at` unless given.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gatemeter.producers.events import EVENT_TYPES, Event, RequestEvent, ResponseEvent, new_request_id
from gatemeter.producers.validation import InvalidEvent, spool_form

CSV_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_SECOND_US: Final = 1_000_000


class TraceError(ValueError):
    """A line that cannot be read. The text names file, line and what is accepted."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a CSV trace; `at_us` in microseconds, UTC."""

    at_us: int
    input_tokens: int
    output_tokens: int


def read_csv(path: Path) -> Iterator[TraceRow]:
    """The rows in file order. Raises `TraceError`."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = tuple(next(lines, ()))
        if header != CSV_COLUMNS:
            raise TraceError(f"{path}: line 1: must be {','.join(CSV_COLUMNS)}, got {','.join(header)}")
        for cells in lines:
            try:
                at, given, generated = cells
                yield TraceRow(_time_us(at), int(given), int(generated))
            except ValueError as error:
                raise TraceError(
                    f"{path}: line {lines.line_num}: must be a time like 2023-11-16 18:17:03.9799600 and two integers,"
                    f" got {','.join(cells)} ({error})"
                ) from None


def _time_us(text: str) -> int:
    whole, _, fraction = text.partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * _SECOND_US + int((fraction + "000000")[:6])


def csv_events(rows: Iterable[TraceRow], **who: Any) -> Iterator[Event]:
    """A REQUEST and its RESPONSE for each row, with new request ids. `who`: further fields of both."""
    for row in rows:
        common = {**who, "request_id": new_request_id(), "request_started_at": row.at_us, "occurred_at": row.at_us}
        yield RequestEvent(**common)
        yield ResponseEvent(
            **common,
            status="ok",
            delivered=True,
            usage_source="reported",
            input_text_uncached=row.input_tokens,
            output_text_visible=row.output_tokens,
        )


def read_jsonl(path: Path) -> Iterator[Event]:
    """The events in file order, types and ranges checked. Raises `TraceError`."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _event(f"{path}: line {number}", line)


def _event(where: str, line: str) -> Event:
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError
        kind = EVENT_TYPES[fields.pop("kind")]
    except ValueError:
        raise TraceError(f"{where}: must be a JSON object") from None
    except (KeyError, TypeError):
        raise TraceError(f"{where}: kind: must be one of {', '.join(EVENT_TYPES)}") from None
    unknown = sorted(set(fields) - set(kind.__struct_fields__))
    if unknown:
        raise TraceError(f"{where}: {', '.join(unknown)}: not a field of this kind of event")
    try:
        event = kind(**{"occurred_at": fields.get("request_started_at"), **fields})
        spool_form(event)
    except (TypeError, InvalidEvent) as error:
        raise TraceError(f"{where}: {error}") from None
    return event


def shifted(events: Iterable[Event], shift_us: int) -> Iterator[Event]:
    """The events with their times moved by `shift_us`."""
    for event in events:
        event.request_started_at += shift_us
        event.occurred_at += shift_us
        yield event


def replay(
    events: Iterable[Event],
    send: Callable[[Event], object],
    *,
    first_us: int,
    speed: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Sends each event when it is due: `first_us` is the trace's beginning, `speed` 1 real time, 60 a minute in a
    second, None flat out. Returns how many were sent."""
    began, sent = clock(), 0
    for event in events:
        if speed is not None:
            wait = (event.occurred_at - first_us) / _SECOND_US / speed - (clock() - began)
            if wait > 0:
                sleep(wait)
        send(event)
        sent += 1
    return sent
