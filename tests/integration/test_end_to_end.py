"""From a gateway's emitter to rows in ClickHouse: Apache Kafka, real workers, the real engine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka.admin import NewPartitions

from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import Emitter, new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings
from gatemeter.sinks.reports.attestations import attestations
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.spine import Spine

REQUESTS = 600
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes)


def emit(emitter: Emitter, count: int) -> None:
    for number in range(count):
        request_id, started = new_request_id(), now_us()
        who = {
            "tenant_id": "retail-banking",
            "app_id": "mobile-assistant",
            "identity_source": "verified_credential",
            "provider": "openai",
            "model": "gpt-4o",
        }
        call = {"request_id": request_id, "request_started_at": started, **who}
        assert emitter.request(**call)
        assert emitter.policy(decision_id=request_id, policy_id="pii-redaction", outcome="allow", **call)
        assert emitter.response(
            status="ok", usage_source="reported", input_text_uncached=100 + number, output_text_visible=10, **call
        )


def one(client: Client, query: str) -> tuple[object, ...]:
    return tuple(client.query(query).result_rows[0])


def test_what_a_gateway_emits_is_in_clickhouse_once_and_adds_up(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    spine.apply(*read_tenants_file(EXAMPLES / "tenants.yaml"))
    workers = [spine.worker(clickhouse_database), spine.worker(clickhouse_database)]
    emitter = spine.emitter()
    emit(emitter, REQUESTS)
    assert emitter.close(30).undelivered == 0
    spine.wait_until_sunk(clickhouse_client, *workers)
    facts = "SELECT count(), uniqExact(request_id), sum(input_text_uncached), sum(paired) FROM usage_facts FINAL"
    tokens = sum(100 + number for number in range(REQUESTS))
    assert one(clickhouse_client, facts) == (REQUESTS, REQUESTS, tokens, REQUESTS)
    decisions = "SELECT count(), any(attribution) FROM policy_facts FINAL"
    assert one(clickhouse_client, decisions) == (REQUESTS, "attributed")
    windows = "SELECT sum(attempts), sum(decisions), sum(input_tokens) FROM usage_windows FINAL"
    assert one(clickhouse_client, windows) == (REQUESTS, REQUESTS, tokens)
    assert one(clickhouse_client, "SELECT count() FROM quarantine") == (0,)
    assert one(clickhouse_client, "SELECT count(), countIf(NOT ok) FROM conservation") == (spine.partitions, 0)
    attested = attestations(clickhouse_client, spine.attestation_keys)
    assert (attested.first_problem, attested.received, attested.attested) == ("", 3 * REQUESTS, 3 * REQUESTS)
    for worker in workers:
        worker.send(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]


def test_usage_is_in_the_views_of_its_open_hour_while_the_gateway_goes_on(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    spine.apply(*read_tenants_file(EXAMPLES / "tenants.yaml"))
    worker = spine.worker(clickhouse_database)
    emitter = spine.emitter()
    emit(emitter, 1)  # neither flushed nor closed: the defaults of linger and flush bring it there
    job = {"tenant_id": "retail-banking", "app_id": "mobile-assistant", "identity_source": "mtls"}
    emitter.request(
        request_id=new_request_id(), request_started_at=now_us(), workload_class="batch", **job, provider="openai"
    )
    hour = "SELECT sum(requests), countIf(attempts_without_usage > 0) FROM chargeback_hourly WHERE app_id != ''"
    eventually(lambda: one(clickhouse_client, hour) == (2, 1), "both requests in the open hour")
    assert one(clickhouse_client, "SELECT count() FROM seals") == (0,)
    assert one(clickhouse_client, "SELECT count() FROM attempts WHERE status = 'in_progress'") == (1,)
    assert emitter.close(30).undelivered == 0
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_silent_partitions_get_ticks_so_that_log_time_moves(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    worker = spine.worker(clickhouse_database, GATEMETER_TICK_AFTER_MS="500")
    before = spine.kafka.end_offsets(spine.topic, spine.partitions)
    eventually(
        lambda: all(
            after >= earlier + 2
            for earlier, after in zip(before, spine.kafka.end_offsets(spine.topic, spine.partitions), strict=True)
        ),
        "two ticks in every partition",
    )
    spine.wait_until_sunk(clickhouse_client, worker)
    assert one(clickhouse_client, "SELECT count() FROM quarantine") == (0,)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_missing_secret_pauses_until_the_file_has_it(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    secrets = spine.folder / "secrets.json"
    emitter = spine.emitter()
    complete = secrets.read_text()
    secrets.write_text("{}")
    worker = spine.worker(clickhouse_database)
    emit(emitter, 20)
    assert emitter.close(30).undelivered == 0
    eventually(lambda: f"secret of key id '{spine.kid}' is missing" in worker.log, "the log names the key")
    assert worker.running
    assert one(clickhouse_client, "SELECT count() FROM usage_facts") == (0,)
    secrets.write_text(complete)
    spine.wait_until_sunk(clickhouse_client, worker)
    assert one(clickhouse_client, "SELECT count() FROM usage_facts FINAL") == (20,)
    assert one(clickhouse_client, "SELECT count() FROM quarantine") == (0,)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def sunk(spine: Spine, database: ClickHouseSettings, client: Client) -> None:
    """20 requests are in ClickHouse, and no worker runs."""
    worker = spine.worker(database, GATEMETER_TICK_AFTER_MS="600000")
    emitter = spine.emitter()
    emit(emitter, 20)
    assert emitter.close(30).undelivered == 0
    spine.wait_until_sunk(client, worker)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_trace_08_a_topic_that_was_created_again_stops_the_worker(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sunk(spine, clickhouse_database, clickhouse_client)
    admin = spine.kafka.admin()
    admin.delete_topics([spine.topic])[spine.topic].result(30)
    eventually(lambda: spine.topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    spine.kafka.create_topic(spine.topic, partitions=spine.partitions)
    eventually(lambda: spine.topic in admin.list_topics(timeout=10).topics, "the topic is there again")
    spine.apply()
    worker = spine.worker(clickhouse_database)
    assert worker.wait() == 1
    assert worker.log.count("worker stops:") == 1
    assert "the log was re-created" in worker.log
    assert "Traceback" not in worker.log
    assert one(clickhouse_client, "SELECT count() FROM usage_facts FINAL") == (20,)


def test_a_partition_that_was_added_stops_the_worker(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sunk(spine, clickhouse_database, clickhouse_client)
    admin = spine.kafka.admin()
    more = NewPartitions(spine.topic, spine.partitions + 1)
    admin.create_partitions([more])[spine.topic].result(30)
    worker = spine.worker(clickhouse_database)
    assert worker.wait() == 1
    assert "the number never changes: create a new generation of the topic" in worker.log
    assert "Traceback" not in worker.log
