"""However ClickHouse or the network before it fails: it is waited for, and writing again leaves each row once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.port import SinkUnavailable
from support.facts import checkpoint, fact
from support.proxy import (
    BROKEN,
    BUSY,
    CUT_PROGRESS,
    CUT_REPLY,
    CUT_REQUEST,
    GATEWAY,
    LOSE_REPLY,
    NO_SPACE,
    REFUSE,
    SILENT,
    SLOW,
    Fault,
    HttpProxy,
)

FAULTS = {
    "refused": REFUSE,
    "silent": SILENT,
    "error 500": BROKEN,
    "error 503": BUSY,
    "error of a gateway between": GATEWAY,
    "no space on the disk": NO_SPACE,
    "half a request": CUT_REQUEST,
    "progress and no end": CUT_PROGRESS,
    "answer lost": LOSE_REPLY,
}
ROWS = 2_000


@pytest.fixture
def proxy(clickhouse_database: ClickHouseSettings) -> Iterator[HttpProxy]:
    with HttpProxy(clickhouse_database.url) as made:
        yield made


@pytest.fixture
def sink(proxy: HttpProxy, clickhouse_database: ClickHouseSettings) -> Iterator[ClickHouseSink]:
    made = ClickHouseSink(replace(clickhouse_database, url=proxy.url, request_timeout=timedelta(seconds=1)))
    yield made
    made.close()


def rows_of(client: Client) -> tuple[int, int]:
    """Rows as they lie there, and after their duplicates have collapsed."""
    query = "SELECT (SELECT count() FROM usage_facts), (SELECT count() FROM usage_facts FINAL)"
    stored, final = client.query(query).result_rows[0]
    return int(stored), int(final)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not yet connected"])
def test_a_write_that_fails_is_unavailable_and_again_leaves_each_row_once(
    name: str, connected: bool, proxy: HttpProxy, sink: ClickHouseSink, clickhouse_client: Client
) -> None:
    rows = rows_to_arrow("usage_facts", [fact(f"r{number}") for number in range(ROWS)])
    if connected:
        assert sink.latest_checkpoint("t", 0) is None
    proxy.fault = FAULTS[name]
    with pytest.raises(SinkUnavailable):
        sink.write("usage_facts", rows)
    proxy.fault = None
    sink.write("usage_facts", rows)
    assert rows_of(clickhouse_client)[1] == ROWS
    if name != "answer lost":
        assert rows_of(clickhouse_client)[0] == ROWS, "what was not acknowledged was not applied"


@pytest.mark.parametrize("name", [*FAULTS, "half an answer"])
def test_a_checkpoint_that_cannot_be_read_is_an_error_and_never_none(
    name: str, proxy: HttpProxy, sink: ClickHouseSink
) -> None:
    newest = checkpoint(next_offset=30, state=bytes(range(256)) * 400)
    sink.write("ingest_batches", rows_to_arrow("ingest_batches", [newest]))
    proxy.fault = FAULTS.get(name, CUT_REPLY)
    with pytest.raises(SinkUnavailable):
        sink.latest_checkpoint("gatemeter.events", 0)
    proxy.fault = None
    assert sink.latest_checkpoint("gatemeter.events", 0) == newest


def test_a_slow_answer_is_an_answer(proxy: HttpProxy, sink: ClickHouseSink) -> None:
    newest = checkpoint(next_offset=30, state=bytes(range(256)) * 40)
    sink.write("ingest_batches", rows_to_arrow("ingest_batches", [newest]))
    proxy.fault = SLOW
    assert sink.latest_checkpoint("gatemeter.events", 0) == newest
    assert proxy.met["slow"] == 1


def test_an_insert_whose_answer_was_lost_was_applied(
    proxy: HttpProxy, sink: ClickHouseSink, clickhouse_client: Client
) -> None:
    rows = rows_to_arrow("usage_facts", [fact("r")])
    sink.write("usage_facts", rows)
    proxy.once(LOSE_REPLY, "INSERT")
    with pytest.raises(SinkUnavailable):
        sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("s")]))
    assert rows_of(clickhouse_client) == (2, 2)


def test_half_an_answer_to_an_insert_comes_after_the_insert(
    proxy: HttpProxy, sink: ClickHouseSink, clickhouse_client: Client
) -> None:
    sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("r")]))
    proxy.once(CUT_REPLY, "INSERT")
    with contextlib.suppress(SinkUnavailable):  # a status line without an error is believed: no more is needed
        sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("s")]))
    assert rows_of(clickhouse_client) == (2, 2)


def test_silence_ends_when_the_time_for_a_request_is_over(proxy: HttpProxy, sink: ClickHouseSink) -> None:
    assert sink.latest_checkpoint("t", 0) is None
    proxy.fault = SILENT
    began = time.monotonic()
    with pytest.raises(SinkUnavailable):
        sink.latest_checkpoint("t", 0)
    assert 0.9 < time.monotonic() - began < 20


def test_what_is_no_fault_of_the_sink_is_not_hidden(proxy: HttpProxy, sink: ClickHouseSink) -> None:
    proxy.once(Fault("error", 404, 60, "Table t does not exist. (UNKNOWN_TABLE)"), "INSERT")
    with pytest.raises(Exception, match="UNKNOWN_TABLE"):
        sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("r")]))
