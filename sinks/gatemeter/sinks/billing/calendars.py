"""When a charge was: instants as exports write them, and the day of a provider's calendar that an instant is in.

Google bills by days of America/Los_Angeles, the others by days of UTC: 2026-11-02T07:59Z is a charge of 1 November
there, and of 2 November everywhere else.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gatemeter.sinks.billing.errors import BadRow, MappingInvalid

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime(2015, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
ONE_DAY: Final = timedelta(days=1)
MOST_DAYS: Final = 3_700
"""A bill speaks of at most some ten years: a wrong year is not a million days of coverage."""


def calendar_of(name: str) -> ZoneInfo:
    """The time zone of a calendar. Raises `MappingInvalid`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MappingInvalid(f"calendar: must be a time zone such as America/Los_Angeles, got {name!r}") from None


def instant_of(field: str, value: object, zone: ZoneInfo) -> datetime | None:
    """An instant in UTC: seconds since 1970, ISO 8601, or a day, which begins in `zone`. None and '' are None.

    A time without offset is UTC, as CUR and FOCUS say. Raises `BadRow` for what is none, or not within 2015 to 2099.
    """
    if value is None or value == "":
        return None
    found = _instant(field, value, zone)
    if not _FIRST <= found < _LAST:
        raise BadRow(field, f"must be within 2015 to 2099, got {found.isoformat()}")
    return found


def _instant(field: str, value: object, zone: ZoneInfo) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), zone).astimezone(UTC)
    text = str(value).strip()
    if text.isdigit() and text.isascii() and len(text) <= 11:
        return _EPOCH + timedelta(seconds=int(text))
    text = text.removesuffix(" UTC")  # as BigQuery writes it
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadRow(field, f"must be a time such as 2026-11-01T00:00:00Z, got {text[:40]!r}") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def micros_of(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_at(micros: int) -> datetime:
    """The instant of so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def day_of(instant: datetime, zone: ZoneInfo) -> date:
    """The day of the calendar that it is in."""
    return instant.astimezone(zone).date()


def end_of_day(instant: datetime, zone: ZoneInfo) -> datetime:
    """When the day that it is in ends."""
    return datetime.combine(day_of(instant, zone) + ONE_DAY, time(), zone).astimezone(UTC)


def period_days(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[date, date]:
    """First and last day of a billing period. Its bounds are days where they are midnights of UTC, whatever the
    calendar: a month is named so even where its days are Pacific ones."""
    first, after = (day.date() if day.time() == time() else day_of(day, zone) for day in (start, end))
    return first, max(first, after - ONE_DAY)


def days_between(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both with."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
