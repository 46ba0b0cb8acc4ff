"""The formats of exports that can be imported, and which of them a file looks like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gatemeter.sinks.billing.errors import NotThisFormat
from gatemeter.sinks.billing.mapping import Mapping, shipped
from gatemeter.sinks.billing.opening import Kind
from gatemeter.sinks.billing.secrets import scrubbed


@dataclass(frozen=True, slots=True)
class Format:
    """`mappings`: those that ship for it; the columns of the file tell which. `pages`: pages of buckets of an API."""

    name: str
    kinds: tuple[Kind, ...]
    mappings: tuple[str, ...]
    pages: bool = False


_TABLE: Final[tuple[Kind, ...]] = ("csv", "json", "parquet")

FORMATS: Final = {
    form.name: form
    for form in (
        Format("openai-costs", ("json",), ("openai-costs",), pages=True),
        Format("openai-usage", ("json",), ("openai-usage",), pages=True),
        Format("openai-csv", ("csv",), ("openai-csv", "openai-csv-usage")),
        Format("anthropic-cost", ("json",), ("anthropic-cost",), pages=True),
        Format("anthropic-usage", ("json",), ("anthropic-usage",), pages=True),
        Format("aws-cur", _TABLE, ("aws-cur",)),
        Format("focus", _TABLE, ("focus",)),
    )
}


def choose(form: Format, mappings: Iterable[Mapping], columns: frozenset[str], name: str) -> Mapping:
    """The mapping whose columns are there. Raises `NotThisFormat`: it says what is missing, and what was found."""
    candidates = list(mappings)
    for mapping in candidates:
        if not mapping.missing(columns):
            return mapping
    missing = min((mapping.missing(columns) for mapping in candidates), key=len)
    found = looks_like(columns)
    guess = f"it looks like {found}" if found else f"found {_listed(columns)}"
    raise NotThisFormat(f"{name}: expected {form.name}, which has {', '.join(missing)}; {guess}")


def looks_like(columns: frozenset[str]) -> str:
    """The format with the most telling columns of those that fit; '' where none does."""
    fits = [
        (len(mapping.required), form.name)
        for form in FORMATS.values()
        for mapping in map(shipped, form.mappings)
        if not mapping.missing(columns)
    ]
    return max(fits, default=(0, ""))[1]


def _listed(columns: frozenset[str]) -> str:
    shown = sorted(columns)[:8]
    more = f" and {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""
    return f"{', '.join(scrubbed(column)[:40] for column in shown)}{more}" if shown else "no column"
