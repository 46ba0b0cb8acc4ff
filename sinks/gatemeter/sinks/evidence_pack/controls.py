"""The mapping of published controls to queries, as data: `controls.toml`, or a file of the auditor's own."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

COMPUTED: Final = frozenset({"seal-chain"})
"""Checks that gatemeter makes itself, instead of SQL."""
# What refused records, conflicts, providers and gateways said, byte by byte or nearly: secrets may be in it.
PRIVATE: Final = frozenset(
    {"raw", "first_raw", "headers", "usage_raw", "detail", "end_user", "idempotency_key", "content_digest"}
)
_UNSTEADY: Final = re.compile(r"\b(now|now64|today|yesterday|rand\w*|generateUUIDv\d|hostName)\s*\(", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_KEYS: Final = {
    "framework": ({"id", "title", "edition", "source"}, set()),
    "control": ({"framework", "label", "title", "queries", "shows"}, {"also"}),
    "query": ({"id", "title"}, {"sql", "computed"}),
}


class ControlsError(ValueError):
    """A file of controls that cannot be used; one line that names the place and what is accepted."""


@dataclass(frozen=True, slots=True)
class Framework:
    """A published set of controls, and where it is."""

    id: str
    title: str
    edition: str
    source: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control by its published label and title; `also`: its label in our own notes, '' for none."""

    framework: Framework
    label: str
    title: str
    also: str
    queries: tuple[str, ...]
    shows: str


@dataclass(frozen=True, slots=True)
class Query:
    """One question: `sql`, or the name of a check that is `computed`."""

    id: str
    title: str
    sql: str
    computed: str


@dataclass(frozen=True, slots=True)
class Controls:
    """A whole mapping; `text`: the file as it is."""

    text: str
    controls: tuple[Control, ...]
    queries: tuple[Query, ...]


def load_controls(path: Path | None = None) -> Controls:
    """The mapping of the package, or that of a file. Raises `ControlsError`."""
    name = str(path) if path else "controls.toml"
    try:
        place = path or resources.files(__package__) / "controls.toml"
        return read_controls(place.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise ControlsError(f"{name}: must be a readable TOML file: {error}") from error


def read_controls(text: str, name: str) -> Controls:
    """The mapping that a text holds; `name` is for errors. Raises `ControlsError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ControlsError(f"{name}: must be TOML: {error}") from error
    unknown = sorted(document.keys() - _KEYS.keys())
    if unknown:
        raise ControlsError(f"{name}: {unknown[0]}: must be one of {', '.join(sorted(_KEYS))}")
    frameworks = {_named(name, "framework", row): Framework(**row) for row in _tables(document, "framework", name)}
    queries = {_named(name, "query", row): _query(name, row) for row in _tables(document, "query", name)}
    controls = tuple(_control(name, row, frameworks, queries) for row in _tables(document, "control", name))
    if not controls:
        raise ControlsError(f"{name}: control: at least one must be there")
    used = {query for control in controls for query in control.queries}
    return Controls(text, controls, tuple(query for query in queries.values() if query.id in used))


def _tables(document: Mapping[str, Any], kind: str, name: str) -> Iterator[dict[str, Any]]:
    """The tables of a kind, each with the keys that it must have and no others; ids once."""
    rows = document.get(kind, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ControlsError(f"{name}: {kind}: must be tables, [[{kind}]]")
    needed, more = _KEYS[kind]
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        where = f"{name}: {kind} {row.get('id') or row.get('label') or number}"
        for key in sorted(needed - row.keys()):
            raise ControlsError(f"{where}: {key} is missing")
        for key in sorted(row.keys() - needed - more):
            raise ControlsError(f"{where}: {key}: must be one of {', '.join(sorted(needed | more))}")
        for key, value in row.items():
            if key != "queries" and (not isinstance(value, str) or not value.strip()):
                raise ControlsError(f"{where}: {key}: must be text")
        identity = row.get("id", "")
        if identity and identity in seen:
            raise ControlsError(f"{where}: id: must be there once")
        seen.add(identity)
        yield row


def _named(name: str, kind: str, row: Mapping[str, Any]) -> str:
    if not _NAME.fullmatch(row["id"]):
        raise ControlsError(f"{name}: {kind} {row['id']!r}: id: must be 1 to 40 of a-z, 0-9 and -, not - first")
    return str(row["id"])


def _query(name: str, row: Mapping[str, Any]) -> Query:
    where = f"{name}: query {row['id']}"
    sql, computed = row.get("sql", "").strip(), row.get("computed", "")
    if bool(sql) == bool(computed):
        raise ControlsError(f"{where}: must have either sql or computed")
    if computed and computed not in COMPUTED:
        raise ControlsError(f"{where}: computed: must be one of {', '.join(sorted(COMPUTED))}, got {computed!r}")
    if sql and not re.match(r"(SELECT|WITH)\b", sql):
        raise ControlsError(f"{where}: sql: must begin with SELECT or WITH")
    if ";" in sql:
        raise ControlsError(f"{where}: sql: must be one statement, without ;")
    private = sorted(PRIVATE & set(re.findall(r"\w+", sql)))
    if private:
        raise ControlsError(f"{where}: sql: must not read {private[0]}: secrets may be in it")
    unsteady = _UNSTEADY.search(sql)
    if unsteady:
        raise ControlsError(f"{where}: sql: must give the same rows at any time, not call {unsteady[1]}()")
    if sql and not re.search(r"\bORDER\s+BY\b", sql):
        raise ControlsError(f"{where}: sql: must have an ORDER BY")
    return Query(row["id"], row["title"], sql, computed)


def _control(
    name: str, row: Mapping[str, Any], frameworks: Mapping[str, Framework], queries: Mapping[str, Query]
) -> Control:
    where = f"{name}: control {row['label']}"
    if row["framework"] not in frameworks:
        raise ControlsError(f"{where}: framework: must be one of {', '.join(sorted(frameworks))}")
    asked = row["queries"]
    if not isinstance(asked, list) or not asked:
        raise ControlsError(f"{where}: queries: must be a list of ids of queries")
    for query in asked:
        if query not in queries:
            raise ControlsError(f"{where}: queries: there is no query {query!r}")
    framework = frameworks[row["framework"]]
    return Control(framework, row["label"], row["title"], row.get("also", ""), tuple(asked), row["shows"])
