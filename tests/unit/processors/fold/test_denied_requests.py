"""A REQUEST that a policy denied costs zero; of one that nobody answered no cost is known."""

from __future__ import annotations

from typing import Any

import pytest

from support.logs import START_US, Gateway, Log, build, collapse, new_fold, policy, request, run, standard_view

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


@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("operator", [False, True], ids=["batch", "control"])
def test_a_denial_counts_although_log_time_jumps_over_deadline_and_horizon(columnar: bool, operator: bool) -> None:
    """As after half an hour without Kafka: what was known when the timer ended decides, not when that was noticed."""
    log, gateway = started()
    gateway.send([request("denied", SECOND), policy("denied", SECOND, "d-1", outcome="deny")], SECOND)
    gateway.send([request("early", 2 * MINUTE)], 2 * MINUTE)
    gateway.send([policy("early", 2 * MINUTE, "d-2", outcome="deny")], 3 * MINUTE)
    if operator:
        log.control(build(standard_view()), 40 * MINUTE)
    else:
        gateway.send([], 40 * MINUTE)
    rows = facts(log, columnar)
    assert {name: row["status"] for name, row in rows.items()} == {"denied": "denied", "early": "denied"}
    assert {row["posted_hour"] for row in rows.values()} == {START_US}, "it posts to the floor of the record that told"


@pytest.mark.parametrize("columnar", [False, True])
def test_a_denial_older_than_the_horizon_when_the_timer_ends_does_not_count(columnar: bool) -> None:
    log, gateway = started()
    gateway.send([policy("old", SECOND, "d-1", outcome="deny")], SECOND)
    gateway.send([request("old", 5 * MINUTE + 2 * SECOND)], 5 * MINUTE + 2 * SECOND)
    gateway.send([], 3 * 60 * MINUTE)
    assert facts(log, columnar)["old"]["status"] == "orphan"


@pytest.mark.parametrize("columnar", [False, True])
@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_worker_that_resumes_before_the_jump_judges_alike(columnar: bool, cut: int) -> None:
    log, gateway = started()
    gateway.send([policy("r", SECOND, "d-1", outcome="deny")], SECOND)
    gateway.send([request("r", MINUTE)], MINUTE)
    gateway.send([], 5 * MINUTE)
    gateway.send([], 90 * MINUTE)
    views = {1: build(standard_view())}
    (before,) = run(new_fold(views, columnar=columnar), log.records[:cut])
    resumed = new_fold(views, columnar=columnar, checkpoint=before.checkpoint)
    tables = collapse(run(resumed, log.records))
    assert [row["status"] for row in tables["usage_facts"].values()] == ["denied"]
