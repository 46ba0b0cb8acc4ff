"""The sink on the real engine: rows as written, newest checkpoint, failures as the port's two kinds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.tables import TABLES, column_names
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from gatemeter.sinks.port import SinkRefused, SinkUnavailable
from support.facts import blank_row, checkpoint, exact, fact


@pytest.fixture
def sink(clickhouse_database: ClickHouseSettings) -> Iterator[ClickHouseSink]:
    connected = ClickHouseSink(clickhouse_database)
    yield connected
    connected.close()


@pytest.mark.parametrize("table", list(TABLES))
def test_every_table_takes_its_rows_and_gives_them_back(
    sink: ClickHouseSink, clickhouse_client: Client, table: str
) -> None:
    row = blank_row(table)
    sink.write(table, rows_to_arrow(table, [row]))
    stored = clickhouse_client.query_arrow(f"SELECT {', '.join(f'`{n}`' for n in column_names(table))} FROM {table}")
    assert stored.num_rows == 1
    for name, kind in TABLES[table]:
        value = stored[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64())[0] if kind == "time" else stored[name][0]
        expected = exact(row[name]) if kind == "pico" else row[name]
        found = value.as_py()
        assert (found.encode() if kind == "bytes" else found) == expected, name


def test_the_checkpoint_with_the_greatest_offset_comes_back_as_written(sink: ClickHouseSink) -> None:
    newest = checkpoint(next_offset=30, state=bytes(range(256)), log_time=1_772_366_400_123_456, worker="wörker")
    rows = [checkpoint(next_offset=20), newest, checkpoint(next_offset=40, partition=1), checkpoint(next_offset=9)]
    for row in rows:
        sink.write("ingest_batches", rows_to_arrow("ingest_batches", [row]))
    assert sink.latest_checkpoint("gatemeter.events", 0) == newest
    assert sink.latest_checkpoint("gatemeter.events", 2) is None
    assert sink.latest_checkpoint("gatemeter.events.g2", 0) is None


def test_writing_the_same_rows_again_changes_nothing(sink: ClickHouseSink, clickhouse_client: Client) -> None:
    for _ in range(3):
        sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("r"), fact("s")]))
    assert clickhouse_client.command("SELECT count() FROM usage_facts FINAL") == 2


def test_no_rows_are_no_insert(sink: ClickHouseSink) -> None:
    sink.write("usage_facts", rows_to_arrow("usage_facts", []))


def test_a_table_that_is_not_there_is_refused(clickhouse_database: ClickHouseSettings, sink: ClickHouseSink) -> None:
    with pytest.raises(SinkRefused, match="unknown table 'nothing'"):
        sink.write("nothing", pa.table({"a": [1]}))
    unmigrated = ClickHouseSink(replace(clickhouse_database, database="default"))
    with pytest.raises(SinkRefused, match="usage_facts") as caught:
        unmigrated.write("usage_facts", rows_to_arrow("usage_facts", [fact("r")]))
    assert caught.value.code == 60


def test_rows_that_do_not_fit_are_refused(sink: ClickHouseSink) -> None:
    with pytest.raises(SinkRefused):
        sink.write("usage_facts", pa.table({"attempt": ["not a number"]}))
    with pytest.raises(SinkRefused):
        sink.write("usage_facts", pa.table({"no_such_column": [1]}))


def test_a_wrong_password_is_refused(clickhouse_database: ClickHouseSettings) -> None:
    with pytest.raises(SinkRefused, match="Authentication failed"):
        ClickHouseSink(replace(clickhouse_database, password="wrong")).latest_checkpoint("t", 0)


def test_a_server_that_is_away_is_unavailable_and_never_means_no_checkpoint(
    clickhouse_database: ClickHouseSettings,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sink = ClickHouseSink(replace(clickhouse_database, url=f"http://127.0.0.1:{port}"))
    with pytest.raises(SinkUnavailable) as caught:
        sink.latest_checkpoint("t", 0)
    assert caught.value.retry_after > timedelta(0)
    with pytest.raises(SinkUnavailable):
        sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("r")]))


def test_a_server_that_does_not_answer_in_time_is_unavailable(clickhouse_database: ClickHouseSettings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = replace(clickhouse_database, url=url, request_timeout=timedelta(seconds=1))
        with pytest.raises(SinkUnavailable):
            ClickHouseSink(settings).latest_checkpoint("t", 0)


def test_memory_that_runs_out_is_waited_for(sink: ClickHouseSink) -> None:
    sink._insert_settings["max_memory_usage"] = "1000"  # the smallest way to a real MEMORY_LIMIT_EXCEEDED
    rows = rows_to_arrow("usage_facts", [fact(f"r{number}") for number in range(5_000)])
    with pytest.raises(SinkUnavailable, match="MEMORY_LIMIT_EXCEEDED"):
        sink.write("usage_facts", rows)
