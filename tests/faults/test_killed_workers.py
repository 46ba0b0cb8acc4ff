"""Workers that are killed in the middle of a stream leave what an undisturbed worker leaves, row by row."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import Emitter, new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.spine import Spine, ordered

EVENTS = 500_000
TENANTS = ("retail-banking", "wealth-management", "engineering", "nobody")
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes)


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


def test_three_sigkills_in_500_000_events_leave_the_rows_of_an_undisturbed_run(
    spine: Spine, clickhouse: ClickHouse, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    spine.apply(*read_tenants_file(EXAMPLES / "tenants.yaml"))
    emitter = spine.emitter()
    emit(emitter, EVENTS)
    assert emitter.close(120).undelivered == 0
    for killed_at in (20_000, 60_000, 100_000):
        worker = spine.worker(clickhouse_database, GATEMETER_FLUSH_ROWS="5000", GATEMETER_TICK_AFTER_MS="600000")
        eventually(lambda at=killed_at: rows(clickhouse_client) >= at, f"{killed_at} rows")
        worker.kill()
        assert rows(clickhouse_client) < EVENTS // 2, "it was killed after the end, not in the middle"
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
