"""The provider's side from ClickHouse: lines of the billing imports in force, in sums, and lines that are there twice.

Amounts in another currency than the gateway's are converted at the rate of ours that is in force at the end of their
month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.reports.money import pico_of
from gatemeter.sinks.rows import query_rows
from gatemeter.sinks.terms.dated import half_even

USAGE: Final = "usage"
# A line without a class is realtime's, also one that no use stands behind: tax is in one run of a month, never in two.
_ORDINARY_CLASS: Final = "if(workload_class = '', 'realtime', workload_class)"
_ASKED: Final = f"""
    WHERE provider = {{provider:String}} AND billing_day >= {{from:Date}} AND billing_day < {{to:Date}}
        AND ({{class:String}} = '' OR {_ORDINARY_CLASS} = {{class:String}})"""
_DIMENSIONS: Final = (
    *(
        "billing_day",
        "content",
        "account",
        "project",
        "key_id",
        "charge_category",
        "charge_class",
        "line_item",
        "model",
    ),
    *("token_type", "service_tier", "workload_class", "unit", "currency"),
)
_LINES: Final = f"""
SELECT {", ".join(_DIMENSIONS)}, count() AS lines, count(l.quantity) AS with_quantity, count(l.amount) AS with_amount,
    sum(l.quantity) AS quantity, sum(l.amount) AS amount
FROM billing_lines_in_force AS l {_ASKED}
GROUP BY {", ".join(_DIMENSIONS)}
ORDER BY {", ".join(_DIMENSIONS)}
"""
_REPEATED: Final = f"""
SELECT {", ".join(_DIMENSIONS)}, sum(copies - 1) AS repeated, sum(quantity * (copies - 1)) AS quantity,
    sum(amount * (copies - 1)) AS amount
FROM
(
    SELECT {", ".join(_DIMENSIONS)}, raw, count() AS copies, any(l.quantity) AS quantity, any(l.amount) AS amount
    FROM billing_lines_in_force AS l {_ASKED} AND raw != '' AND charge_category = '{USAGE}'
    GROUP BY {", ".join(_DIMENSIONS)}, import_id, starts_at, ends_at, raw
    HAVING copies > 1
)
GROUP BY {", ".join(_DIMENSIONS)}
"""
_COVERED: Final = """
SELECT billing_day, groupUniqArray(import_id) AS imports, countIf(content != 'usage') > 0 AS has_cost
FROM billing_days
WHERE provider = {provider:String} AND billing_day >= {from:Date} AND billing_day < {to:Date}
GROUP BY billing_day
"""
_DECIMALS: Final = f"""
SELECT max(length(trimRight(splitByChar('.', concat(toString(l.amount), '.'))[2]))) AS decimals
FROM billing_lines_in_force AS l {_ASKED} AND charge_category = '{USAGE}' AND l.amount IS NOT NULL
"""
_CALENDARS: Final = f"""
SELECT DISTINCT calendar FROM billing_lines_in_force AS l {_ASKED} AND calendar != '' ORDER BY calendar
"""
UNITS: Final = {
    **dict.fromkeys(("1k tokens", "1000 tokens", "thousand tokens"), 1_000),
    **dict.fromkeys(("1m tokens", "1000000 tokens", "million tokens"), 1_000_000),
}
"""How many tokens one unit is, where that is not one."""


@dataclass(frozen=True, slots=True)
class Days:
    """Billing days [first, end) of a provider. `workload_class`: '' is all."""

    provider: str
    first: date
    end: date
    workload_class: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """As query parameters."""
        return {"provider": self.provider, "from": self.first, "to": self.end, "class": self.workload_class}


@dataclass(frozen=True, slots=True)
class BilledLine:
    """Lines of one day that differ in amount and quantity only. `amount`: 10⁻¹² units of the gateway's currency."""

    day: date
    names: Mapping[str, str]
    lines: int
    quantity: Decimal | None
    amount: int | None

    @property
    def is_usage(self) -> bool:
        """Whether use stands behind it."""
        return self.names["charge_category"] == USAGE


Convert = Callable[[str], Fraction]
"""How many units of the gateway's currency one of another is. Raises `NoRate`."""


def billed_lines(client: Client, days: Days, convert: Convert) -> Iterator[BilledLine]:
    """Lines in force, in sums. Raises `NoRate`, `SinkUnavailable`, `SinkRefused`."""
    for row in query_rows(client, "read the billing lines", _LINES, days.asked):
        quantity = row["quantity"] if row["with_quantity"] else None
        amount = row["amount"] if row["with_amount"] else None
        yield _line(row, row["lines"], quantity, amount, convert)


def repeated_lines(client: Client, days: Days, convert: Convert) -> Iterator[BilledLine]:
    """Lines of use that an export has more than once, byte by byte: what they say beyond once."""
    for row in query_rows(client, "look for repeated billing lines", _REPEATED, days.asked):
        yield _line(row, row["repeated"], row["quantity"], row["amount"], convert)


def _line(
    row: Mapping[str, Any], lines: int, quantity: Decimal | None, amount: Decimal | None, convert: Convert
) -> BilledLine:
    names = {name: row[name] for name in _DIMENSIONS if name != "billing_day"}
    if quantity is not None:
        quantity *= UNITS.get(names["unit"].lower(), 1)
    pico = None if amount is None else half_even(pico_of(amount) * convert(names["currency"]))
    return BilledLine(row["billing_day"], names, lines, quantity, pico)


@dataclass(frozen=True, slots=True)
class Covered:
    """The days that imports speak of, and the imports. `has_cost`: amounts are among them."""

    days: frozenset[date]
    imports: tuple[str, ...]
    has_cost: bool


def covered(client: Client, days: Days) -> Covered:
    """What is imported of these days. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = query_rows(client, "read which days are imported", _COVERED, days.asked)
    imports = {each for row in rows for each in row["imports"]}
    return Covered(
        frozenset(row["billing_day"] for row in rows), tuple(sorted(imports)), any(r["has_cost"] for r in rows)
    )


def calendars(client: Client, days: Days) -> list[str]:
    """The time zones whose days the lines are of. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = query_rows(client, "read which days lines are of", _CALENDARS, days.asked)
    return [str(row["calendar"]) for row in rows]


def rounded_to(client: Client, days: Days) -> int:
    """The provider's smallest step of an amount, in 10⁻¹² units: 10¹⁰ where all its lines are whole cents."""
    (row,) = query_rows(client, "look how amounts are rounded", _DECIMALS, days.asked)
    return int(10 ** (12 - int(row["decimals"] or 0)))
