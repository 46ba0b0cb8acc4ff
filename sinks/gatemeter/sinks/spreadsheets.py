"""CSV that people open in a spreadsheet: what it would take for a formula stays text.

Names come from outside: `=HYPERLINK(…)` as the name of an application must not run where finance reads it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def defused(text: str) -> str:
    """Text that no spreadsheet calculates: one that begins like a formula gets an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_cell(value: Any) -> Any:
    """A value of a CSV file: text is defused unless it is a plain number, such as -0.25; anything else is as it is."""
    return defused(value) if isinstance(value, str) and not _NUMBER.fullmatch(value) else value


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file with a line of names; every value is a `csv_cell`, what a row does not have is empty.

    Raises `ValueError` where a row has a name that is no column.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()
