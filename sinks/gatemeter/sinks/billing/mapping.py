"""Which column of an export means what: a TOML file a format, which ships with the package and can be replaced.

Its keys:

    provider, content, calendar, covers     of the whole file; `provider` may be a column instead
    note                                    what is said after each import
    required = ["a", "b|c"]                 the columns that tell the format; of b and c one will do
    bucket = ["a", "b"]                     columns of a time; a row of these alone: nothing was used in it
    nulls = ["NULL"]                        texts that mean nothing
    [columns] FIELD = "a" or ["a", "b"]     the first that is not empty
    [exponents] amount = -2                 amounts are in 10⁻² of the currency
    [units] "1k tokens" = 1000              what one of a unit counts; others count one
    [calendars] google = "America/…"        calendars of providers that differ
    slug = ["model"]                        fields whose texts become small letters with hyphens
    [values.FIELD] "text" = "value"         what a text means, without regard to capitals
    [[select]] columns, match               rows that one of these matches are read; without any all are
    [[patterns]] columns, match, set, where the first column that matches gives the named groups and `set`
    [[measures]] token_type, plus, minus    lines by counters; of a token type the first whose `plus` are there
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping as Map
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

from gatemeter.sinks.billing.calendars import calendar_of
from gatemeter.sinks.billing.errors import MappingInvalid
from gatemeter.sinks.billing.lines import CATEGORIES, CLASSES, CONTENTS, COUNTED

Covers = Literal["buckets", "period", "seen"]

NAMES: Final = ("provider", "model", "token_type", "service_tier", "workload_class", "charge_category", "charge_class")
"""Fields that patterns and values give."""

FIELDS: Final = (
    *NAMES,
    *("account", "project", "key_id", "starts_at", "ends_at", "period_start", "period_end", "line_item", "region"),
    *("quantity", "unit", "amount", "list_amount", "currency", "tags"),
)
_SETTABLE: Final = frozenset({*NAMES, "project", "key_id", "region", "unit", "factor", "context"})
_KNOWN: Final = frozenset(
    {"provider", "content", "calendar", "covers", "required", "columns", "exponents", "units", "calendars", "values"}
    | {"select", "patterns", "measures", "note", "slug", "nulls", "bucket"}
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """`columns`: tried in order. What matches gives its named groups, and `fixed`; only `where` other columns match."""

    columns: tuple[str, ...]
    match: re.Pattern[str]
    fixed: Map[str, str]
    where: Map[str, re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class Measure:
    """A counter of a row: the sum of `plus` less that of `minus`; of `minus` columns may be missing."""

    token_type: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    factor: Decimal


@dataclass(frozen=True, slots=True)
class Mapping:
    """A checked mapping. `digest` is that of its file."""

    name: str
    digest: str
    provider: str
    content: str
    calendar: str
    calendars: Map[str, str]
    covers: Covers
    required: tuple[tuple[str, ...], ...]
    columns: Map[str, tuple[str, ...]]
    exponents: Map[str, int]
    units: Map[str, Decimal]
    values: Map[str, Map[str, str]]
    slug: frozenset[str]
    nulls: frozenset[str]
    bucket: frozenset[str]
    select: tuple[Pattern, ...]
    patterns: tuple[Pattern, ...]
    measures: tuple[Measure, ...]
    note: str

    def missing(self, columns: frozenset[str]) -> list[str]:
        """Which of the columns that tell the format are not there; 'b or c' where one of two would do."""
        heads = columns | {column.split(".", 1)[0] for column in columns}
        return [
            " or ".join(choice)
            for choice in self.required
            if not any(name in columns or name.split(".", 1)[0] in heads for name in choice)
        ]


@cache
def shipped(name: str) -> Mapping:
    """The mapping of that name in the package."""
    data = (files("gatemeter.sinks.billing") / "mappings" / f"{name}.toml").read_bytes()
    return parse(name, data)


def load(path: Path) -> Mapping:
    """A mapping of one's own. Raises `MappingInvalid`."""
    try:
        return parse(path.name, path.read_bytes())
    except OSError as error:
        raise MappingInvalid(f"--mapping: {path.name} cannot be read: {error.strerror}") from error


