"""Files of commitments, exchange rates and budgets as drafts of metadata records.

budgets.yaml: budget 'acme': amount must be 0 to 1000000000000000 with at most 12 decimals, got -5
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.yamlfiles import MISSING, Entry, FileError, by_id, by_position, load_yaml, to_number
from gatemeter.schemas.codec import Decoded
from gatemeter.sinks.terms.budgets import MAX_PERCENT, SCOPES
from gatemeter.sinks.terms.commitments import PER

STANDARD_TIER: Final = "standard"


def read_commitments_file(path: Path) -> list[Draft]:
    """The drafts of `commitments`. Raises `FileError`."""
    return _drafts(path, "commitments", "Commitment", by_id("commitment", "commitment"), _commitment)


def read_fx_file(path: Path) -> list[Draft]:
    """The drafts of `rates`. Raises `FileError`."""
    return _drafts(path, "rates", "FxRate", by_position("rate"), _fx_rate)


def read_budgets_file(path: Path) -> list[Draft]:
    """The drafts of `budgets`. Raises `FileError`."""
    return _drafts(path, "budgets", "Budget", by_id("budget", "budget"), _budget)


def _drafts(
    path: Path,
    section: str,
    kind: str,
    label: Callable[[int, Any], str],
    read: Callable[[Entry], dict[str, Any]],
) -> list[Draft]:
    top = load_yaml(path)
    drafts = [_draft(entry, kind, read) for entry in top.entries(section, label)]
    top.done()
    if not drafts:
        raise top.error(f"{section} is missing; it must be a list with at least one entry")
    seen: set[tuple[str, str, int]] = set()
    for draft in drafts:
        if draft.identity in seen:
            raise FileError(f"{path.name}: {kind} {draft.identity[1]!r} is there twice with the same effective_from")
        seen.add(draft.identity)
    return drafts


def _draft(entry: Entry, kind: str, read: Callable[[Entry], dict[str, Any]]) -> Draft:
    datum = read(entry)
    entry.done()
    draft = Draft(kind, datum)
    try:
        entry_of(Decoded(kind, dict(datum)))
    except MetadataError as error:
        raise entry.error(str(error)) from error
    return draft


def _dates(entry: Entry) -> dict[str, Any]:
    """Terms cost money from a day on: a start must be named."""
    return {
        "effective_from": entry.instant_us("effective_from"),
        "effective_to": entry.instant_us("effective_to", None),
    }


def _commitment(entry: Entry) -> dict[str, Any]:
    hour, month = (_decimal(entry, f"amount_per_{per}", optional=True) for per in PER)
    if bool(hour) == bool(month):
        raise entry.error("either amount_per_hour or amount_per_month must be given")
    tier = entry.text("service_tier", None)
    return {
        "commitment_id": entry.text("commitment"),
        **_dates(entry),
        "provider": entry.text("provider"),
        "models": sorted(entry.texts("models")),
        "service_tier": "" if tier == STANDARD_TIER else tier,
        "region": entry.text("region", None),
        "amount": hour or month,
        "per": "hour" if hour else "month",
        "settled": entry.choice("settled", PER, "month"),
        "currency": entry.text("currency"),
        "source": entry.text("source"),
    }


def _fx_rate(entry: Entry) -> dict[str, Any]:
    base, quote = entry.text("base"), entry.text("quote")
    return {
        "pair": f"{base}/{quote}",
        **_dates(entry),
        "rate": _decimal(entry, "rate"),
        "source": entry.text("source"),
    }


def _budget(entry: Entry) -> dict[str, Any]:
    subjects = [(scope, entry.text(scope, None)) for scope in SCOPES]
    named = [(scope, subject) for scope, subject in subjects if subject]
    if len(named) != 1:
        raise entry.error("either tenant or cost_centre must be given")
    (scope, subject), *_ = named
    return {
        "budget_id": entry.text("budget"),
        **_dates(entry),
        "scope": scope,
        "subject": subject,
        "amount": _decimal(entry, "amount"),
        "currency": entry.text("currency"),
        "thresholds": list(_percents(entry)),
        "owner": entry.text("owner"),
    }


def _decimal(entry: Entry, name: str, *, optional: bool = False) -> str:
    """A number as exact decimal text, '' where it is optional and not there."""
    if optional and not entry.has(name):
        entry.take(name, "a number", None, to_number)
        return ""
    return f"{entry.take(name, 'a number', MISSING, to_number):f}"


def _percents(entry: Entry) -> Iterator[int]:
    expected = f"a list of whole per cents of 1 to {MAX_PERCENT}, for example [50, 80, 100]"
    listed = entry.take("thresholds", expected, [50, 80, 100], lambda value: value if isinstance(value, list) else None)
    for percent in listed:
        if not isinstance(percent, int) or isinstance(percent, bool):
            raise entry.error(f"thresholds must be {expected}, got {percent!r}")
        yield percent
