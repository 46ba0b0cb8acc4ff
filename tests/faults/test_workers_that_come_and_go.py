"""Workers that are added, ended, killed, or paused while their partitions move leave what an undisturbed one does."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually
from support.proxy import SILENT, HttpProxy
from support.spine import Spine
from support.undisturbed import Talking, assert_as_undisturbed, facts

SESSION_SECONDS = 6


def opened(worker: Process) -> int:
    """How often it has opened a partition."""
    return worker.log.count("going on at offset")


def test_scale_out_and_scale_in_under_load(
    spine: Spine, clickhouse: ClickHouse, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    first = spine.worker(clickhouse_database)
    with Talking(spine) as gateway:
        eventually(lambda: facts(clickhouse_client), "the first rows")
        second, third = spine.worker(clickhouse_database), spine.worker(clickhouse_database)
        eventually(lambda: opened(second) and opened(third), "the new workers own partitions")
        first.send(signal.SIGTERM)
        assert first.wait() == 0
        second.kill()
        eventually(lambda: opened(third) >= spine.partitions, "the last worker owns all partitions")
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, third)


def test_a_paused_worker_that_wakes_up_after_its_partitions_moved_changes_nothing(
    spine: Spine,
    clickhouse: ClickHouse,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
    proxied: ClickHouseSettings,
    proxy: HttpProxy,
) -> None:
    zombie = spine.worker(proxied)
    with Talking(spine) as gateway:
        eventually(lambda: facts(clickhouse_client), "the first rows")
        proxy.fault = SILENT  # its next insert is under way and not applied: it will be written again, late
        eventually(lambda: proxy.met["silent"], "an insert that waits")
        zombie.send(signal.SIGSTOP)
        proxy.heal()
        owner = spine.worker(clickhouse_database)
        before = facts(clickhouse_client)
        eventually(lambda: facts(clickhouse_client) > before + 300, "the new owner writes")
        zombie.send(signal.SIGCONT)
        eventually(lambda: "is available again" in zombie.log, "the zombie has written what it held")
        time.sleep(2)  # it polls and writes on until the group tells it
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, zombie, owner)


def test_a_broker_that_is_killed_and_restarted_under_load(
    tmp_path: Path, clickhouse: ClickHouse, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    """On a broker of its own: after a kill, new topics may have to wait for leaders for longer than other tests do."""
    with KafkaBroker() as broker, Processes(tmp_path) as processes:
        spine = Spine(broker, tmp_path, processes)
        _kill_the_broker(spine, clickhouse, clickhouse_database, clickhouse_client)


def _kill_the_broker(
    spine: Spine, clickhouse: ClickHouse, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    workers = [spine.worker(clickhouse_database), spine.worker(clickhouse_database)]
    with Talking(spine) as gateway:
        eventually(lambda: facts(clickhouse_client), "the first rows")
        spine.kafka.kill()
        spine.kafka.start()
        before = facts(clickhouse_client)
        eventually(lambda: facts(clickhouse_client) > before + 300, "rows after the restart")
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, *workers)
