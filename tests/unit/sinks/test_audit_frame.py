"""The frame of the audit: order, one verdict, looking again, and what could not be checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.sinks.port import SinkUnavailable
from gatemeter.sinks.reports.audit import (
    Audit,
    CannotCheck,
    Check,
    Finding,
    Result,
    not_asked,
    note,
    ok,
    run_checks,
    wrong,
)
from gatemeter.sinks.reports.completeness import Interval, as_text, without

AT_ONCE = timedelta(0)


def run(*checks: Check) -> Audit:
    return run_checks(checks, pause=AT_ONCE)


def looks(*answers: list[Finding]) -> Callable[[], list[Finding]]:
    """A check's `look` that finds one thing after the other; the last for ever."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_what_is_ok_or_a_note_is_clean() -> None:
    result = run(Check("a", lambda: [ok("a", "1", "fine"), note("a", "2", "look")]), not_asked("b", "--bootstrap"))
    assert (result.clean, result.exit_code, result.first_problem) == (True, 0, "")
    assert result.findings[-1].what == "not checked: needs --bootstrap"


def test_the_first_wrong_thing_is_named_and_the_code_is_1() -> None:
    result = run(
        Check("a", lambda: [ok("a", "1", "fine")]),
        Check("b", lambda: [wrong("b", "x", "one"), wrong("b", "y", "two")]),
        Check("c", lambda: [wrong("c", "z", "three")]),
    )
    assert (result.exit_code, result.first_problem) == (1, "b: x: one")
    assert [finding.scope for finding in result.of(Result.WRONG)] == ["x", "y", "z"]


def test_what_cannot_be_checked_is_code_2_and_the_others_go_on() -> None:
    def unavailable() -> Iterator[Finding]:
        yield ok("a", "1", "fine")
        raise SinkUnavailable("ClickHouse: away", timedelta(seconds=1))

    def unreadable() -> list[Finding]:
        raise CannotCheck("no such topic")

    result = run(Check("a", unavailable), Check("b", unreadable), Check("c", lambda: [ok("c", "", "fine")]))
    assert (result.exit_code, result.first_problem) == (2, "a: could not be checked: ClickHouse: away")
    assert [finding.check for finding in result.findings] == ["a", "b", "c"]


def test_something_wrong_outweighs_what_could_not_be_checked() -> None:
    def unreadable() -> list[Finding]:
        raise CannotCheck("no such topic")

    result = run(Check("a", unreadable), Check("b", lambda: [wrong("b", "x", "one")]))
    assert (result.exit_code, result.first_problem) == (1, "b: x: one")


def test_what_is_wrong_in_one_look_only_was_being_written() -> None:
    look = looks([wrong("a", "0", "behind"), ok("a", "1", "fine")], [ok("a", "0", "fine"), wrong("a", "1", "behind")])
    assert run(Check("a", look)).clean


def test_what_stays_wrong_is_wrong() -> None:
    look = looks([wrong("a", "0", "x"), wrong("a", "1", "y")], [wrong("a", "1", "y")], [wrong("a", "1", "z")])
    assert [finding.what for finding in run(Check("a", look)).findings] == ["z"]


def test_what_nobody_writes_is_looked_at_once() -> None:
    look = looks([wrong("a", "0", "x")], [ok("a", "0", "fine")])
    assert not run(Check("a", look, live=False)).clean


def test_many_intervals_are_shortened_for_people() -> None:
    assert as_text([(3, 4), (7, 10)]) == "3, 7 to 9"
    assert as_text([(n, n + 1) for n in range(0, 24, 2)]).endswith("16, 18 and 2 more intervals")


def numbers(intervals: list[Interval]) -> set[int]:
    return {number for first, after in intervals for number in range(first, after)}


intervals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=6
)


@given(st.sets(st.integers(0, 40)), intervals)
def test_what_was_given_up_is_taken_from_what_is_missing(missing: set[int], given_up: list[Interval]) -> None:
    lacking = without([(number, number + 1) for number in sorted(missing)], given_up)
    assert numbers(lacking) == missing - numbers(given_up)
    assert lacking == sorted(lacking)
