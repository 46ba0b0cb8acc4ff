"""Workers that are killed in the middle of a stream leave what an undisturbed worker leaves, row by row."""

from __future__ import annotations

import signal

from clickhouse_connect.driver.client import Client

from gatemeter.producers import Emitter, new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.depth import depth
from support.processes import eventually
from support.proxy import SILENT, HttpProxy
from support.spine import Spine, ordered

EVENTS = depth(120_000, 500_000)
TENANTS = ("retail-banking", "wealth-management", "engineering", "nobody")
SMALL_FLUSHES = {
    "GATEMETER_POLL_RECORDS": "100",
    "GATEMETER_FOLD_BYTES": "1",
    "GATEMETER_FLUSH_ROWS": "5000",
    "GATEMETER_MAX_UNFLUSHED_ROWS": "10000",
    "GATEMETER_TICK_AFTER_MS": "600000",
}


def emit(emitter: Emitter, events: int) -> None:
    for number in range(events // 2):
        call = {
            "request_id": new_request_id(),
            "request_started_at": now_us(),
            "tenant_id": TENANTS[number % len(TENANTS)],
            "identity_source": "verified_credential",
            "provider": "openai",
            "model": "gpt-4o",
        }
        assert emitter.request(**call)
        assert emitter.response(
            status="ok", usage_source="reported", input_text_uncached=number, output_text_visible=10, **call
        )


def rows(client: Client) -> int:
    return int(client.query("SELECT count() FROM usage_facts FINAL").result_rows[0][0])


def test_three_sigkills_leave_the_rows_of_an_undisturbed_run(
    spine: Spine,
    clickhouse: ClickHouse,
    clickhouse_database: ClickHouseSettings,
    clickhouse_client: Client,
    proxy: HttpProxy,
    proxied: ClickHouseSettings,
) -> None:
    emitter = spine.emitter()
    emit(emitter, EVENTS)
    assert emitter.close(120).undelivered == 0
    for flushes in (2, 3, 4):
        # the last of them has reached nobody yet when the worker is killed: in the middle of a flush
        before = rows(clickhouse_client)
        proxy.silent_from(flushes, "USAGE_FACTS")
        worker = spine.worker(proxied, **SMALL_FLUSHES)
        eventually(lambda: proxy.fault is SILENT, f"the worker writes {flushes} times", 60)
        worker.kill()
        proxy.heal()
        assert before < rows(clickhouse_client) < EVENTS // 2
    last = spine.worker(clickhouse_database)
    undisturbed = clickhouse.migrated()
    other = spine.worker(undisturbed)
    client = connect(undisturbed)
    try:
        spine.wait_until_sunk(clickhouse_client, last)
        spine.wait_until_sunk(client, other)
        for worker in (last, other):
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
        assert rows(client) == EVENTS // 2
        for table in ("usage_facts", "usage_windows", "quarantine", "exceptions"):
            assert ordered(clickhouse_client, table, ()) == ordered(client, table, ()), table
        assert clickhouse_client.query("SELECT partition, problem FROM conservation WHERE NOT ok").result_rows == []
    finally:
        client.close()
        clickhouse.drop(undisturbed)
