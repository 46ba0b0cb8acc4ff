"""The Azure LLM inference trace 2023 as calls: 28,185 requests of two real services, moved in time.

Source: Azure Public Dataset (CC BY 4.0), see `examples/azure-llm-2023/SOURCE.md`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Final

SERVICES: Final = ("conversation", "code")


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the trace. `started_us`: microseconds UTC."""

    service: str
    started_us: int
    input_tokens: int
    output_tokens: int


class TraceMissing(Exception):
    """The trace is neither in the installed package nor in the repository."""


def data_folder() -> Path:
    """Where trace, tenants and rates of the demo are: in the wheel, or in `examples/` of a checkout."""
    installed = Path(str(resources.files("gatemeter.cli"))) / "data"
    checkout = Path(__file__).resolve().parents[4] / "examples"
    for folder in (installed, checkout):
        if (folder / "azure-llm-2023").is_dir():
            return folder
    raise TraceMissing(f"the trace azure-llm-2023 is neither in {installed} nor in {checkout}")


def read_calls(folder: Path) -> list[Call]:
    """All calls of both services, by start."""
    calls = [call for service in SERVICES for call in _read(folder / f"{service}.csv", service)]
    return sorted(calls, key=lambda call: (call.started_us, call.service))


def _read(path: Path, service: str) -> Iterator[Call]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield Call(service, _micros(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _micros(text: str) -> int:
    """`2023-11-16 18:15:46.6805900` (UTC, 100 ns) in microseconds; the last digit is cut."""
    seconds, _, fraction = text.partition(".")
    at = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000 + int(f"{fraction:0<6}"[:6])


def moved(calls: list[Call], last_us: int) -> list[Call]:
    """The same calls with all distances kept, the last one starting at `last_us`."""
    shift = last_us - max(call.started_us for call in calls)
    return [Call(call.service, call.started_us + shift, call.input_tokens, call.output_tokens) for call in calls]
