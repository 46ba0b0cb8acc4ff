"""Rows of a run go into `corrections`, where they are without effect until a COMMIT names their run and digest.

A staging that died half-way left rows that nobody can commit: its digest was never said. Staging the same run again
writes equal rows, which are read once.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow, Digest
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.port import FactSink

ROWS_AN_INSERT: Final = 10_000


@dataclass(frozen=True, slots=True)
class StagedRun:
    """A run whose rows are all in ClickHouse; a COMMIT names these three."""

    run_id: str
    entries: int
    digest: bytes


def new_run_id(known: int, at: datetime | None = None) -> str:
    """Time (UTC), 64 random bits, and how many runs were committed when it was computed.

    Example: 20261124T123444Z-5f0c1a2b3c4d5e6f-17. Later runs sort later.
    """
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}-{known}"


def known_to(run_id: str) -> int:
    """How many runs were committed when this one was computed. Raises `CorrectionError` for another kind of id."""
    match = re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{16}-(\d{1,12})", run_id)
    if match is None:
        raise CorrectionError(f"run must be an id such as 20261124T123444Z-5f0c1a2b3c4d5e6f-17, got {run_id!r}")
    return int(match[1])


def stage(sink: FactSink, run_id: str, rows: Iterable[CorrectionRow]) -> StagedRun:
    """Writes `rows` (of this run, in order of entry) in inserts of 10,000.

    Raises `CorrectionError`, `SinkUnavailable`, `SinkRefused`.
    """
    digest = Digest()
    waiting: list[CorrectionRow] = []
    for row in rows:
        digest.add(row)
        waiting.append(row)
        if len(waiting) == ROWS_AN_INSERT:
            _write(sink, waiting)
            waiting.clear()
    _write(sink, waiting)
    return StagedRun(run_id, digest.entries, digest.value)


def _write(sink: FactSink, rows: list[CorrectionRow]) -> None:
    if rows:
        sink.write("corrections", rows_to_arrow("corrections", [row.table_row() for row in rows]))
