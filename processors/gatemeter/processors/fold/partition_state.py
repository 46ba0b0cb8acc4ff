"""What the fold is given of each record, and what both folds share of a partition's state besides exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatemeter.processors.fold.exchanges import Conflict
from gatemeter.processors.fold.inconsistent import InconsistentBook
from gatemeter.processors.fold.oddities import OddityBook
from gatemeter.processors.fold.state import Clock, Decisions, Epochs, Totals
from gatemeter.processors.fold.types import LogRecord, Rows
from gatemeter.processors.fold.unpriced import UnpricedBook
from gatemeter.processors.fold.windows import WindowBook


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is quarantined whole. `gateway_id` is '' where it is not authentic."""

    record: LogRecord
    reason: str
    detail: str
    gateway_id: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """An authentic, decoded record of a gateway: its envelope and events as dictionaries, times in microseconds."""

    record: LogRecord
    kid: str
    envelope: Mapping[str, Any]
    events: list[dict[str, Any]]


@dataclass(slots=True)
class PartitionState:
    """What both folds share of a partition's state besides exchanges."""

    topic: str
    partition: int
    clock: Clock
    epochs: Epochs
    totals: Totals
    decisions: Decisions
    book: WindowBook
    rows: Rows
    conflicts: list[Conflict] = field(default_factory=list)
    """Conflicts since the last call of the fold, whose rows are not yet made."""
    unpriced: UnpricedBook = field(default_factory=UnpricedBook)
    """What had no price since the last call of the fold; its rows are not yet made."""
    inconsistent: InconsistentBook = field(default_factory=InconsistentBook)
    """Usage that does not add up, likewise."""
    oddities: OddityBook = field(default_factory=OddityBook)
    """What was odd about registered identities since then, likewise."""

    def exceptions_into_rows(self) -> None:
        """Makes the rows of all three, and forgets them."""
        self.unpriced.into(self.rows, self.topic, self.partition)
        self.inconsistent.into(self.rows, self.topic, self.partition)
        self.oddities.into(self.rows, self.topic, self.partition)
