"""By what a statement is broken down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gatemeter.sinks.statements.lines import BilledLine
from gatemeter.sinks.statements.whole import Part, Section

Key = Callable[[BilledLine], tuple[str, ...]]

BY: Final[dict[str, tuple[tuple[str, ...], Key, str]]] = {
    "app": (("app_id",), lambda line: (line.app_id,), "app"),
    "workload": (("app_id", "workload_id"), lambda line: (line.app_id, line.workload_id), "workload"),
    "model": (("provider", "model"), lambda line: (line.provider, line.model or line.policy_id), ""),
    "cost_centre": (("cost_centre",), lambda line: (line.cost_centre,), ""),
    "day": (("day",), lambda line: (line.day.isoformat(),), ""),
}
"""Name → (names of its key, the key, what of requests is counted). Policies stand among the models."""


def section_parts(section: Section, name: str) -> list[Part]:
    """Sums by one of `BY`; days in their order, all else the dearest first."""
    _, key, requests = BY[name]
    parts = section.by(key, requests=requests)
    return sorted(parts, key=lambda part: part.names) if name == "day" else parts
