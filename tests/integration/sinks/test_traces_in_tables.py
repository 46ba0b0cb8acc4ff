"""Traces that broke earlier drafts of the protocol, up to what the views say of the tables that folds wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.processors.partition import Output
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.logs import Gateway, Log, build, new_fold, response, standard_view

SECOND = 1_000_000
MINUTE = 60 * SECOND
VIEW = build(standard_view())


class Tables:
    """A log, and workers that fold it into a database one after the other."""

    def __init__(self, settings: ClickHouseSettings, client: Client) -> None:
        self.sink, self.client = ClickHouseSink(settings), client
        self.log = Log()
        self.log.control(VIEW)
        self.gateway = Gateway(self.log)

    def fold(self, columnar: bool, checkpoint: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """A worker that begins at a checkpoint (the newest, of a partition that moved) and writes; its own."""
        fold = new_fold({1: VIEW}, columnar=columnar, checkpoint=checkpoint)
        outputs: list[Output] = [fold.fold([record]) for record in self.log.records]
        for output in outputs:
            for table, rows in output.tables.items():
                self.sink.write(table, rows)
        last = outputs[-1].checkpoint
        assert last is not None
        self.sink.write("ingest_batches", rows_to_arrow("ingest_batches", [{**last, "written_at": last["log_time"]}]))
        return last


@pytest.fixture
def tables(clickhouse_database: ClickHouseSettings, clickhouse_client: Client) -> Iterator[Tables]:
    tables = Tables(clickhouse_database, clickhouse_client)
    yield tables
    tables.sink.close()


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_trace_14_one_lost_event_is_listed_exactly_also_after_a_failover(tables: Tables, columnar: bool) -> None:
    gateway = tables.gateway
    gateway.send([response(f"a{number}", 0) for number in range(5)], SECOND)
    gateway.sequence += 1  # lost on its way
    gateway.send([response(f"b{number}", 0) for number in range(5)], 2 * SECOND)
    checkpoint = tables.fold(columnar)
    gateway.send([response("c", 3 * SECOND)], 3 * SECOND)
    checkpoint = tables.fold(columnar, checkpoint)
    gateway.send([], 40 * MINUTE)
    tables.fold(columnar, checkpoint)
    query = "SELECT epoch, missing, missing_events, announced_sequence FROM completeness"
    assert tables.client.query(query).result_rows == [(gateway.epoch, [(5, 6)], 1, 12)]


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
def test_trace_15_another_content_beyond_the_horizon_is_not_merged_away(tables: Tables, columnar: bool) -> None:
    tables.gateway.send([response("r1", 0, tokens=(100, 20))], SECOND)
    tables.gateway.send([response("r1", 0, tokens=(9_000, 20))], 20 * MINUTE)
    checkpoint = tables.fold(columnar)
    assert (checkpoint["responses_fresh"], checkpoint["responses_late"], checkpoint["events_conflict"]) == (1, 1, 0)
    client = tables.client
    rows = client.query("SELECT input_text_uncached, posted_hour FROM usage_facts FINAL ORDER BY ALL").result_rows
    assert [row[0] for row in rows] == [100, 9_000]
    assert rows[0][1] == rows[1][1]
    assert client.query("SELECT sum(input_tokens) FROM charge_lines").result_rows == [(100,)]
    query = "SELECT request_id, attempt, extra_contents FROM attempt_conflicts"
    assert client.query(query).result_rows == [("r1", 1, 1)]
    assert client.command("SELECT countIf(NOT ok) FROM conservation") == 0
