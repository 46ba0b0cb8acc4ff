"""Reading what another product wrote about itself: what is needed must be right, what else is wrong costs its field.

Complaints name the field and what is accepted, never what the field held: a log that is configured wrongly may hold
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

from gatemeter.producers.events import MAX_ID_LENGTH, MAX_TIME_US
from gatemeter.schemas.limits import MAX_LATENCY_US

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DIGITS: Final = 40
_T = TypeVar("_T")


class BadItem(ValueError):
    """An entry that says nothing that can be metered. Its text names the field and what is accepted, not the value."""


def kind_of(value: Any) -> str:
    """What a value is, without what it says; numbers alone are told."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1e18 else "a larger number"
    if value is None:
        return "nothing"
    return "text" if isinstance(value, str) else type(value).__name__


def text(value: Any) -> str:
    """Text, a whole number or a truth value as text. Raises `ValueError`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be text, got {kind_of(value)}")
    return value.encode(errors="replace").decode()


def truth(value: Any) -> bool:
    """True or false. Raises `ValueError`."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {kind_of(value)}")
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A reader of integers in a range; also of their decimal text. It raises `ValueError`."""

    def read(value: Any) -> int:
        if isinstance(value, str) and value.isdecimal() and len(value) <= 18:
            value = int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            value = int(value)  # some writers of JSON know no integers
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be an integer of {low} to {high}, got {kind_of(value)}")
        return value

    return read


def milliseconds_us(high_us: int) -> Callable[[Any], int]:
    """A reader of milliseconds, with or without decimals, as microseconds. It raises `ValueError`."""

    def read(value: Any) -> int:
        found = Decimal(-1)
        if isinstance(value, (int, float, str)) and not isinstance(value, bool) and len(str(value)) <= _MAX_DIGITS:
            try:
                found = Decimal(str(value)) * 1000
            except InvalidOperation:
                found = Decimal(-1)
        if not found.is_finite() or not 0 <= found <= high_us:
            raise ValueError(f"must be milliseconds of 0 to {high_us // 1000}, got {kind_of(value)}")
        return int(found)

    return read


def iso_time_us(value: Any) -> int:
    """A moment in ISO 8601 (UTC where it names no zone) as microseconds since 1970. Raises `ValueError`."""
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        since = moment - _EPOCH
        found = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    except (TypeError, ValueError, OverflowError):
        found = -1
    if not 0 <= found <= MAX_TIME_US:
        raise ValueError(f"must be a time in ISO 8601, got {kind_of(value)}")
    return found


def at(values: Mapping[str, Any], path: str) -> Any:
    """The value of that name, else the one that its dots lead to; None where there is none, '' or '-'."""
    value: Any = values.get(path)
    if value is None and "." in path:
        value = values
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    return None if value in ("", "-") else value


class Item:
    """One entry. `complain(field, what)` hears of each field that is wrong beside good ones."""

    def __init__(self, values: Mapping[str, Any], complain: Callable[[str, str], None], prefix: str = "") -> None:
        self.values = values
        self._complain = complain
        self._prefix = prefix

    def part(self, path: str) -> Item:
        """The object there; an empty one where there is none."""
        found = at(self.values, path)
        return Item(found if isinstance(found, Mapping) else {}, self._complain, f"{self._prefix}{path}.")

    def parts(self, path: str) -> list[Item]:
        """The objects of the list there."""
        found = at(self.values, path)
        entries = found if isinstance(found, list) else []
        return [
            Item(entry, self._complain, f"{self._prefix}{path}[{index}].")
            for index, entry in enumerate(entries)
            if isinstance(entry, Mapping)
        ]

    def needed(self, path: str, read: Callable[[Any], _T]) -> _T:
        """Raises `BadItem`."""
        try:
            return read(at(self.values, path))
        except ValueError as error:
            raise BadItem(f"{self._prefix}{path}: {error}") from None

    def optional(self, path: str, read: Callable[[Any], _T]) -> _T | None:
        """None where it is absent, and where it is wrong, which is complained of."""
        value = at(self.values, path)
        if value is None:
            return None
        try:
            return read(value)
        except ValueError as error:
            self._complain(self._prefix + path, str(error))
            return None

    def first(self, paths: Sequence[str], read: Callable[[Any], _T]) -> _T | None:
        """Of the first path where it is right; those before it where it is wrong are complained of."""
        for path in paths:
            found = self.optional(path, read)
            if found is not None:
                return found
        return None

    def text(self, path: str, longest: int = MAX_ID_LENGTH) -> str | None:
        """Cut to `longest` characters."""
        found = self.optional(path, text)
        return None if found is None else found[:longest]

    def latency_us(self, path: str) -> int | None:
        """Of milliseconds."""
        return self.optional(path, milliseconds_us(MAX_LATENCY_US))
