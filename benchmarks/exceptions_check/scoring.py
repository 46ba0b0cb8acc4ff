"""What was found against what was planted: precision and recall of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.exceptions_check.planted import CASES, THRESHOLDS, Truth
from benchmarks.exceptions_check.traffic import LOOKED, World
from benchmarks.rows import table_of

from gatemeter.cli.demo.trace import data_folder, read_calls
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from gatemeter.sinks.exceptions.finding import find_exceptions
from gatemeter.sinks.exceptions.kinds import KINDS

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)


@dataclass
class Score:
    """Counts by kind over all seeds; `wrong` names what was found and not planted, `missed` the reverse."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    facts: int = 0

    def add(self, seed: int, planted: set[tuple[str, ...]], found: set[tuple[str, ...]]) -> None:
        """One seed's."""
        self.planted.update(each[0] for each in planted)
        self.found.update(each[0] for each in found)
        self.right.update(each[0] for each in planted & found)
        self.wrong += [f"seed {seed}: {' '.join(each)}" for each in sorted(found - planted)]
        self.missed += [f"seed {seed}: {' '.join(each)}" for each in sorted(planted - found)]

    def lines(self) -> list[dict[str, Any]]:
        """A kind each: planted, found, right, precision and recall in per cent (None where nothing is to divide by)."""
        return [
            {
                "kind": kind,
                "planted": self.planted[kind],
                "found": self.found[kind],
                "right": self.right[kind],
                "precision_percent": _percent(self.right[kind], self.found[kind]),
                "recall_percent": _percent(self.right[kind], self.planted[kind]),
            }
            for kind in KINDS
        ]


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


def world_of(seed: int) -> tuple[World, list[Truth]]:
    """The rows of all tables, and what is planted in them."""
    world = World(read_calls(data_folder() / "azure-llm-2023"), seed)
    return world, [truth for case in CASES for truth in case(world)]


def check(database: ClickHouseSettings, seed: int, score: Score, say: Callable[[str], None]) -> None:
    """Fills an empty database, looks at the planted day and the one after, and adds what came of it."""
    world, truths = world_of(seed)
    sink, client = ClickHouseSink(database), connect(database)
    try:
        sink.write("usage_facts", table_of("usage_facts", world.facts))
        for table, rows in world.tables.items():
            sink.write(table, table_of(table, rows))
        found = find_exceptions(client, [LOOKED, LOOKED + timedelta(days=1)], THRESHOLDS, NOW)
    finally:
        client.close()
        sink.close()
    score.facts += len(world.facts)
    planted = {(*truth, LOOKED.isoformat()) for truth in truths}
    seen = {(each.kind, each.tenant_id, each.workload_id, each.period.isoformat()) for each in found.all}
    score.add(seed, planted, seen)
    say(f"seed {seed}: {len(world.facts):,} facts, {len(planted)} planted, {len(seen)} found")
