"""A REQUEST that a policy denied costs zero; of one that nobody answered no cost is known."""

from __future__ import annotations

from typing import Any

import pytest

from support.logs import Gateway, Log, build, collapse, new_fold, policy, request, run, standard_view

SECOND = 1_000_000
MINUTE = 60 * SECOND


def facts(log: Log, columnar: bool) -> dict[str, dict[str, Any]]:
    """Rows of `usage_facts` by request."""
    view = build(standard_view())
    outputs = run(new_fold({1: view}, columnar=columnar), log.records)
    return {row["request_id"]: row for row in collapse(outputs)["usage_facts"].values()}


def started() -> tuple[Log, Gateway]:
    log = Log()
    log.control(build(standard_view()))
    return log, Gateway(log)


@pytest.mark.parametrize("columnar", [False, True])
def test_a_denied_request_costs_zero_and_an_unanswered_one_is_an_orphan_without_amounts(columnar: bool) -> None:
    log, gateway = started()
    denied = [request("denied", SECOND), policy("denied", SECOND, "d-1", outcome="deny")]
    allowed = [request("silent", SECOND), policy("silent", SECOND, "d-2")]
    gateway.send([*denied, *allowed], SECOND)
    gateway.send([], 11 * MINUTE)
    rows = facts(log, columnar)
    assert {name: row["status"] for name, row in rows.items()} == {"denied": "denied", "silent": "orphan"}
    assert (rows["denied"]["charge"], rows["denied"]["price_status"]) == (0, "free")
    assert (rows["silent"]["charge"], rows["silent"]["price_status"]) == (None, "no_usage")


@pytest.mark.parametrize("columnar", [False, True])
def test_a_denial_after_the_orphan_timer_changes_nothing(columnar: bool) -> None:
    log, gateway = started()
    gateway.send([request("late", SECOND)], SECOND)
    gateway.send([], 11 * MINUTE)
    gateway.send([policy("late", 11 * MINUTE, "d-1", outcome="deny")], 11 * MINUTE + SECOND)
    assert facts(log, columnar)["late"]["status"] == "orphan"
