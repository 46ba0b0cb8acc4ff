"""Batch jobs: no timer, a row from their REQUEST on, charged once in the hour of their final state at batch prices."""

from __future__ import annotations

from typing import Any

import pytest

from support.logs import (
    PRICES,
    START_US,
    Gateway,
    Log,
    Rows,
    build,
    collapse,
    new_fold,
    request,
    response,
    run,
    standard_view,
    truth,
    window_total,
)

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
HALF = {name: price // 2 for name, price in PRICES.items()}
VIEW = build(standard_view().rate("openai", "gpt", HALF, workload_class="batch"))
JOB = {"workload_class": "batch", "operation": "batch"}


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def columnar(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def told(columnar: bool, *events: tuple[int, dict[str, Any]], until_us: int = 0) -> dict[str, Rows]:
    """Each event in a record of its own at a log time."""
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    for at_us, event in events:
        gateway.send([event], at_us)
    gateway.send([], max(until_us, events[-1][0]))
    return collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records))


def in_progress(at_us: int, **fields: Any) -> dict[str, Any]:
    return response("job", at_us, started_us=0, tokens=None, status="in_progress", delivered=None, **JOB, **fields)


def test_a_job_has_a_row_from_its_request_on_and_never_becomes_an_orphan(columnar: bool) -> None:
    tables = told(columnar, (0, request("job", 0, **JOB)), until_us=2 * DAY_US)
    (row,) = tables["usage_facts"].values()
    assert (row["status"], row["price_status"], row["charge"]) == ("in_progress", "no_usage", None)
    assert (row["usage_hour"], row["has_response"], row["tenant_id"]) == (START_US, False, "acme")
    assert not tables["usage_windows"]


def test_what_belongs_to_an_answer_is_not_taken_from_a_request(columnar: bool) -> None:
    answer = {"usage_consistency": "mismatch", "input_text_uncached": 5, "gateway_cache": "exact", "latency_us": 3}
    (row,) = told(columnar, (0, request("job", 0, **JOB, **answer)))["usage_facts"].values()
    assert (row["usage_consistency"], row["input_text_uncached"], row["latency_us"]) == ("", None, None)
    assert (row["estimated_with"], row["avoided_input_tokens"], row["price_status"]) == ("", None, "no_usage")


@pytest.mark.parametrize("end_us", [5 * MINUTE_US, 20 * HOUR_US, 20 * DAY_US])
def test_it_is_charged_in_the_hour_of_its_final_state_at_batch_prices(columnar: bool, end_us: int) -> None:
    final = response("job", end_us, started_us=0, **JOB)
    tables = told(columnar, (0, request("job", 0, **JOB)), (end_us, final))
    (fact,) = truth(tables).values()
    ended = START_US + end_us - end_us % HOUR_US
    assert (fact["status"], fact["usage_hour"], fact["posted_hour"]) == ("ok", ended, ended)
    assert fact["request_started_at"] == START_US
    cost = 100 * HALF["input_text_uncached"] + 20 * HALF["output_text_visible"]
    assert (fact["provider_cost"], fact["price_status"]) == (cost, "priced")


def test_a_final_state_that_comes_late_posts_to_the_open_hour_and_stays_in_its_own(columnar: bool) -> None:
    final = response("job", 2 * HOUR_US, started_us=0, **JOB)
    (fact,) = truth(told(columnar, (0, request("job", 0, **JOB)), (9 * HOUR_US, final))).values()
    assert (fact["usage_hour"] - START_US, fact["posted_hour"] - START_US) == (2 * HOUR_US, 8 * HOUR_US)


@pytest.mark.parametrize("end_us", [3 * MINUTE_US, 20 * HOUR_US])
def test_a_revision_in_progress_costs_nothing_and_the_final_one_is_charged_once(columnar: bool, end_us: int) -> None:
    final = response("job", end_us, started_us=0, usage_revision=1, **JOB)
    tables = told(columnar, (0, request("job", 0, **JOB)), (MINUTE_US, in_progress(MINUTE_US)), (end_us, final))
    charged = [row for row in tables["usage_facts"].values() if row["charge"] is not None]
    (fact,) = truth(tables).values()
    assert charged == [fact]
    assert (fact["usage_revision"], fact["usage_hour"]) == (1, START_US + end_us - end_us % HOUR_US)
    assert window_total(tables, "charge") in (0, fact["charge"])


def test_realtime_usage_stays_in_the_hour_of_its_start(columnar: bool) -> None:
    late = response("r", HOUR_US + MINUTE_US, started_us=HOUR_US - MINUTE_US)
    (fact,) = truth(told(columnar, (HOUR_US + MINUTE_US, late))).values()
    assert fact["usage_hour"] == START_US


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (in_progress(0) | {"workload_class": "realtime"}, "workload_class batch, got realtime"),
        (in_progress(0) | {"images": 0}, "status in_progress must have no usage"),
    ],
)
def test_in_progress_is_for_batch_jobs_without_usage(columnar: bool, event: dict[str, Any], detail: str) -> None:
    tables = told(columnar, (0, event))
    (refused,) = tables["quarantine"].values()
    assert detail in refused["detail"]
    assert not tables["usage_facts"]
