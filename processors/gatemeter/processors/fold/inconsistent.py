"""Exceptions for usage that does not add up: one row a record and model, with how often and what the first one says.

The gateway compared the provider's totals with the sum of the buckets (docs/usage.md); the fold keeps and prices what
the buckets say and moves nothing. As in `unpriced.py` the rows are a pure function of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from gatemeter.processors.fold.types import Row, Rows
from gatemeter.processors.fold.unpriced import FIRST, TOKENS_IN, TOKENS_OUT, First, exception_row
from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS

INCONSISTENT: Final = "usage_inconsistent"
MISMATCH: Final = "mismatch"
_WHAT: Final = ("provider", "model", "served_model", "operation")


@dataclass(slots=True)
class _Marked:
    """Marked events of one record and model; `said`: what the first one says does not add up, a line each."""

    first: First
    said: str
    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class InconsistentBook:
    """What was marked since the last call of `into`, by offset and model."""

    _found: dict[tuple[int, tuple[str, ...]], _Marked] = field(default_factory=dict)

    def usage(self, fact: Mapping[str, Any], mismatches: str | None) -> None:
        """One marked usage fact, and the `usage_mismatches` of its event."""
        tokens = (sum(fact[name] or 0 for name in names) for names in (INPUT_BUCKETS, OUTPUT_BUCKETS))
        what = tuple(fact[name] for name in _WHAT)
        self._add(fact["offset"], what, First(*(fact[name] for name in FIRST)), mismatches or "", (1, *tokens))

    def usages(self, facts: pl.DataFrame) -> None:
        """Marked usage facts in log order, with the column `usage_mismatches` of their events."""
        sums = (pl.len(), TOKENS_IN.sum().alias("in_sum"), TOKENS_OUT.sum().alias("out_sum"))
        grouped = facts.group_by("offset", *_WHAT, maintain_order=True)
        for row in grouped.agg(pl.col(*FIRST, "usage_mismatches").first(), *sums).iter_rows(named=True):
            what = tuple(row[name] for name in _WHAT)
            counts = row["len"], row["in_sum"], row["out_sum"]
            first = First(*(row[name] for name in FIRST))
            self._add(row["offset"], what, first, row["usage_mismatches"] or "", counts)

    def _add(self, offset: int, what: tuple[str, ...], first: First, said: str, counts: tuple[int, ...]) -> None:
        entry = self._found.get((offset, what))
        if entry is None:
            entry = self._found[offset, what] = _Marked(first, said)
        if first < entry.first:
            entry.first, entry.said = first, said
        entry.events += counts[0]
        entry.input_tokens += counts[1]
        entry.output_tokens += counts[2]

    def into(self, rows: Rows, topic: str, partition: int) -> None:
        """Adds the rows of `exceptions`, and forgets them."""
        for (offset, what), entry in sorted(self._found.items(), key=lambda item: (item[0][0], item[1].first)):
            detail = _detail(what, entry)
            rows.add("exceptions", exception_row((topic, partition, offset), INCONSISTENT, entry.first, detail))
        self._found = {}


def _detail(what: tuple[str, ...], entry: _Marked) -> Row:
    return {
        "event": "RESPONSE",
        **dict(zip(_WHAT, what, strict=True)),
        "mismatches": entry.said.splitlines(),
        "events": entry.events,
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "request_started_at_us": entry.first.request_started_at,
    }