def parse(name: str, data: bytes) -> Mapping:
    """A mapping from the bytes of its file. Raises `MappingInvalid`: the text begins with `name`."""
    try:
        return _mapping(name, sha256(data).hexdigest(), tomllib.loads(data.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MappingInvalid(f"{name}: is not TOML: {error}") from error
    except MappingInvalid as error:
        raise MappingInvalid(f"{name}: {error}") from error


def _mapping(name: str, digest: str, given: dict[str, Any]) -> Mapping:
    if unknown := sorted(set(given) - _KNOWN):
        raise MappingInvalid(f"{unknown[0]}: is not known; known are {', '.join(sorted(_KNOWN))}")
    columns = {field: _texts(f"columns.{field}", paths) for field, paths in _table(given, "columns").items()}
    for field in columns:
        _among(f"columns.{field}", field, FIELDS)
    calendars = {key: _text(f"calendars.{key}", value) for key, value in _table(given, "calendars").items()}
    calendar = _text("calendar", given.get("calendar", "UTC"))
    for zone in (calendar, *calendars.values()):
        calendar_of(zone)
    mapping = Mapping(
        name=name,
        digest=digest,
        provider=_text("provider", given.get("provider", "")),
        content=_among("content", given.get("content"), CONTENTS),
        calendar=calendar,
        calendars=calendars,
        covers=_among("covers", given.get("covers"), ("buckets", "period", "seen")),
        required=tuple(tuple(choice.split("|")) for choice in _texts("required", given.get("required"))),
        columns=columns,
        exponents={key: _exponent(key, value) for key, value in _table(given, "exponents").items()},
        units={key.lower(): _factor(f"units.{key}", value) for key, value in _table(given, "units").items()},
        values=_values(_table(given, "values")),
        slug=frozenset(_among("slug", field, NAMES) for field in _texts("slug", given.get("slug", []))),
        nulls=frozenset(_texts("nulls", given.get("nulls", []))),
        bucket=frozenset(_texts("bucket", given.get("bucket", []))),
        select=tuple(_pattern(f"select[{at}]", entry) for at, entry in enumerate(_tables(given, "select"))),
        patterns=tuple(_pattern(f"patterns[{at}]", entry) for at, entry in enumerate(_tables(given, "patterns"))),
        measures=tuple(_measure(f"measures[{at}]", entry) for at, entry in enumerate(_tables(given, "measures"))),
        note=_text("note", given.get("note", "")),
    )
    _check_whole(mapping)
    return mapping


def _check_whole(mapping: Mapping) -> None:
    for field in ("starts_at", *(() if mapping.content == "usage" else ("amount", "currency"))):
        if field not in mapping.columns:
            raise MappingInvalid(f"columns.{field}: must be given where content is {mapping.content!r}")
    if not mapping.provider and "provider" not in mapping.columns:
        raise MappingInvalid("provider: must be given, or columns.provider")
    if mapping.covers == "period" and not {"period_start", "period_end"} <= set(mapping.columns):
        raise MappingInvalid("covers: 'period' needs columns.period_start and columns.period_end")
    if mapping.content == "usage" and not mapping.measures and "quantity" not in mapping.columns:
        raise MappingInvalid("measures: must be given where content is 'usage', or columns.quantity")


def _values(given: dict[str, Any]) -> dict[str, dict[str, str]]:
    accepted = {"token_type": COUNTED, "charge_category": CATEGORIES, "charge_class": CLASSES}
    found: dict[str, dict[str, str]] = {}
    for field, table in given.items():
        _among(f"values.{field}", field, NAMES)
        if not isinstance(table, dict):
            raise MappingInvalid(f"values.{field}: must be a table of texts")
        entries = {str(key).lower(): _text(f"values.{field}.{key}", value) for key, value in table.items()}
        for key, value in entries.items():
            if field in accepted:
                _among(f"values.{field}.{key}", value, accepted[field])
        found[field] = entries
    return found


def _pattern(place: str, given: dict[str, Any]) -> Pattern:
    if unknown := sorted(set(given) - {"columns", "match", "set", "where"}):
        raise MappingInvalid(f"{place}.{unknown[0]}: is not known; known are columns, match, set, where")
    match = _expression(f"{place}.match", given.get("match"))
    where = {key: _expression(f"{place}.where.{key}", value) for key, value in _table(given, "where", place).items()}
    fixed = {key: _text(f"{place}.set.{key}", value) for key, value in _table(given, "set", place).items()}
    if wrong := sorted({*match.groupindex, *fixed} - _SETTABLE):
        raise MappingInvalid(f"{place}: cannot give {wrong[0]!r}; can give {', '.join(sorted(_SETTABLE))}")
    if "factor" in fixed:
        _factor(f"{place}.set.factor", fixed["factor"])
    return Pattern(_texts(f"{place}.columns", given.get("columns")), match, fixed, where)


def _expression(place: str, value: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text(place, value))
    except re.error as error:
        raise MappingInvalid(f"{place}: is not a regular expression: {error}") from error


def _measure(place: str, given: dict[str, Any]) -> Measure:
    if unknown := sorted(set(given) - {"token_type", "plus", "minus", "factor"}):
        raise MappingInvalid(f"{place}.{unknown[0]}: is not known; known are token_type, plus, minus, factor")
    return Measure(
        _among(f"{place}.token_type", given.get("token_type"), COUNTED),
        _texts(f"{place}.plus", given.get("plus")),
        _texts(f"{place}.minus", given.get("minus", [])),
        _factor(f"{place}.factor", given.get("factor", 1)),
    )


def _among(place: str, value: Any, accepted: tuple[str, ...]) -> Any:
    if value not in accepted:
        raise MappingInvalid(f"{place}: must be one of {', '.join(map(repr, accepted))}, got {value!r}")
    return value


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise MappingInvalid(f"{place}: must be a text, got {value!r}")
    return value


def _texts(place: str, value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise MappingInvalid(f"{place}: must be a text or a list of texts, got {value!r}")
    return tuple(texts)


def _table(given: dict[str, Any], key: str, place: str = "") -> dict[str, Any]:
    value = given.get(key, {})
    if not isinstance(value, dict):
        raise MappingInvalid(f"{place}{'.' if place else ''}{key}: must be a table")
    return value


def _tables(given: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = given.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise MappingInvalid(f"{key}: must be a list of tables")
    return value


def _factor(place: str, value: Any) -> Decimal:
    try:
        factor = Decimal(str(value))
    except InvalidOperation:
        factor = Decimal(0)
    if isinstance(value, bool) or not Decimal("1e-9") <= factor <= Decimal("1e12"):
        raise MappingInvalid(f"{place}: must be a number of 1e-9 to 1e12, got {value!r}")
    return factor


def _exponent(key: str, value: Any) -> int:
    _among(f"exponents.{key}", key, ("amount", "list_amount"))
    if not isinstance(value, int) or isinstance(value, bool) or not -12 <= value <= 12:
        raise MappingInvalid(f"exponents.{key}: must be a whole number of -12 to 12, got {value!r}")
    return value
