"""However ClickHouse fails while events come in: workers wait, go on without hands, and every row is there once."""

from __future__ import annotations

import time

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.clickhouse import ClickHouse
from support.processes import eventually
from support.proxy import (
    BROKEN,
    BUSY,
    CUT_PROGRESS,
    CUT_REPLY,
    CUT_REQUEST,
    LOSE_REPLY,
    NO_SPACE,
    REFUSE,
    SILENT,
    SLOW,
    HttpProxy,
)
from support.spine import Spine
from support.undisturbed import Talking, assert_as_undisturbed, facts

FAULTS = (REFUSE, NO_SPACE, BROKEN, BUSY, CUT_REQUEST, CUT_REPLY, LOSE_REPLY, CUT_PROGRESS, SILENT, SLOW)


def test_workers_go_on_when_clickhouse_does(
    spine: Spine,
    clickhouse: ClickHouse,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
    proxied: ClickHouseSettings,
    proxy: HttpProxy,
) -> None:
    workers = [spine.worker(proxied, GATEMETER_CLICKHOUSE_TIMEOUT_MS="5000") for _ in range(2)]
    with Talking(spine) as gateway:
        eventually(lambda: facts(clickhouse_client), "the first rows")
        for fault in FAULTS:
            met = proxy.met.total()
            proxy.fault = fault
            time.sleep(1)
            if fault is not REFUSE:
                eventually(lambda met=met: proxy.met.total() > met, f"a request meets {fault.kind}")
            proxy.heal()
            before = facts(clickhouse_client)
            eventually(lambda before=before: facts(clickhouse_client) > before, f"rows after {fault.kind}")
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, *workers)


def test_a_worker_that_starts_while_clickhouse_is_away_waits_for_its_checkpoint(
    spine: Spine,
    clickhouse: ClickHouse,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
    proxied: ClickHouseSettings,
    proxy: HttpProxy,
) -> None:
    first = spine.worker(proxied)
    with Talking(spine) as gateway:
        eventually(lambda: facts(clickhouse_client), "the first rows")
        proxy.fault = CUT_REPLY
        first.kill()
        second = spine.worker(proxied)
        eventually(lambda: "its checkpoint cannot be read now" in second.log, "it says what it waits for")
        assert "going on at offset" not in second.log, "an answer that broke off is no checkpoint"
        proxy.heal()
        before = facts(clickhouse_client)
        eventually(lambda: facts(clickhouse_client) > before, "rows again")
    assert_as_undisturbed(spine, clickhouse, clickhouse_database, gateway.calls, second)
