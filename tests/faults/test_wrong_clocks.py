"""A worker with a wrong clock writes the rows of any other; one that is more than an hour behind stops and says why."""

from __future__ import annotations

import sys

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.clickhouse import ClickHouse
from support.processes import eventually
from support.spine import WORKER, Spine
from support.undisturbed import Talking, assert_as_undisturbed, facts

WRONG = (
    "import time; real = time.time_ns; time.time_ns = lambda: real() + {seconds} * 10**9;"
    " time.time = lambda: time.time_ns() / 1e9; "
)


def worker_command(seconds: int) -> list[str]:
    """A worker whose clock is so many seconds ahead; behind where negative."""
    return [sys.executable, "-c", WRONG.format(seconds=seconds) + WORKER]


@pytest.mark.parametrize("minutes", [-40, 60 * 24 * 30], ids=["behind", "a month ahead"])
def test_a_wrong_clock_changes_no_row(
    minutes: int,
    spine: Spine,
    clickhouse: ClickHouse,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
) -> None:
    wrong = spine.worker(clickhouse_database, command=worker_command(minutes * 60), GATEMETER_TICK_AFTER_MS="500")
    with Talking(spine, calls_per_s=50) as gateway:
        eventually(lambda: facts(clickhouse_client) > 100, "rows of a worker with a wrong clock")
    ends = spine.kafka.end_offsets(spine.topic, spine.partitions)
    eventually(
        lambda: all(
            now > before
            for now, before in zip(spine.kafka.end_offsets(spine.topic, spine.partitions), ends, strict=True)
        ),
        "ticks in every partition",
    )
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, wrong)
    assert clickhouse_client.query("SELECT count() FROM quarantine").result_rows == [(0,)]


def test_a_clock_that_is_hours_behind_stops_the_worker_and_says_what_to_do(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    worker = spine.worker(clickhouse_database, command=worker_command(-2 * 3_600))
    assert worker.wait() == 1
    assert worker.log.count("worker stops:") == 1
    assert "more than an hour: set the clocks of broker and worker right, then start the worker again" in worker.log
    assert "Traceback" not in worker.log
    assert facts(clickhouse_client) == 0
