"""Comparing what a disturbed pipeline left with what one worker leaves that nobody disturbs, row by row."""

from __future__ import annotations

import signal
import threading
import time
from types import TracebackType

from clickhouse_connect.driver.client import Client

from gatemeter.producers import Emitter, new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.processes import Process
from support.spine import Spine, ordered

TABLES = ("usage_facts", "policy_facts", "usage_windows", "evidence", "quarantine", "exceptions")
TENANTS = ("retail-banking", "wealth-management", "engineering", "nobody")


def emit_call(emitter: Emitter, number: int) -> None:
    """One call with a decision: three events."""
    call = {
        "request_id": new_request_id(),
        "request_started_at": now_us(),
        "tenant_id": TENANTS[number % len(TENANTS)],
        "identity_source": "verified_credential",
        "provider": "openai",
        "model": "gpt-4o",
    }
    assert emitter.request(**call)
    assert emitter.policy(decision_id=new_request_id(), policy_id="pii-redaction", outcome="allow", **call)
    usage = {"usage_source": "reported", "input_text_uncached": 1 + number, "output_text_visible": 10}
    assert emitter.response(status="ok", **usage, **call)


class Talking:
    """A gateway that speaks while the block runs, in a thread; `calls` is how many it made."""

    def __init__(self, spine: Spine, calls_per_s: int = 150) -> None:
        self._emitter = spine.emitter()
        self._calls_per_s = calls_per_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="gateway")
        self.calls = 0

    def _talk(self) -> None:
        began = time.monotonic()
        while not self._end.wait(0.02):
            while self.calls < (time.monotonic() - began) * self._calls_per_s:
                emit_call(self._emitter, self.calls)
                self.calls += 1

    def __enter__(self) -> Talking:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        report = self._emitter.close(120)
        assert error is not None or report.undelivered == 0


def facts(client: Client) -> int:
    """Rows of usage after duplicates have collapsed."""
    return int(client.query("SELECT count() FROM usage_facts FINAL").result_rows[0][0])


def assert_as_undisturbed(
    spine: Spine, clickhouse: ClickHouse, database: ClickHouseSettings, calls: int, *workers: Process
) -> None:
    """Once all is sunk: the tables hold what one undisturbed worker writes from the same log, and all adds up."""
    undisturbed = clickhouse.migrated()
    other = spine.worker(undisturbed, GATEMETER_TICK_AFTER_MS="600000")
    clients = [connect(database), connect(undisturbed)]
    try:
        spine.wait_until_sunk(clients[0], *workers)
        for worker in workers:
            worker.send(signal.SIGTERM)
        for worker in workers:
            assert worker.wait() == 0
        spine.wait_until_sunk(clients[1], other)  # what came after the first look are ticks: they yield no rows
        other.send(signal.SIGTERM)
        assert other.wait() == 0
        assert facts(clients[0]) == calls
        for table in TABLES:
            assert ordered(clients[0], table, ()) == ordered(clients[1], table, ()), table
        for client in clients:
            assert client.query("SELECT partition, problem FROM conservation WHERE NOT ok").result_rows == []
            assert client.query("SELECT sum(missing_events) FROM completeness").result_rows == [(0,)]
    finally:
        for client in clients:
            client.close()
        clickhouse.drop(undisturbed)
