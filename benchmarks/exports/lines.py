"""A made-up line of a bill, and how files of it are written: JSON numbers with every digit, CSV, packed or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

_MARK: Final = "\x01"


@dataclass(frozen=True, slots=True)
class Line:
    """One charge (`amount`), one count (`quantity`) or both. `day` is the provider's; names are as in `billing_lines`.

    `token_type` is a bucket, `input_total`, `output_total`, a meter, or '' for what counts nothing.
    """

    day: date
    model: str = ""
    token_type: str = ""
    quantity: int | Decimal | None = None
    amount: Decimal | None = None
    list_amount: Decimal | None = None
    account: str = ""
    project: str = ""
    key_id: str = ""
    service_tier: str = ""
    workload_class: str = ""
    region: str = ""
    charge_category: str = "usage"
    charge_class: str = ""
    line_item: str = ""
    currency: str = "USD"


def start_of(day: date, zone: str = "UTC") -> datetime:
    """When the day begins, in UTC."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def rfc3339(moment: datetime) -> str:
    """2026-11-01T08:00:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def all_days(lines: Iterable[Line], days: Iterable[date]) -> list[date]:
    """The days of the lines and those beside them, in order."""
    return sorted({line.day for line in lines} | set(days))


def next_day(day: date) -> date:
    """The day after."""
    return day + timedelta(days=1)


def one_month(lines: Sequence[Line]) -> tuple[date, date]:
    """First day of the month of all lines, and of the next. Raises `ValueError` where they are of several."""
    months = {line.day.replace(day=1) for line in lines}
    if len(months) != 1:
        raise ValueError(f"day: an export of a billing period has lines of one month, got {len(months)}")
    (first,) = months
    return first, (first + timedelta(days=32)).replace(day=1)


def number(value: Decimal) -> str:
    """A marked text that `write_json` writes as a number, with every digit."""
    return f"{_MARK}{value:f}{_MARK}"


def write_json(path: Path, data: Any) -> None:
    """Indented as the APIs answer."""
    text = re.sub(r'"\\u0001([^"\\]*)\\u0001"', r"\1", json.dumps(data, indent=2))
    write_text(path, text)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """With CRLF, as Azure, Google and OpenAI write them."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, file.getvalue())


def write_text(path: Path, text: str) -> None:
    """Packed where its name ends with .gz."""
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def refuse(format_name: str, line: Line, field: str) -> ValueError:
    """The error for what the format cannot say."""
    return ValueError(f"{field}: {format_name} cannot say {getattr(line, field)!r}")
