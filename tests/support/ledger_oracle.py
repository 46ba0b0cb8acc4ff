"""What a ledger must add up to, in a page: charge lines from fact rows by the rules as they are written, no SQL.

Rows are dictionaries as the fold writes them (`support.logs.to_rows`): times in microseconds, amounts as pico ints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

Row = Mapping[str, Any]
Key = tuple[str, str, str, int]
"""kind, gateway, request (of a decision its decision id), attempt."""

SUMMED: Final = (
    "list_cost",
    "provider_cost",
    "token_cost",
    "model_cost",
    "policy_cost",
    "markup",
    "cache_price",
    "charge",
    "avoided_provider_cost",
    "avoided_charge",
    "absorbed",
)


def charge_lines(usage: Iterable[Row], decisions: Iterable[Row], through_us: int) -> dict[Key, dict[str, Any]]:
    """The lines after every row posted up to the hour `through_us`: each attempt and decision once, roles applied."""
    truths: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
    for row in usage:
        attempts = truths[row["gateway_id"], row["request_id"]]
        known = attempts.get(row["attempt"])
        if row["posted_hour"] <= through_us and (known is None or row["version"] > known["version"]):
            attempts[row["attempt"]] = row
    lines = {}
    for (gateway_id, request_id), attempts in truths.items():
        for attempt, row in attempts.items():
            lines["usage", gateway_id, request_id, attempt] = _usage_line(row, role_of(attempt, attempts))
    for decision in _latest_decisions(decisions, through_us):
        key = ("decision", decision["gateway_id"], decision["decision_id"], decision["attempt"])
        zero = None if decision["policy_cost"] is None else 0
        lacking = dict.fromkeys(("token_cost", "model_cost", "cache_price"), zero)
        costs = {name: lacking.get(name, decision.get(name)) for name in SUMMED}
        lines[key] = {**costs, "tenant_id": decision["tenant_id"]}
    return lines


def role_of(attempt: int, attempts: Mapping[int, Row]) -> str:
    """The attempt's role among all attempts of its request."""
    delivered = [number for number, row in attempts.items() if row["delivered"]]
    ok = [number for number, row in attempts.items() if row["status"] == "ok"]
    answering = max(delivered, default=max(ok, default=0))
    row = attempts[attempt]
    if attempt == answering:
        return "answered"
    if row["status"] == "ok":
        return "hedge_lost"
    if row["status"] == "cancelled":
        return "cancelled"
    later = [number for number in attempts if number > attempt]
    if not later:
        return "failed"
    return "retried" if attempts[min(later)]["model"] == row["model"] else "fallback"


def _usage_line(row: Row, role: str) -> dict[str, Any]:
    line = {name: row[name] for name in SUMMED}
    if row["retry_rule"] == "final_only" and role != "answered" and row["charge"] is not None:
        line["charge"] = 0
        line["absorbed"] = None if row["absorbed"] is None else row["absorbed"] + row["charge"]
    return {**line, "tenant_id": row["tenant_id"]}


def _latest_decisions(decisions: Iterable[Row], through_us: int) -> Iterable[Row]:
    latest: dict[tuple[str, str], Row] = {}
    for row in decisions:
        key = row["gateway_id"], row["decision_id"]
        if row["posted_hour"] <= through_us and (key not in latest or row["version"] > latest[key]["version"]):
            latest[key] = row
    return latest.values()
