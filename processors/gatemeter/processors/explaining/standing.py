"""What counts of an attempt or decision today: its row, the correction in force on it, then the retry rule.

Held against the lines that the views make of the facts, and against the charge lines, of which every total is made:
the ledger's where the request is sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatemeter.processors.corrections.rows import AMOUNTS, AVOIDED
from gatemeter.processors.explaining import wording
from gatemeter.processors.explaining.amounts import Counted, Money, RetryRule, after_retry_rule, money_of
from gatemeter.processors.explaining.lines import Line, usage_lines
from gatemeter.processors.explaining.reckoning import exact, input_tokens
from gatemeter.processors.explaining.terms import Terms, rate_of
from gatemeter.processors.metadata.attributing import who_of
from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.views import build_view
from gatemeter.processors.pricing.components import price_usage, quantities_of, tier_of
from gatemeter.sinks.reports.requests import RequestRows, Row


@dataclass(frozen=True, slots=True)
class CorrectionApplied:
    """The correction in force. `lines`: where it is a repricing with a published card that gives its amounts."""

    run_id: str
    cause: str
    reason: str
    kid: str
    committed_hour_us: int
    rate_card_id: str
    money: Money
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts. `posting_period`: the month in which it is booked, '' while its hour is open."""

    role: str
    counted: Counted
    currency: str
    price_status: str
    posting_period: str
    correction: CorrectionApplied | None
    rules: tuple[str, ...]
    problems: tuple[str, ...]


def standing_of(
    fact: Mapping[str, Any], recorded: Money, rows: RequestRows, terms: Terms | None, *, kind: str
) -> Standing:
    """Of the true row of an attempt (`kind` usage) or decision."""
    line = _line(rows.lines, fact, kind)
    counted = _line(rows.counted, fact, kind)
    if line is None or counted is None:
        missing = "the facts" if line is None else "the charge lines"
        absent = f"{missing} have no line of this row: it is in no total"
        nothing = Counted(recorded, fact["absorbed_to"], None)
        return Standing("", nothing, fact["currency"], fact["price_status"], "", None, (), (absent,))
    correction = _correction(fact, line, rows, terms)
    base = recorded if correction is None else correction.money
    absorbed_to = fact["absorbed_to"] if correction is None else _corrected(rows, correction, fact)["absorbed_to"]
    retry = RetryRule(fact["retry_rule"], fact["retry_cost_centre"]) if kind == "usage" else RetryRule()
    if correction is not None and kind == "usage":
        later = _corrected(rows, correction, fact)["retry_rule"]
        retry = RetryRule(later or fact["retry_rule"], fact["retry_cost_centre"])
    expected = after_retry_rule(base, absorbed_to, retry, line["attempt_role"])
    problems = [
        *_unequal("the view of the facts", line, expected),
        *_unequal("the charge line", counted, expected),
        *_equation(base, "the correction" if correction else "the row", _internal(fact, base, correction)),
        *_in_ledger(rows, counted),
    ]
    rules = wording.of_retry_rule(retry.rule, line["attempt_role"], base["charge"], expected.absorbed_to)
    return Standing(
        line["attempt_role"],
        expected,
        counted["currency"],
        counted["price_status"],
        counted["posting_period"],
        correction,
        tuple(rules) if kind == "usage" else (),
        tuple(problems),
    )


def _line(lines: Sequence[Row], fact: Mapping[str, Any], kind: str) -> Row | None:
    name = "response_hash" if kind == "usage" else "content_hash"
    key = "attempt" if kind == "usage" else "decision_id"
    for line in lines:
        if line["kind"] == kind and line[key] == fact[key] and line["response_hash"] == fact[name]:
            return line
    return None


def _corrected(rows: RequestRows, correction: CorrectionApplied, fact: Mapping[str, Any]) -> Row:
    return next(row for row in _of_fact(rows, fact) if row["run_id"] == correction.run_id)


def _of_fact(rows: RequestRows, fact: Mapping[str, Any]) -> list[Row]:
    """Committed replacements of a row, the last first."""
    target = ("decision", fact["decision_id"]) if "decision_id" in fact else ("usage", fact["request_id"])
    row_hash = fact["content_hash"] if "decision_id" in fact else fact["response_hash"]
    attempt = 0 if "decision_id" in fact else fact["attempt"]
    return [
        row
        for row in reversed(rows.corrections)
        if (row["target"], row["request_id"]) == target
        and (row["attempt"], row["response_hash"]) == (attempt, row_hash)
    ]


