"""Hand-made rows of the ClickHouse tables: everything blank but what a test names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gatemeter.schemas.tables import TABLES

HOUR_US = 3_600_000_000
NOON_US = 1_772_366_400_000_000  # 2026-03-01 12:00 UTC

_BLANK: dict[str, Any] = {"string": "", "bytes": b"", "bool": False, "time": NOON_US}


def blank_row(table: str) -> dict[str, Any]:
    """A row with every column of `table`: null where allowed, else '', 0, False or 2026-03-01 12:00 UTC."""
    return {name: None if kind.endswith("?") else _BLANK.get(kind, 0) for name, kind in TABLES[table]}


def exact(pico: int) -> Decimal:
    """`pico` · 10⁻¹² with every digit (arithmetic on Decimals rounds to 28 digits)."""
    return Decimal(f"{pico}e-12")
