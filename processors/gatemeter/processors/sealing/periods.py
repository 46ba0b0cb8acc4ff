"""Months as text, YYYY-MM, in UTC: text order is their order."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_PERIOD: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_period(text: str) -> bool:
    """Whether it is a month."""
    return _PERIOD.fullmatch(text) is not None


def next_period(period: str) -> str:
    """The month after: 2026-12 → 2027-01."""
    year, month = int(period[:4]), int(period[5:])
    return f"{year + 1:04}-01" if month == 12 else f"{year:04}-{month + 1:02}"


def period_of(at_us: int) -> str:
    """The month of a moment."""
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m}"


def posting_period(usage_period: str, open_period: str) -> str:
    """Where an entry is booked: its own month where that is open, else the oldest open one."""
    return max(usage_period, open_period)
