"""What a seal of an hour holds: leaves and entries computed from ClickHouse, and their roots. Writes nothing.

A pure function of the rows posted up to the hour, the corrections committed up to it, the ledger of earlier seals and
the open period: a sealer makes a seal of it, an audit computes the same of an old hour and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import CorrectionError
from gatemeter.processors.corrections.runs import committed_in
from gatemeter.processors.sealing.encoding import avro_bodies
from gatemeter.processors.sealing.entries import LedgerDiffers, entries_of, free_entries
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.leaves import correction_leaves, fact_leaves
from gatemeter.processors.sealing.reading import SealReader
from gatemeter.processors.sealing.rows import ledger_table
from gatemeter.processors.sealing.spooling import Spool
from gatemeter.schemas import merkle

ROWS_A_RANGE: Final = 50_000
"""Rows of an hour that are read, encoded and written together; memory is bounded by it, whatever the hour."""


class SealStopped(Exception):
    """Sealing cannot go on until somebody has looked; one line that names what is wrong."""


@dataclass
class Content:
    """Leaves (`LEAF_COLUMNS`) and entries (rows of `ledger` without a seal's id), on disk where they are many."""

    leaves: Spool = field(default_factory=Spool)
    entries: Spool = field(default_factory=Spool)
    _leaf_tree: merkle.RootBuilder = field(default_factory=merkle.RootBuilder)
    _entry_tree: merkle.RootBuilder = field(default_factory=merkle.RootBuilder)

    @property
    def leaves_root(self) -> bytes:
        """Root of the tree of leaves."""
        return self._leaf_tree.root()

    @property
    def entries_root(self) -> bytes:
        """Root of the tree of entries."""
        return self._entry_tree.root()

    def add_leaves(self, rows: pa.Table) -> None:
        """The next leaves in order."""
        self._leaf_tree.extend(rows.column("leaf").to_pylist())
        self.leaves.add(rows)

    def add_entries(self, entries: pl.DataFrame) -> None:
        """The next entries in order; they are numbered here."""
        rows = ledger_table(entries, "", self.entries.rows)
        self._entry_tree.extend(merkle.leaf_hash(body) for body in avro_bodies("LedgerEntry", rows).to_pylist())
        self.entries.add(rows)


@contextmanager
def content_of(client: Client, hour_us: int, open_period: str, rows_a_range: int = ROWS_A_RANGE) -> Iterator[Content]:
    """The content of an hour; it is forgotten at the end of the block.

    Raises `SealStopped` where it cannot be sealed, `SinkUnavailable`, `SinkRefused`.
    """
    content = Content()
    with content.leaves, content.entries:
        try:
            _fill(content, client, hour_us, open_period, rows_a_range)
        except (CorrectionError, LedgerDiffers, ValueError) as error:
            raise SealStopped(f"hour {utc(hour_us)} cannot be sealed: {error}") from error
        yield content


def _fill(content: Content, client: Client, hour_us: int, open_period: str, rows_a_range: int) -> None:
    reader = SealReader(client)
    for rows in _corrections(client, hour_us, rows_a_range):
        content.add_leaves(correction_leaves(rows))
        content.add_entries(free_entries(rows, hour_us=hour_us, open_period=open_period))
    for kind in ("decision", "usage"):
        for keys in reader.ranges(kind, hour_us, rows_a_range):
            content.add_leaves(fact_leaves(kind, reader.leaf_rows(kind, hour_us, keys)))
            lines = reader.lines(kind, hour_us, keys)
            posted = reader.posted(kind, hour_us, keys)
            content.add_entries(entries_of(kind, lines, posted, hour_us=hour_us, open_period=open_period))


def _corrections(client: Client, hour_us: int, rows_a_range: int) -> Iterator[list[dict[str, Any]]]:
    waiting: list[dict[str, Any]] = []
    for row in committed_in(client, hour_us):
        waiting.append(asdict(row))
        if len(waiting) == rows_a_range:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
