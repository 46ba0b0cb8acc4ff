"""Panels of the Grafana dashboards in `deploy/grafana`, and their SQL as the plugin of the data source sends it.

Source of the macros: README and `pkg/macros` of grafana-clickhouse-datasource 4; of variables: Grafana's `singlequote`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana"
ALL: Final = "$__all"


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard; `columns` are those that its overrides and options name."""

    dashboard: str
    place: int
    kind: str
    title: str
    sql: str
    unit: str
    units: Mapping[str, str]
    columns: frozenset[str]

    def __hash__(self) -> int:
        return hash((self.dashboard, self.place))

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.title}"


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted((FOLDER / "dashboards").glob("*.json"))}


def panels() -> Iterator[Panel]:
    """Every panel of every dashboard; each has one query."""
    for dashboard, document in dashboards().items():
        for panel in document["panels"]:
            (target,) = panel["targets"]
            overrides = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
            units = {
                column: each["value"]
                for column, properties in overrides.items()
                for each in properties
                if each["id"] == "unit"
            }
            named = {*overrides, *filter(None, [panel["options"].get("xField")])}
            unit = panel["fieldConfig"]["defaults"].get("unit", "")
            kind, title, sql = panel["type"], panel["title"], target["rawSql"]
            yield Panel(dashboard, panel["id"], kind, title, sql, unit, units, frozenset(named))


@dataclass(frozen=True)
class Expander:
    """What the time picker, the panel's width and the variables make of a query. `values`: variable → chosen values."""

    start: datetime
    end: datetime
    interval_seconds: int
    values: Mapping[str, Sequence[str]]

    def expand(self, sql: str) -> str:
        """The query as ClickHouse gets it. Raises `ValueError` for a macro or a variable that is not known."""
        sql = self._conditions(sql)
        sql = re.sub(r"\$\{(\w+):singlequote\}", lambda found: self._quoted(found[1]), sql)
        sql = re.sub(r"\$__(\w+)(?:\(([^()]*)\))?", lambda found: self._macro(found[1], found[2]), sql)
        if "$" in sql:
            raise ValueError(f"not expanded: {sql[sql.index('$') :][:60]}")
        return sql

    def _conditions(self, sql: str) -> str:
        """`$__conditionalAll(condition, $variable)`: the condition, or 1=1 where all are chosen."""
        mark = "$__conditionalAll("
        while mark in sql:
            start = sql.index(mark)
            depth, end = 1, start + len(mark)
            while depth:
                depth += {"(": 1, ")": -1}.get(sql[end], 0)
                end += 1
            condition, variable = sql[start + len(mark) : end - 1].rsplit(",", 1)
            chosen = self._values(variable.strip().removeprefix("$"))
            sql = sql[:start] + ("1=1" if not chosen or ALL in chosen else condition) + sql[end:]
        return sql

    def _quoted(self, name: str) -> str:
        return ",".join("'" + value.replace("'", "\\'") + "'" for value in self._values(name))

    def _values(self, name: str) -> Sequence[str]:
        if name not in self.values:
            raise ValueError(f"no variable {name!r}")
        return self.values[name]

    def _macro(self, name: str, argument: str | None) -> str:
        start, end = int(self.start.timestamp()), int(self.end.timestamp())
        if name == "timeFilter" and argument:
            return f"{argument} >= toDateTime({start}) AND {argument} <= toDateTime({end})"
        if name == "timeInterval" and argument:
            return f"toStartOfInterval(toDateTime({argument}), INTERVAL {max(self.interval_seconds, 1)} second)"
        raise ValueError(f"no macro $__{name}({argument})")
