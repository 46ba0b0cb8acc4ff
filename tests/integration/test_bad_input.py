"""Bad input on Apache Kafka: each kind is quarantined with bytes, reason and position; the good beside it counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from gatemeter.producers import new_request_id, now_us
from gatemeter.schemas import codec
from gatemeter.schemas.limits import MAX_BATCH_BYTES, MAX_TOKENS_PER_EVENT
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Processes
from support.sender import Sender, response
from support.spine import Spine

HOUR_US = 3_600_000_000


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes, partitions=1)


def bad_records(sender: Sender) -> list[tuple[bytes, str]]:
    """Sends one record of each kind that is refused whole; (value, reason) in log order."""
    garbage = b"this is not Avro"
    unknown = signing_prefix(b"\x00" * 8) + b"body"
    cut = sender.batch(response())[:-20]
    tampered = sender.batch(response())
    cases: list[tuple[bytes, str, dict[str, Any]]] = [
        (garbage, "not_avro", {}),
        (unknown, "unknown_fingerprint", {}),
        (cut, "undecodable", {}),
        (tampered, "bad_mac", {"mac": b"\x00" * 32}),
        (sender.batch(response()), "no_key_id", {"headers": False}),
        (sender.batch(response()), "unknown_key", {"kid": "nobody-1"}),
        (sender.batch(response(), partition=1), "wrong_partition", {}),
        (sender.batch(response(), gateway_id="another"), "wrong_gateway", {}),
        (sender.batch(response(), epoch=f"{now_us() + 2 * HOUR_US}-1-{1:016x}"), "future", {}),
    ]
    for value, _, how in cases:
        sender.send(value, **how)
    return [(value, reason) for value, reason, _ in cases]


def signing_prefix(fingerprint: bytes) -> bytes:
    return codec.MAGIC + fingerprint


def test_refused_records_keep_their_bytes_and_good_ones_count(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sender = Sender(spine)
    sender.send(sender.batch(response()))
    refused = bad_records(sender)
    sender.send(sender.batch(response()))
    sender.flush()
    worker = spine.worker(clickhouse_database, GATEMETER_TICK_AFTER_MS="600000")
    spine.wait_until_sunk(clickhouse_client, worker)
    query = "SELECT raw, reason, offset, event_index FROM quarantine FINAL ORDER BY offset"
    found = clickhouse_client.query(query, query_formats={"String": "bytes"}).result_rows
    first = found[0][2]
    assert [(row[0], row[1].decode()) for row in found] == refused
    assert [row[2] for row in found] == list(range(first, first + len(refused)))
    assert {row[3] for row in found} == {-1}
    assert clickhouse_client.command("SELECT count() FROM usage_facts FINAL") == 2
    assert clickhouse_client.command("SELECT countIf(NOT ok) FROM conservation") == 0


def test_refused_events_leave_the_events_beside_them(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sender = Sender(spine)
    value = sender.batch(
        response(),
        response(input_text_uncached=-1),
        response(output_text_visible=MAX_TOKENS_PER_EVENT + 1),
        response(occurred_at=now_us() + HOUR_US),
        response(),
    )
    sender.send(value)
    sender.flush()
    worker = spine.worker(clickhouse_database, GATEMETER_TICK_AFTER_MS="600000")
    spine.wait_until_sunk(clickhouse_client, worker)
    query = "SELECT event_index, reason, detail, raw FROM quarantine FINAL ORDER BY event_index"
    found = clickhouse_client.query(query, query_formats={"String": "bytes"}).result_rows
    assert [(row[0], row[1].decode()) for row in found] == [(1, "invalid"), (2, "invalid"), (3, "future")]
    assert b"input_text_uncached must be 0 to" in found[0][2]
    assert [row[3] for row in found] == [value, b"", b""]
    assert clickhouse_client.command("SELECT count() FROM usage_facts FINAL") == 2
    assert clickhouse_client.command("SELECT countIf(NOT ok) FROM conservation") == 0


def test_an_event_larger_than_a_record_is_refused_by_the_emitter_and_counted(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    emitter = spine.emitter()
    call = {"request_started_at": now_us(), "identity_source": "mtls", "provider": "openai", "model": "gpt-4o"}
    large = {"status": "ok", "usage_raw": "x" * MAX_BATCH_BYTES, **call}
    assert not emitter.response(request_id=new_request_id(), **large)
    assert emitter.response(request_id=new_request_id(), status="ok", usage_raw="{}", **call)
    assert emitter.close(30).undelivered == 0
    worker = spine.worker(clickhouse_database, GATEMETER_TICK_AFTER_MS="600000")
    spine.wait_until_sunk(clickhouse_client, worker)
    assert clickhouse_client.command("SELECT count() FROM usage_facts FINAL") == 1
    assert clickhouse_client.command("SELECT max(dropped) FROM gateway_epochs") == 1
