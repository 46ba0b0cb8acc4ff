"""The port through which the processors write: a sink of Arrow tables, and the two ways in which it fails.

SinkError
├── SinkUnavailable   try again after `retry_after`; the write may or may not have been applied
└── SinkRefused       the request itself is wrong; repeating it cannot help
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import pyarrow as pa


class SinkError(Exception):
    """Every failure of a sink is one of these."""


class SinkUnavailable(SinkError):
    """The sink did not answer or was not able to. Rows are keyed, so writing them again changes nothing."""

    def __init__(self, message: str, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkRefused(SinkError):
    """The sink says that the request is wrong (unknown table, type mismatch, access denied). `code`: ClickHouse's."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class FactSink(Protocol):
    """What the flush needs. Both methods block: callers use a thread. Both raise `SinkUnavailable` or `SinkRefused`."""

    def write(self, table: str, rows: pa.Table) -> None:
        """Insert `rows` (columns of `tables.TABLES[table]`); they are durable on return."""

    def latest_checkpoint(self, topic: str, partition: int) -> dict[str, Any] | None:
        """The row of `ingest_batches` with the greatest `next_offset`; times as microseconds, bytes as bytes.

        None only where there is truly no row: a failed read raises, it never means "start at the beginning".
        """