def _correction(fact: Mapping[str, Any], line: Row, rows: RequestRows, terms: Terms | None) -> CorrectionApplied | None:
    if not line["correction_run"]:
        return None
    row = next(row for row in _of_fact(rows, fact) if row["run_id"] == line["correction_run"])
    lines: tuple[Line, ...] = ()
    if row["cause"] == "reprice" and terms is not None:
        lines = _repriced(fact, row, terms)
    return CorrectionApplied(
        row["run_id"],
        row["cause"],
        row["reason"],
        row["kid"],
        row["committed_hour"],
        row["rate_card_id"],
        money_of(row),
        lines,
    )


def _repriced(fact: Mapping[str, Any], row: Row, terms: Terms) -> tuple[Line, ...]:
    """The lines of a repricing, where a published card of its name gives exactly its amounts; else none."""
    started = fact["request_started_at"]
    attribution = terms.view(fact["metadata_offset"]).attribution_of(who_of(fact), started)
    for card in terms.newest().cards:
        if card.card_id != row["rate_card_id"]:
            continue
        rate = rate_of(fact, build_view([card]))
        if rate is None:
            continue
        bought = {**fact, **quantities_of(fact)}
        amounts = price_usage(bought, rate, attribution, fact["evidence_grade"])
        if all(getattr(amounts, name) == row[name] for name in AMOUNTS):
            return tuple(usage_lines(bought, tier_of(rate, input_tokens(bought))))
    return ()


def _unequal(what: str, row: Row, expected: Counted) -> list[str]:
    found = [
        f"{what} says {name} {exact(row[name])}, it must be {exact(expected.money[name])}"
        for name in AMOUNTS
        if row[name] != expected.money[name]
    ]
    if row["retry_cost"] != expected.retry_cost:
        found.append(f"{what} says retry_cost {exact(row['retry_cost'])}, it must be {exact(expected.retry_cost)}")
    if row["absorbed_to"] != expected.absorbed_to:
        found.append(f"{what} says absorbed_to {row['absorbed_to']!r}, it must be {expected.absorbed_to!r}")
    return found


def _internal(fact: Mapping[str, Any], money: Money, correction: CorrectionApplied | None) -> tuple[int, ...]:
    """What may be internal policy cost: all of a decision's, where the platform bills it; a correction says which."""
    cost = money["policy_cost"] or 0
    if correction is not None:
        return (0, cost)
    return (cost,) if fact.get("billed_by") == INTERNAL else (0,)


def _equation(money: Money, what: str, internal: tuple[int, ...]) -> list[str]:
    """Components without internal policy cost are the provider's; `charge - provider_cost = markup + internal policy
    cost + cache_price - absorbed`."""
    values = {name: money[name] for name in AMOUNTS if name not in ("list_cost", *AVOIDED)}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return []
    if len(known) != len(values):
        missing = ", ".join(sorted(values.keys() - known.keys()))
        return [f"{what} has amounts, but {missing} is NULL"]
    found = []
    parts = known["token_cost"] + known["model_cost"] + known["policy_cost"]
    own = parts - known["provider_cost"]
    if own not in internal:
        found.append(f"{what}: components are {exact(parts)}, provider_cost is {exact(known['provider_cost'])}")
    charge = known["provider_cost"] + known["markup"] + own + known["cache_price"] - known["absorbed"]
    if charge != known["charge"]:
        found.append(
            f"{what}: components and mark-up less absorbed are {exact(charge)}, charge is {exact(known['charge'])}"
        )
    return found


def _in_ledger(rows: RequestRows, counted: Row) -> list[str]:
    """All entries of a sealed line, reversals too, add up to it."""
    if not counted["posting_period"]:
        return []
    key = ("kind", "attempt", "decision_id")
    entries = [row for row in rows.ledger if all(row[name] == counted[name] for name in key)]
    found = []
    for name in AMOUNTS:
        total = sum(row[name] or 0 for row in entries)
        if total != (counted[name] or 0):
            found.append(
                f"its {len(entries)} ledger entries add up to {name} {exact(total)}, it must be {exact(counted[name])}"
            )
    return found
