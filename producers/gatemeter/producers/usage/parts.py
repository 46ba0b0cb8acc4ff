"""Careful reading of a provider's JSON: what is out of range becomes None and a complaint naming field and range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from gatemeter.schemas import limits

MAX_NAME_LENGTH: Final = 256
MAX_REASON_LENGTH: Final = 1024
MAX_ENTRIES: Final = 10_000
_MAX_SHOWN: Final = 60
_MAX_DIGITS: Final = 20
_MAX_BITS_SHOWN: Final = 128
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def shown(value: object) -> str:
    """A short form of any value for a complaint; never raises, never long."""
    match value:
        case None | bool():
            return repr(value)
        case int():
            many = value.bit_length() > _MAX_BITS_SHOWN
            return f"an integer of {value.bit_length()} bits" if many else str(int(value))
        case float():
            return repr(float(value))
        case str():
            return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…")
    return type(value).__name__


def whole_number(value: object) -> int | None:
    """An int, or a float that is one (JSON does not tell 5 from 5.0); None for anything else, bool included."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    return None


@dataclass(slots=True)
class Notes:
    """What was refused while an answer was read."""

    complaints: list[str] = field(default_factory=list)
    lost_counts: list[str] = field(default_factory=list)
    """Where a count was refused, and what is accepted there: the leaves cannot be vouched for."""


class Part(Struct, frozen=True, gc=False):
    """A JSON object at the path `where` of an answer. What it refuses goes to the shared `notes`."""

    value: Mapping[str, Any]
    where: str
    notes: Notes

    def at(self, key: str) -> str:
        """The path of a field, as complaints name it."""
        return f"{self.where}.{key}" if self.where else key

    def says(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.value.get(key) is not None

    def refuse(self, key: str, accepted: str, value: object) -> None:
        """Notes that a field is out of range."""
        self.notes.complaints.append(f"{self.at(key)}: must be {accepted}, got {shown(value)}")

    def lose(self, key: str, accepted: str, value: object) -> None:
        """As `refuse`, of what holds counts."""
        self.refuse(key, accepted, value)
        self.notes.lost_counts.append(f"{self.at(key)}: must be {accepted}")

    def part(self, key: str) -> Part:
        """The object under `key`; an empty one where it is absent, null or (with a complaint) something else."""
        value = self.value.get(key)
        if type(value) is not dict and not isinstance(value, Mapping):  # the second takes its time
            if value is not None:
                self.lose(key, "an object", value)
            value = _EMPTY
        return Part(value, f"{self.where}.{key}" if self.where else key, self.notes)

    def parts(self, key: str) -> list[Part]:
        """The objects of the array under `key`, the first `MAX_ENTRIES` of them; what is no object is refused."""
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            self.lose(key, "an array", value)
            return []
        found = []
        for index, entry in enumerate(value[:MAX_ENTRIES]):
            if type(entry) is dict or isinstance(entry, Mapping):
                found.append(Part(entry, f"{self.at(key)}[{index}]", self.notes))
            else:
                self.lose(f"{key}[{index}]", "an object", entry)
        return found

    def count(self, *keys: str, most: int = limits.MAX_TOKENS_PER_EVENT) -> int | None:
        """The number under the first of `keys` that is said: a whole number of 0 to `most`."""
        for key in keys:
            value = self.value.get(key)
            if value is None:
                continue
            number = value if type(value) is int else whole_number(value)
            if number is None or not 0 <= number <= most:
                self.lose(key, f"an integer of 0 to {most}", value)
                return None
            return number
        return None

    def digits(self, key: str) -> int | None:
        """A count that came as decimal digits, as header values do."""
        value = self.value.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
            return Part({key: int(value)}, self.where, self.notes).count(key)
        return self.count(key)

    def milliseconds(self, key: str) -> int | None:
        """Seconds (fractions allowed) as whole milliseconds, rounded half-even."""
        value, most = self.value.get(key), limits.MAX_METER["media_ms"]
        if value is None:
            return None
        seconds = Decimal(str(value)) if type(value) is float else Decimal(whole_number(value) or 0)
        if type(value) not in (int, float) or not (seconds.is_finite() and 0 <= seconds * 1000 <= most):
            self.lose(key, f"a number of 0 to {most // 1000} seconds", value)
            return None
        return int((seconds * 1000).to_integral_value(ROUND_HALF_EVEN))

    def text(self, key: str, longest: int = MAX_NAME_LENGTH) -> str | None:
        """The text under `key`, at most `longest` characters."""
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > longest:
            self.refuse(key, f"text of 0 to {longest} characters", value)
            return None
        return value


def total_of(counts: Iterable[int | None]) -> int:
    """Sum of what is known."""
    total = 0
    for count in counts:
        if count is not None:
            total += count
    return total
