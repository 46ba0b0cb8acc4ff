"""The sink in memory keeps what was written and checks columns as ClickHouse would."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.memory import MemorySink
from gatemeter.sinks.port import SinkRefused
from support.facts import checkpoint, fact


def test_rows_come_back_in_the_order_written() -> None:
    sink = MemorySink()
    sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("a")]))
    sink.write("usage_facts", rows_to_arrow("usage_facts", [fact("b")]))
    assert sink.table("usage_facts")["request_id"].to_pylist() == ["a", "b"]
    assert sink.table("policy_facts").num_rows == 0


def test_the_newest_checkpoint_is_found_by_topic_and_partition() -> None:
    sink = MemorySink()
    assert sink.latest_checkpoint("gatemeter.events", 0) is None
    newest = checkpoint(next_offset=20, state=b"\xff\x00")
    for row in (checkpoint(next_offset=5), newest, checkpoint(next_offset=7), checkpoint(next_offset=99, partition=1)):
        sink.write("ingest_batches", rows_to_arrow("ingest_batches", [row]))
    assert sink.latest_checkpoint("gatemeter.events", 0) == newest


def test_unknown_tables_and_other_columns_are_refused() -> None:
    sink = MemorySink()
    with pytest.raises(SinkRefused):
        sink.write("nothing", pa.table({"a": [1]}))
    with pytest.raises(SinkRefused):
        sink.write("usage_facts", pa.table({"a": [1]}))
