"""Reads billing exports without a database, and writes small ones by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatemeter.sinks.billing import FORMATS, BillingLine, Order, Outcome, Rejected, identify, read

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks.exports` writes exports


@dataclass
class ListedLines:
    """A `LineSink` that keeps what it is given."""

    lines: list[BillingLine] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    chunks: int = 0

    def write_lines(self, import_id: str, lines: Sequence[BillingLine]) -> None:
        self.lines += lines
        self.chunks += 1

    def write_rejected(self, import_id: str, rejected: Sequence[Rejected]) -> None:
        self.rejected += rejected


@dataclass
class Imported:
    """What came of an import."""

    outcome: Outcome
    lines: list[BillingLine]
    rejected: list[Rejected]


def imported(form: str, *paths: Path, **said: Any) -> Imported:
    """Imports files into a list; `said` are fields of `Order`."""
    order = Order(paths, FORMATS[form], **said)
    sink = ListedLines()
    outcome = read(order, identify(order), sink)
    return Imported(outcome, sink.lines, sink.rejected)


def wrote(path: Path, content: str | bytes | dict[str, Any] | list[Any]) -> Path:
    """A file of text, bytes or JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def openai_page(*results: dict[str, Any], start: int = 1_793_491_200, days: int = 1) -> dict[str, Any]:
    """A page of OpenAI's with buckets of a day; all results are in the first. 1 November 2026 if nothing is said."""
    buckets = [
        {"object": "bucket", "start_time": start + day * 86_400, "end_time": start + (day + 1) * 86_400, "results": []}
        for day in range(days)
    ]
    buckets[0]["results"] = list(results)
    return {"object": "page", "data": buckets, "has_more": False, "next_page": None}


def openai_cost(value: Any = 1.25, currency: str | None = "usd", **more: Any) -> dict[str, Any]:
    """A result of OpenAI's costs."""
    amount = {"value": value, "currency": currency}
    return {"object": "organization.costs.result", "amount": amount, "line_item": "gpt-5.5, input", **more}


FOCUS_COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingCurrency", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargePeriodStart", "ChargePeriodEnd", "ConsumedQuantity", "ConsumedUnit", "ProviderName", "ServiceCategory"),
    *("SkuMeter", "Tags"),
)


def focus_row(**changes: str) -> dict[str, str]:
    """A row of FOCUS as Azure writes it."""
    row = {
        "BilledCost": "1.5",
        "BillingAccountId": "b-1",
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "",
        "ChargePeriodStart": "2026-11-03T00:00:00Z",
        "ChargePeriodEnd": "2026-11-04T00:00:00Z",
        "ConsumedQuantity": "1000",
        "ConsumedUnit": "Units",
        "ProviderName": "Microsoft",
        "ServiceCategory": "AI and Machine Learning",
        "SkuMeter": "gpt 4o 1120 Inp glbl Tokens",
        "Tags": "",
    }
    return row | changes


def focus_csv(*rows: dict[str, str], end: str = "\n") -> str:
    """A FOCUS file of such rows."""
    quoted = [",".join('"' + row[name].replace('"', '""') + '"' for name in FOCUS_COLUMNS) for row in rows]
    return end.join((",".join(FOCUS_COLUMNS), *quoted, ""))
