"""Entries from lines and what was posted of them: what is booked, why, what takes back what; nothing is netted."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.processors.sealing.entries import (
    ENTRIES,
    LEDGER,
    LINE,
    LINES,
    QUANTITIES,
    LedgerDiffers,
    entries_of,
    free_entries,
)
from support.facts import HOUR_US, NOON_US

BLANK: dict[str, Any] = {
    name: "" if kind == pl.String() else None if name in QUANTITIES else 0 for name, kind in LINES.items()
}


def line(request: str = "r", attempt: int = 1, **changes: Any) -> dict[str, Any]:
    own = {"kind": "usage", "gateway_id": "gw", "request_id": request, "attempt": attempt, "usage_hour": NOON_US}
    own |= {"response_hash": "h", "attempt_role": "answered", "charge": 33, "input_tokens": 100, "output_tokens": 20}
    return BLANK | own | changes


def posted(line_: dict[str, Any], entry: int = 0) -> dict[str, Any]:
    blank = {name: "" if kind == pl.String() else 0 for name, kind in LEDGER.items()}
    return blank | {name: line_[name] for name in LINE} | {"seal_id": "s0", "entry": entry}


def made(
    lines: list[dict[str, Any]], was: list[dict[str, Any]], hour: int = 1, open_period: str = ""
) -> list[dict[str, Any]]:
    frame = entries_of(
        "usage",
        pl.DataFrame(lines, schema=LINES, orient="row"),
        pl.DataFrame(was, schema=LEDGER, orient="row"),
        hour_us=NOON_US + hour * HOUR_US,
        open_period=open_period,
    )
    assert frame.schema == pl.Schema(ENTRIES)
    return frame.to_dicts()


def test_a_first_posting_is_usage_in_its_own_hour_and_late_in_a_later_one() -> None:
    (own,) = made([line()], [], hour=0)
    (late,) = made([line()], [])
    assert (own["cause"], late["cause"]) == ("usage", "late")
    assert (late["usage_period"], late["posting_period"], late["reverses"], late["reference"]) == (
        "2026-03",
        "2026-03",
        "",
        "",
    )


def test_an_equal_line_posts_nothing() -> None:
    assert made([line()], [posted(line())]) == []


def test_a_change_takes_back_and_puts_instead() -> None:
    back, new = made([line(response_hash="h2", charge=50)], [posted(line(), 7)], open_period="2026-04")
    assert (back["charge"], back["input_tokens"], back["reverses"], back["response_hash"]) == (-33, -100, "s0:7", "h")
    assert (new["charge"], new["input_tokens"], new["reference"], new["reverses"]) == (50, 100, "s0:7", "")
    assert {back["cause"], new["cause"]} == {"revision"}
    assert {back["posting_period"], new["posting_period"]} == {"2026-04"}


@pytest.mark.parametrize(
    ("changes", "cause", "reference"),
    [
        ({"response_hash": "h2"}, "revision", "s0:0"),
        ({"attempt_role": "retried", "charge": 0}, "retry_rule", "s0:0"),
        (
            {"charge": 7, "correction_run": "run", "correction_cause": "reprice", "correction_hour": NOON_US + HOUR_US},
            "reprice",
            "run",
        ),
        (
            {"response_hash": "h2", "correction_run": "run", "correction_cause": "reprice", "correction_hour": 0},
            "revision",
            "s0:0",
        ),
    ],
)
def test_a_change_is_booked_by_its_cause(changes: dict[str, Any], cause: str, reference: str) -> None:
    _, new = made([line(**changes)], [posted(line())])
    assert (new["cause"], new["reference"]) == (cause, reference)


def test_unknown_amounts_stay_unknown_in_a_reversal() -> None:
    back, new = made([line(response_hash="h2")], [posted(line(charge=None))])
    assert (back["charge"], new["charge"]) == (None, 33)


def test_a_posted_line_without_facts_is_an_error() -> None:
    with pytest.raises(LedgerDiffers, match=r"s0:3 of usage 'gone' \(gateway 'gw'\) has no row in the facts any more"):
        made([line()], [posted(line("gone"), 3)])


def test_free_corrections_become_entries_of_their_own() -> None:
    row = dict.fromkeys(LINES) | {
        "kind": "free",
        "tenant_id": "acme",
        "usage_hour": NOON_US,
        "currency": "USD",
    }
    row |= {"charge": -5, "run_id": "run", "cause": "manual", "reason": "credit"}
    row |= dict.fromkeys(("gateway_id", "request_id", "response_hash", "rate_card_id", "plan_id", "absorbed_to"), "")
    frame = free_entries([row, row | {"kind": "replace"}], hour_us=NOON_US, open_period="")
    (entry,) = frame.to_dicts()
    assert (entry["kind"], entry["cause"], entry["tenant_id"], entry["charge"]) == ("correction", "manual", "acme", -5)
    assert (entry["reference"], entry["reason"], entry["reverses"]) == ("run", "credit", "")


KEYS = st.tuples(st.sampled_from("abc"), st.integers(1, 3))
STATES = st.dictionaries(KEYS, st.tuples(st.sampled_from(["h", "i"]), st.none() | st.integers(-5, 5)), max_size=6)


@settings(deadline=None)
@given(STATES, STATES)
def test_what_was_posted_and_the_entries_add_up_to_the_lines_as_they_are(before: Any, after: Any) -> None:
    after = {**dict.fromkeys(before, ("h", 0)), **after}  # a line never goes away
    was = [line(request, attempt, response_hash=h, charge=c) for (request, attempt), (h, c) in sorted(before.items())]
    now = [line(request, attempt, response_hash=h, charge=c) for (request, attempt), (h, c) in sorted(after.items())]
    old = [posted(each, number) for number, each in enumerate(was)]
    entries = made(now, old)
    standing = {f"s0:{number}": each for number, each in enumerate(was)}
    for entry in entries:
        if entry["reverses"]:
            taken = standing.pop(entry["reverses"])
            assert [entry[name] for name in QUANTITIES] == [None if taken[n] is None else -taken[n] for n in QUANTITIES]
    left = [*standing.values(), *(entry for entry in entries if not entry["reverses"])]
    by_key = {(each["request_id"], each["attempt"]): {name: each[name] for name in LINE} for each in left}
    assert len(by_key) == len(left)
    assert by_key == {(each["request_id"], each["attempt"]): {name: each[name] for name in LINE} for each in now}
    order = [(entry["request_id"], entry["attempt"], entry["reverses"] == "") for entry in entries]
    assert order == sorted(order)
