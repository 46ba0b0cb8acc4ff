"""A month in UTC, as text YYYY-MM and as bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PERIOD: Final = re.compile(r"(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Month:
    """`[start_us, end_us)`; `period` is YYYY-MM, 1970-01 to 2199-12."""

    period: str
    start_us: int
    end_us: int

    @property
    def first(self) -> date:
        """Its first day."""
        return day_of(self.start_us)

    @property
    def hours(self) -> int:
        """672 to 744."""
        return (self.end_us - self.start_us) // HOUR_US

    def next(self) -> Month:
        """The month after."""
        return month_at(self.end_us)


def month_of(period: str) -> Month:
    """The month that YYYY-MM names. Raises `ValueError` that says what is accepted."""
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"must be YYYY-MM, 1970-01 to 2199-12, got {period!r}")
    year, month = int(period[:4]), int(period[5:])
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Month(period, _us(datetime(year, month, 1, tzinfo=UTC)), _us(after))


def month_at(at_us: int) -> Month:
    """The month of a moment."""
    return month_of(f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m}")


def day_of(at_us: int) -> date:
    """The day of a moment."""
    return (_EPOCH + timedelta(microseconds=at_us)).date()


def utc_text(at_us: int) -> str:
    """A moment for people, 2026-03-01T12:00:00Z; microseconds only where there are any."""
    return moment_of(at_us).isoformat().replace("+00:00", "Z")


def moment_of(at_us: int) -> datetime:
    """A moment, in UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
