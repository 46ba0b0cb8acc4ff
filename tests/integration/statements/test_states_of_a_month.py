"""The same facts give the same statement while their month is open, half sealed, sealed, and when it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.statements.period import CLOSED, OPEN, SEALED
from gatemeter.sinks.statements.whole import Statement, read_statement
from support.clickhouse import ClickHouse
from support.facts import decision
from support.sealing import Hours
from support.statements import APRIL_1, CENT, FIRST, MARCH, unpriced, usage

STATES = ("open", "half sealed", "sealed", "closed")


@pytest.fixture(scope="module")
def statements(clickhouse: ClickHouse) -> Iterator[dict[str, Statement]]:
    """Of acme, by state."""
    settings = clickhouse.migrated()
    with closing(connect(settings)) as client:
        hours = Hours(settings, client)
        read = {}
        _fill(hours)
        read["open"] = read_statement(client, "acme", MARCH, 0)
        hours.over(APRIL_1)
        hours.seal(FIRST)
        read["half sealed"] = read_statement(client, "acme", MARCH, 0)
        hours.seal()
        read["sealed"] = read_statement(client, "acme", MARCH, 0)
        hours.topic.close_period("2026-03", after=2)
        hours.usage(usage("april", 100, hour=APRIL_1 + 1))
        hours.over(APRIL_1 + 1)
        hours.seal()
        read["closed"] = read_statement(client, "acme", MARCH, 0)
        yield read
    clickhouse.drop(settings)


def _fill(hours: Hours) -> None:
    """Two hours of March and one of April: retries, a better row, late usage, what has no price, another tenant's."""
    later = {"hour": FIRST + 1, "used": FIRST}
    hours.usage(
        usage("whole", 1_000_000, output_text_reasoning=999),
        usage("retried", 5_000, attempt=1, status="error"),
        usage("retried", 7_000, attempt=2, response_hash="retried-2", model="m-mini", **later),
        usage("better", 3_000),
        usage("better", 4_000, response_hash="better-r", version=(1 << 63) + (1 << 56), **later),
        usage("absorbed", 2_000, attempt=1, status="error", retry_rule="final_only"),
        usage("absorbed", 2_000, attempt=2, response_hash="absorbed-2", retry_rule="final_only", **later),
        usage("theirs", 9_000, tenant_id="beta"),
        usage("ours", 9_000, tenant_id="beta"),
        usage("ours", 800, response_hash="ours-r", version=(1 << 63) + (1 << 56), **later),
        usage("yen", 40_000_000, hour=FIRST + 1, currency="JPY", provider="gemini", rate_card_id="yen-card"),
        unpriced("gone", 1_234, hour=FIRST + 1, model="gpt-9"),
        usage("late", 600, hour=APRIL_1, used=FIRST + 1),
        usage("april", 700, hour=APRIL_1),
    )
    hours.decisions(
        decision("d-whole", "whole", posted=FIRST, policy_cost=3 * CENT, charge=3 * CENT, markup=0),
        decision("d-late", "late", posted=APRIL_1, used=FIRST + 1, outcome="deny"),
        decision("d-theirs", "theirs", posted=FIRST, tenant_id="beta"),
    )


def test_each_is_in_the_state_that_it_says(statements: dict[str, Statement]) -> None:
    assert [statements[name].state.state for name in STATES] == [OPEN, OPEN, SEALED, CLOSED]
    assert [statements[name].state.sealed_hours for name in STATES] == [0, 1, 2, 2]


@pytest.mark.parametrize("name", STATES[1:3])
def test_lines_and_requests_are_those_of_the_open_month(statements: dict[str, Statement], name: str) -> None:
    assert statements[name].sections == statements["open"].sections
    assert [section.currency for section in statements[name].sections] == ["JPY", "USD", ""]


def test_a_closed_month_adds_up_to_the_same_with_what_it_took_back(statements: dict[str, Statement]) -> None:
    closed, sealed = statements["closed"].sections, statements["sealed"].sections
    assert [section.total for section in closed] == [section.total for section in sealed]
    assert [section.requests for section in closed] == [section.requests for section in sealed]
    assert any(line.reversal for section in closed for line in section.lines)
    assert not any(line.reversal for section in sealed for line in section.lines)


def test_what_is_anothers_is_not_on_it(statements: dict[str, Statement]) -> None:
    usd = statements["open"].sections[1]
    assert {request.request_id for request in usd.top} == {
        *("whole", "retried", "better", "absorbed", "ours", "late"),
    }
