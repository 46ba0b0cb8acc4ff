"""A line of a bill as every format gives it, and what is said of a row that gives none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from gatemeter.schemas.tables import BUCKETS, METERS

CATEGORIES: Final = ("usage", "tax", "credit", "fee", "commitment", "rounding", "adjustment")
CLASSES: Final = ("", "correction")
CONTENTS: Final = ("cost", "usage", "cost_and_usage")
TOTALS: Final = ("input_total", "output_total")
"""Where a provider tells only a sum: `input_total` of all input, `output_total` of text written, reasoning in it."""

TOKEN_TYPES: Final = (*BUCKETS, *TOTALS)
"""What is counted in tokens. A line may also count one of `METERS`, or nothing ('')."""

COUNTED: Final = ("", *TOKEN_TYPES, *METERS)


@dataclass(frozen=True, slots=True)
class BillingLine:
    """One line. `line`: its number in the import, from 1; `source_line`: where its row is in the file.

    `account` is who is billed, `project` the account, workspace or project below it, `key_id` the key, principal or
    resource that was used; '' where the provider does not say. Times are microseconds UTC, `[starts_us, ends_us)`;
    `billing_day` is the provider's day in `calendar`. Quantities of token types are tokens. None is not told.
    """

    line: int
    source_line: int
    provider: str
    content: str
    account: str
    project: str
    key_id: str
    billing_day: date
    calendar: str
    starts_us: int
    ends_us: int
    charge_category: str
    charge_class: str
    line_item: str
    model: str
    token_type: str
    service_tier: str
    workload_class: str
    region: str
    quantity: Decimal | None
    unit: str
    amount: Decimal | None
    list_amount: Decimal | None
    currency: str
    tags: str
    raw: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that gives no line. `line` counts through all files of an import; `place` says file and line."""

    line: int
    place: str
    field: str
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Covered:
    """A day of an account of which an import speaks, with or without lines."""

    provider: str
    account: str
    content: str
    billing_day: date
