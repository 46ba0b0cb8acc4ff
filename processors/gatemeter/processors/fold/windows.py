"""Live totals a minute: windows of one slice (minute of log time) in memory, earlier slices never change again.

A window row is keyed by the minute of the request's start, the dimensions, the partition and the slice; its `revision`
is the offset of the record that changed it last. Totals are sums over slices and partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gatemeter.processors.fold.types import MINUTE_US, Row
from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS

DIMENSIONS: Final = (
    "window_start",
    "gateway_id",
    "tenant_id",
    "app_id",
    "workload_id",
    "provider",
    "model",
    "purpose",
    "evidence_grade",
    "usage_source",
    "policy_id",
    "outcome",
    "currency",
)
MEASURES: Final = (
    "attempts",
    "decisions",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "reasoning_tokens",
    "unpriced_tokens",
    "latency_us",
    "list_cost",
    "provider_cost",
    "token_cost",
    "model_cost",
    "policy_cost",
    "markup",
    "cache_price",
    "charge",
)
CACHE_READ_BUCKETS: Final = tuple(name for name in INPUT_BUCKETS if name.endswith("_cache_read"))
REASONING_BUCKETS: Final = ("output_text_reasoning",)
AMOUNTS: Final = (
    *("list_cost", "provider_cost", "token_cost", "model_cost", "policy_cost"),
    *("markup", "cache_price", "charge"),
)
DECISION_AMOUNTS: Final = ("list_cost", "provider_cost", "policy_cost", "markup", "charge")
"""Amounts of a decision; it has no others."""

Dimensions = tuple[Any, ...]
Measures = tuple[int, ...]


def dimensions_of_fact(fact: Mapping[str, Any]) -> Dimensions:
    """Window of a row of `usage_facts`."""
    started = fact["request_started_at"]
    named = {**fact, "window_start": started - started % MINUTE_US, "policy_id": "", "outcome": fact["status"]}
    return tuple(named[name] for name in DIMENSIONS)


def measures_of_fact(fact: Mapping[str, Any]) -> Measures:
    """What a row of `usage_facts` adds to its window, null as nothing."""

    def total(names: Sequence[str]) -> int:
        return sum(fact[name] or 0 for name in names)

    tokens_in, tokens_out = total(INPUT_BUCKETS), total(OUTPUT_BUCKETS)
    unpriced = tokens_in + tokens_out if fact["price_status"] == "unpriced" else 0
    return (
        1,
        0,
        tokens_in,
        total(CACHE_READ_BUCKETS),
        tokens_out,
        total(REASONING_BUCKETS),
        unpriced,
        fact["latency_us"] or 0,
        *(fact[name] or 0 for name in AMOUNTS),
    )


def dimensions_of_decision(fact: Mapping[str, Any]) -> Dimensions:
    """Window of a row of `policy_facts`."""
    started = fact["request_started_at"]
    named = {
        **fact,
        "window_start": started - started % MINUTE_US,
        "provider": "" if fact["billed_by"] == INTERNAL else fact["billed_by"],
        "model": "",
        "purpose": "policy_evaluation",
        "usage_source": "",
    }
    return tuple(named[name] for name in DIMENSIONS)


def measures_of_decision(fact: Mapping[str, Any]) -> Measures:
    """What a row of `policy_facts` adds to its window."""
    amounts = (fact[name] or 0 if name in DECISION_AMOUNTS else 0 for name in AMOUNTS)
    return (0, 1, 0, 0, 0, 0, 0, fact["latency_us"] or 0, *amounts)


@dataclass(slots=True)
class _Slice:
    """Windows of one minute of log time: dimensions → (revision, totals), and which changed since they were taken."""

    first_offset: int
    cells: dict[Dimensions, tuple[int, list[int]]] = field(default_factory=dict)
    changed: dict[Dimensions, None] = field(default_factory=dict)


class WindowBook:
    """The windows of the current slice, and the rows that changed since they were last taken."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._slices: dict[int, _Slice] = {}

    def add(
        self,
        slice_us: int,
        dimensions: Dimensions,
        measures: Sequence[int],
        offset: int,
        first_offset: int | None = None,
    ) -> None:
        """Adds to one window; `offset` is the record that changes it (the last, where `first_offset` is the first)."""
        begin = offset if first_offset is None else first_offset
        part = self._slices.get(slice_us)
        if part is None:
            part = self._slices[slice_us] = _Slice(begin)
        part.first_offset = min(part.first_offset, begin)
        revision, totals = part.cells.get(dimensions) or (offset, [0] * len(MEASURES))
        part.cells[dimensions] = (max(revision, offset), [a + b for a, b in zip(totals, measures, strict=True)])
        part.changed[dimensions] = None

    def take_rows(self, slice_us: int) -> list[Row]:
        """Rows of `usage_windows` that changed since the last call; slices before `slice_us` are passed for ever."""
        rows = [
            self._row(begin, dimensions, part.cells[dimensions])
            for begin, part in self._slices.items()
            for dimensions in part.changed
        ]
        for part in self._slices.values():
            part.changed = {}
        self._slices = {begin: part for begin, part in self._slices.items() if begin >= slice_us}
        return rows

    def needed_from(self) -> int | None:
        """First record that changed a window of the current slice: a replay must begin with it."""
        return min((part.first_offset for part in self._slices.values()), default=None)

    def _row(self, slice_us: int, dimensions: Dimensions, cell: tuple[int, list[int]]) -> Row:
        revision, totals = cell
        return {
            **dict(zip(DIMENSIONS, dimensions, strict=True)),
            "topic": self._topic,
            "partition": self._partition,
            "slice": slice_us,
            "revision": revision,
            **dict(zip(MEASURES, totals, strict=True)),
        }
