"""What the fold takes and gives, as plain data, and the three reasons why it may not go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

FOLD_RELEASE: Final = 1
"""Release of the fold in this code; the parameters in force must name the same one."""

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

Row = dict[str, Any]


class LogRecord(NamedTuple):
    """One record of a partition's log; `timestamp_us` is the log's own clock (LogAppendTime), UTC."""

    offset: int
    timestamp_us: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Rows:
    """Rows for the tables, by table name, as the plain fold makes them."""

    tables: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, table: str, row: Row) -> None:
        """Appends one row to `table`."""
        self.tables.setdefault(table, []).append(row)


class FoldStopped(Exception):
    """Base of the reasons below. Nothing of the call's records was folded."""


class SecretMissing(FoldStopped):
    """A key id is valid but its secret is not in the secrets file: pause, and go on when it is there."""

    def __init__(self, kid: str) -> None:
        super().__init__(f"secret of key id {kid!r} is missing from the secrets file; the partition waits for it")
        self.kid = kid


class LoudStop(FoldStopped):
    """The worker must not go on by itself; the text names the cause and the command that goes on."""
