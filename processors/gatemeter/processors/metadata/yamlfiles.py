"""Reads people's YAML with exact decimals and errors that name file, entry, field and accepted range.

tenants.yaml: tenant 'acme': markup_percent must be 0 to 1000, got -5
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from gatemeter.processors.metadata.entries import MetadataError

T = TypeVar("T")
_UNITS_US: Final = {"s": 1_000_000, "m": 60_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MISSING: Final[Any] = object()


class FileError(MetadataError):
    """A file that cannot be applied; one line: file, entry, field, accepted range, what was found."""


class _Loader(yaml.SafeLoader):
    """Safe loader whose numbers with a point are exact decimals and whose mappings have no key twice."""


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise yaml.constructor.ConstructorError(None, None, f"{text} is no decimal number", node.start_mark) from None


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml(path: Path) -> Entry:
    """The file's top mapping. Raises `FileError`."""
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path.name}: must be UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise FileError(f"{path.name}: is not YAML: {' '.join(str(error).split())}") from error
    return Entry(path.name, content)


class Entry:
    """One mapping of a file. Fields are taken once each; `done` refuses what nobody took."""

    def __init__(self, where: str, content: Any) -> None:
        self.where = where
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise FileError(f"{where}: must be a mapping of fields, got {_shown(content)}")
        self._content: dict[str, Any] = dict(content)
        self._known: list[str] = []

    def error(self, text: str) -> FileError:
        """An error that names this entry."""
        return FileError(f"{self.where}: {text}")

    def has(self, name: str) -> bool:
        """Whether the field is there and not taken yet."""
        return name in self._content

    def take(self, name: str, expected: str, default: Any, convert: Callable[[Any], T | None]) -> T:
        """A field; `convert` gives None for what is not `expected`."""
        self._known.append(name)
        value = self._content.pop(name, None)
        if value is None:
            if default is MISSING:
                raise self.error(f"{name} is missing; it must be {expected}")
            return default  # type: ignore[no-any-return]
        result = convert(value)
        if result is None:
            raise self.error(f"{name} must be {expected}, got {_shown(value)}")
        return result

    def text(self, name: str, default: Any = MISSING) -> str:
        """1 to 256 characters."""
        return self.take(name, "1 to 256 characters of text", default, _text)

    def choice(self, name: str, choices: tuple[str, ...], default: Any = MISSING) -> str:
        """One of a few words."""
        return self.take(name, f"one of {', '.join(choices)}", default, lambda value: _one_of(value, choices))

    def flag(self, name: str, default: Any = MISSING) -> bool:
        """true or false."""
        return self.take(name, "true or false", default, lambda value: value if isinstance(value, bool) else None)

    def integer(self, name: str, low: int, high: int, default: Any = MISSING) -> int:
        """A whole number in a range."""
        number = self.take(name, f"{low} to {high}", default, _whole)
        if number != default and not low <= number <= high:
            raise self.error(f"{name} must be {low} to {high}, got {number}")
        return number

    def scaled(self, name: str, scale: int, low: int, high: int, default: Any = MISSING) -> int:
        """A decimal in a range as an exact int of `scale` parts, e.g. percent with 10⁴ as millionths."""
        number = self.take(name, f"{low} to {high}", None if default is not MISSING else MISSING, to_number)
        if number is None:
            return int(default)
        if not low <= number <= high:
            raise self.error(f"{name} must be {low} to {high}, got {number}")
        return self.exact(name, number, scale)

    def exact(self, name: str, number: Decimal, scale: int) -> int:
        """`number` × `scale`, which must be whole."""
        parts = number * scale
        if parts != int(parts):
            raise self.error(f"{name} must have at most {len(str(scale)) - 1} decimals, got {number}")
        return int(parts)

    def duration_us(self, name: str, default: Any = MISSING) -> int:
        """A number and s, m, h or d, e.g. 15m."""
        return self.take(name, "a duration such as 90s, 15m, 3h or 7d", default, duration_us)

    def instant_us(self, name: str, default: Any = MISSING) -> int:
        """A date or time; UTC unless it says otherwise."""
        return self.take(name, "a date (2026-11-01) or a time (2026-11-01T12:00:00Z)", default, instant_us)

    def dates(self, default_from_us: int) -> dict[str, Any]:
        """`effective_from` and `effective_to`, the latter null where it is open."""
        start, end = self.instant_us("effective_from", default_from_us), self.instant_us("effective_to", None)
        if end is not None and end <= start:
            raise self.error("effective_to must be after effective_from")
        return {"effective_from": start, "effective_to": end}

    def texts(self, name: str) -> list[str]:
        """A list of texts, by default empty."""
        return self.take(name, "a list of texts", [], lambda value: _all(value, _text))

    def entries(self, name: str, label: Callable[[int, Any], str]) -> Iterator[Entry]:
        """A list of mappings, by default empty; `label` names the position (from 1) in errors."""
        listed = self.take(name, "a list", [], lambda value: value if isinstance(value, list) else None)
        for position, content in enumerate(listed, 1):
            yield Entry(f"{self.where}: {label(position, content)}", content)

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        """A mapping of texts to anything; None where it is not there."""
        return self.take(name, "a mapping", None, lambda value: value if isinstance(value, dict) else None)

    def done(self) -> None:
        """Raises `FileError` for a field that is not known."""
        if self._content:
            name = next(iter(self._content))
            raise self.error(f"{name} is not known; known are {', '.join(dict.fromkeys(self._known))}")


def by_id(kind: str, field: str) -> Callable[[int, Any], str]:
    """Names an entry by its id, else by its position."""

    def label(position: int, content: Any) -> str:
        entry_id = content.get(field) if isinstance(content, dict) else None
        return f"{kind} {entry_id!r}" if isinstance(entry_id, str) else f"{kind} {position}"

    return label


def by_position(kind: str) -> Callable[[int, Any], str]:
    """Names an entry by its position, from 1."""
    return lambda position, content: f"{kind} {position}"


def instant_us(value: Any) -> int | None:
    """Microseconds of a date (midnight UTC) or time of YAML; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        return None
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def duration_us(value: Any) -> int | None:
    """Microseconds of a text such as 90s, 15m, 3h or 7d; None for anything else."""
    match = re.fullmatch(r"(\d{1,9}) ?(s|m|min|h|d)", value) if isinstance(value, str) else None
    if match is None:
        return 0 if value == 0 and not isinstance(value, bool) else None
    return int(match[1]) * _UNITS_US[match[2]]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 256 and value == value.strip() else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _one_of(value: Any, choices: tuple[str, ...]) -> str | None:
    return next((choice for choice in choices if choice == value), None)


def to_number(value: Any) -> Decimal | None:
    """An exact finite number of YAML; None for anything else."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _all(value: Any, convert: Callable[[Any], T | None]) -> list[T] | None:
    if not isinstance(value, list):
        return None
    converted = [convert(item) for item in value]
    return None if any(item is None for item in converted) else converted  # type: ignore[return-value]


def _shown(value: Any) -> str:
    shown = str(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
