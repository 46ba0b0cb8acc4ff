"""The explanation of one request as plain data, and the sum at its end: do components add up to the charge?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.processors.corrections.rows import AVOIDED
from gatemeter.processors.explaining.amounts import Money, money_of, money_of_decision
from gatemeter.processors.explaining.attribution import Path, path_of
from gatemeter.processors.explaining.reckoning import Reckoned, exact, reckon_decision, reckon_usage
from gatemeter.processors.explaining.standing import Standing, standing_of
from gatemeter.processors.explaining.terms import Terms
from gatemeter.sinks.reports.requests import RequestRows, Row

COMPONENTS: Final = ("token_cost", "model_cost", "policy_cost", "markup", "cache_price")
_SUMMED: Final = ("list_cost", "provider_cost", *COMPONENTS, "charge", "absorbed", *AVOIDED)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log that has a row. `counts`: its row is the truth; else another one supersedes it."""

    kind: str
    id: str
    attempt: int
    counts: bool
    usage_revision: int
    occurred_at_us: int
    recorded_at_us: int
    posted_hour_us: int
    place: str
    event_index: int
    kid: str
    epoch: str
    sequence: int
    identity_source: str
    evidence_grade: str
    content_hash: str
    metadata_offset: int


@dataclass(frozen=True, slots=True)
class Item:
    """An attempt or a decision: its row, how its amounts came about (None: without prices), and what counts now."""

    kind: str
    fact: Mapping[str, Any]
    recorded: Money
    reckoned: Reckoned | None
    standing: Standing

    @property
    def name(self) -> str:
        """For people."""
        return f"attempt {self.fact['attempt']}" if self.kind == "usage" else f"decision {self.fact['decision_id']}"

    @property
    def rules(self) -> tuple[str, ...]:
        """All rules that applied."""
        return (*(self.reckoned.rules if self.reckoned else ()), *self.standing.rules)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that does not agree."""
        return (*(self.reckoned.problems if self.reckoned else ()), *self.standing.problems)


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of what counts, of one currency. `without_amount`: attempts and decisions that are in no total."""

    currency: str
    money: Mapping[str, int]
    retry_cost: int
    items: int
    without_amount: int

    @property
    def parts(self) -> int:
        """Components and mark-up, less what is absorbed."""
        return sum(self.money[name] for name in COMPONENTS) - self.money["absorbed"]

    @property
    def internal_policy_cost(self) -> int:
        """The part of the policy cost that the platform bills itself."""
        return sum(self.money[name] for name in COMPONENTS[:3]) - self.money["provider_cost"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A request. `prices_from`: the metadata log, '' without prices; `problems`: what does not agree, a line each."""

    gateway_id: str
    request_id: str
    head: Mapping[str, Any]
    prices_from: str
    events: tuple[Event, ...]
    attempts: tuple[Item, ...]
    decisions: tuple[Item, ...]
    paths: tuple[Path, ...]
    rows: RequestRows
    totals: tuple[Total, ...]
    problems: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Nothing disagrees."""
        return not self.problems


_HEAD: Final = (
    *("request_started_at", "tenant_id", "app_id", "workload_id", "credential_fingerprint", "end_user"),
    *("purpose", "route", "parent_request_id", "trace_id", "idempotency_key", "client_request_id"),
    "client_network",
)


def explain(rows: RequestRows, terms: Terms | None) -> Explanation:
    """The calculation of one request done again; `terms` None: facts only. Raises `TermsMissing`."""
    usage = truths(rows.usage, ("attempt",), "response_hash")
    decided = truths(rows.decisions, ("decision_id",), "content_hash")
    attempts = tuple(_attempt(fact, rows, terms) for fact in usage)
    decisions = tuple(_decision(fact, rows, terms) for fact in decided)
    items = (*attempts, *decisions)
    totals = tuple(_totals(items))
    first = next(iter((*usage, *decided)), {})
    return Explanation(
        rows.gateway_id,
        rows.request_id,
        {name: first[name] for name in _HEAD if name in first},
        "" if terms is None else terms.origin,
        tuple(_events(rows, {id(fact) for fact in (*usage, *decided)})),
        attempts,
        decisions,
        tuple(_paths(items, rows, terms)),
        rows,
        totals,
        (*(f"{item.name}: {text}" for item in items for text in item.problems), *_wrong_totals(totals, rows)),
    )


def truths(facts: Iterable[Row], key: tuple[str, ...], row_hash: str) -> list[Row]:
    """Of each attempt or decision its row with the greatest version (of equal ones the greatest hash), in order."""
    best: dict[tuple[Any, ...], Row] = {}
    for fact in facts:
        named = tuple(fact[name] for name in key)
        known = best.get(named)
        if known is None or (fact["version"], fact[row_hash]) > (known["version"], known[row_hash]):
            best[named] = fact
    return [best[named] for named in sorted(best)]


def _attempt(fact: Row, rows: RequestRows, terms: Terms | None) -> Item:
    recorded = money_of(fact)
    reckoned = None if terms is None else reckon_usage(fact, terms)
    return Item("usage", fact, recorded, reckoned, standing_of(fact, recorded, rows, terms, kind="usage"))


def _decision(fact: Row, rows: RequestRows, terms: Terms | None) -> Item:
    recorded = money_of_decision(fact)
    reckoned = None if terms is None else reckon_decision(fact, terms)
    return Item("decision", fact, recorded, reckoned, standing_of(fact, recorded, rows, terms, kind="decision"))


def _events(rows: RequestRows, true_rows: set[int]) -> Iterable[Event]:
    found = [_event(row, "usage", id(row) in true_rows) for row in rows.usage]
    found += [_event(row, "decision", id(row) in true_rows) for row in rows.decisions]
    return sorted(found, key=lambda event: (event.occurred_at_us, event.recorded_at_us, event.place, event.event_index))


def _event(row: Row, kind: str, counts: bool) -> Event:
    usage = kind == "usage"
    return Event(
        ("RESPONSE" if row["has_response"] else "REQUEST") if usage else "POLICY",
        row["provider_request_id"] if usage else row["decision_id"],
        row["attempt"],
        counts,
        row["usage_revision"] if usage else 0,
        row["occurred_at"],
        row["recorded_at"],
        row["posted_hour"],
        f"{row['topic']}[{row['partition']}]@{row['offset']}",
        row["event_index"],
        row["kid"],
        row["epoch"],
        row["sequence"],
        row["identity_source"],
        row["evidence_grade"],
        row["response_hash"] if usage else row["content_hash"],
        row["metadata_offset"],
    )


def _paths(items: Iterable[Item], rows: RequestRows, terms: Terms | None) -> Iterable[Path]:
    """Each path once: usually all attempts and decisions have the same."""
    found: list[Path] = []
    for item in items:
        key = "attempt" if item.kind == "usage" else "decision_id"
        now = next((row for row in rows.counted if row["kind"] == item.kind and row[key] == item.fact[key]), None)
        view = None if terms is None else terms.view(item.fact["metadata_offset"])
        path = path_of(item.fact, view, now)
        if path not in found:
            found.append(path)
    return found


def _totals(items: Iterable[Item]) -> Iterable[Total]:
    by_currency: dict[str, list[Standing]] = {}
    for item in items:
        by_currency.setdefault(item.standing.currency, []).append(item.standing)
    for currency, standings in sorted(by_currency.items()):
        known = [each for each in standings if each.counted.money["charge"] is not None]
        money = {name: sum(each.counted.money[name] or 0 for each in known) for name in _SUMMED}
        retry = sum(each.counted.retry_cost or 0 for each in known)
        yield Total(currency, money, retry, len(standings), len(standings) - len(known))


def _wrong_totals(totals: Iterable[Total], rows: RequestRows) -> Iterable[str]:
    """The sum of components against the charge, and against the charge lines of which statements are made."""
    for total in totals:
        charged = sum(row["charge"] or 0 for row in rows.counted if row["currency"] == total.currency)
        for what, charge in (("charges", total.money["charge"]), ("charge lines", charged)):
            if charge != total.parts:
                currency = total.currency or "no currency"
                yield f"the sum in {currency}: components {exact(total.parts)}, {what} {exact(charge)}"
