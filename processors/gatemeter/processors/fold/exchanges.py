"""One attempt as the fold remembers it: its REQUEST, its RESPONSEs by usage revision, what of them is in windows."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gatemeter.processors.fold.facts import Source
from gatemeter.processors.fold.types import LogRecord, Row
from gatemeter.processors.fold.windows import Dimensions, Measures
from gatemeter.processors.metadata.views import View

ExchangeKey = tuple[str, str, int]
"""(gateway_id, request_id, attempt)."""


@dataclass(slots=True)
class RequestHalf:
    """A REQUEST. While it waits for its RESPONSE, `event` is held; at log time `deadline_us` it is an orphan."""

    content_hash: bytes
    started_at_us: int
    offset: int
    deadline_us: int | None = None
    event: Mapping[str, Any] | None = None
    index: int = 0
    source: Source | None = None
    view: View | None = None

    def stop_waiting(self) -> None:
        """The RESPONSE came, or the orphan row was written."""
        self.deadline_us = self.event = self.source = self.view = None


@dataclass(slots=True)
class ResponseHalf:
    """A RESPONSE of one usage revision. `fact` is its row while no REQUEST has been seen, to be written again then."""

    content_hash: bytes
    started_at_us: int
    offset: int
    dimensions: Dimensions
    measures: Measures
    in_windows: bool
    fact: Row | None


@dataclass(slots=True)
class Exchange:
    """Needed as a unit, from `first_offset` on, while it waits or its latest admitted event is within the horizon."""

    first_offset: int
    last_log_time_us: int
    request: RequestHalf | None = None
    responses: dict[int, ResponseHalf] = field(default_factory=dict)

    @property
    def started_at_us(self) -> int | None:
        """Start that its RESPONSEs state."""
        return next((half.started_at_us for half in self.responses.values()), None)


@dataclass(slots=True)
class SeenDecision:
    """A POLICY in memory."""

    first_offset: int
    last_log_time_us: int
    content_hash: bytes


@dataclass(slots=True)
class Denials:
    """Decisions of outcome deny about one request: (log time, offset) of each."""

    last_log_time_us: int
    seen: tuple[tuple[int, int], ...]


class First(NamedTuple):
    """The copy of an event that came first: the offset of its record, and its content hash."""

    offset: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event whose key came before with another content, in `record` at `index`."""

    event: Mapping[str, Any]
    index: int
    source: Source
    record: LogRecord
    first: First


class _Dated(Protocol):
    last_log_time_us: int


K = TypeVar("K")
V = TypeVar("V", bound=_Dated)


class Aging(dict[K, V], Generic[K, V]):
    """A memory from which entries go when the horizon passes their last log time."""

    def __init__(self) -> None:
        super().__init__()
        self._oldest_us = 0
        """No entry is older: so that most calls of `pop_older` need not look."""

    def put(self, key: K, entry: V) -> None:
        """Adds or replaces one entry."""
        self._oldest_us = min(self._oldest_us, entry.last_log_time_us) if self else entry.last_log_time_us
        self[key] = entry

    def pop_older(self, floor_us: int, keep: Container[K] = ()) -> list[K]:
        """Removes the entries below the floor, but for those to `keep`, and returns their keys."""
        if self._oldest_us >= floor_us or not self:
            return []
        gone = [key for key, entry in self.items() if entry.last_log_time_us < floor_us and key not in keep]
        for key in gone:
            del self[key]
        self._oldest_us = min((entry.last_log_time_us for entry in self.values()), default=0)
        return gone
