"""Retention cut a log on Apache Kafka: the worker names the command that goes on, the loss is listed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from gatemeter.cli.gaps import topics_accept_gap
from gatemeter.sinks.clickhouse import ClickHouseSettings
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually
from support.sender import Sender, response
from support.spine import Spine

QUIET = {"GATEMETER_TICK_AFTER_MS": "600000"}
app = typer.Typer()
app.command("accept-gap")(topics_accept_gap)


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes, partitions=1)


def cut(spine: Spine, offset: int) -> None:
    """Removes the records below an offset, as retention does."""
    admin, place = spine.kafka.admin(), TopicPartition(spine.topic, 0, offset)
    admin.delete_records([place])[place].result(30)


def accept(spine: Spine, database: ClickHouseSettings, *more: str, exit_code: int = 0) -> str:
    where = ["--bootstrap", spine.kafka.bootstrap, "--operator-key", str(spine.folder / "operator.json")]
    topics = ["--events-topic", spine.topic, "--metadata-topic", spine.metadata_topic]
    login = ["--clickhouse-user", database.user, "--clickhouse-password", database.password]
    held = ["--clickhouse-url", database.url, "--clickhouse-database", database.database]
    options = ["--partition", "0", "--yes", *more, *where, *topics, *login, *held]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == exit_code, result.output
    return result.output


def end_of(worker: Process) -> None:
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def stopped(worker: Process) -> str:
    eventually(lambda: not worker.running, "the worker stops", 60)
    return worker.log


def test_a_cut_log_stops_the_worker_until_the_gap_is_accepted_and_the_loss_is_listed(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sender, kept = Sender(spine), [response() for _ in range(4)]
    sender.send(sender.batch(kept[0], kept[1]))
    sender.flush()
    worker = spine.worker(clickhouse_database, **QUIET)
    spine.wait_until_sunk(clickhouse_client, worker)
    there_is_none = accept(spine, clickhouse_database, "--reason", "outage", exit_code=1)
    assert "there is no gap: the log starts at offset 0, it is needed from 0" in there_is_none
    end_of(worker)
    folded = spine.kafka.end_offsets(spine.topic, 1)[0]

    sender.send(sender.batch(response(), response(), response()))  # lost before any worker saw it
    sender.send(sender.batch(kept[2]))
    sender.flush()
    cut(spine, folded + 1)
    line = stopped(spine.worker(clickhouse_database, **QUIET))
    command = f"gatemeter topics accept-gap --events-topic {spine.topic} --partition 0 --reason TEXT"
    assert f"the log starts at offset {folded + 1}, but the fold needs it from 0" in line
    assert command in line
    done = json.loads(accept(spine, clickhouse_database, "--reason", "outage of a week", "--json"))
    assert (done["lost"], done["begin"], done["written"]) == (1, folded + 1, folded)

    sender.send(sender.batch(kept[3]))
    sender.send(sender.batch(kept[0], kept[1], first_sequence=0))  # the spool sends again what was settled
    sender.flush()
    worker = spine.worker(clickhouse_database, **QUIET)
    spine.wait_until_sunk(clickhouse_client, worker)
    query = "SELECT request_id FROM usage_facts FINAL"
    assert {row[0] for row in clickhouse_client.query(query).result_rows} == {each["request_id"] for each in kept}
    query = "SELECT problem FROM conservation"
    assert clickhouse_client.query(query).result_rows == [("",)]
    query = "SELECT max(records_skipped), max(events_duplicate) FROM ingest_batches"
    assert clickhouse_client.query(query).result_rows == [(1, 2)]
    query = "SELECT missing, missing_events FROM completeness"
    assert clickhouse_client.query(query).result_rows == [([(2, 5)], 3)]
    query = "SELECT kid, act, subject, reason FROM operator_log FINAL WHERE act = 'accept_gap'"
    assert clickhouse_client.query(query).result_rows == [
        ("ops", "accept_gap", f"{spine.topic}[0]", "outage of a week")
    ]

    end_of(worker)  # what a restart needs is cut, but nothing that was not folded
    end = spine.kafka.end_offsets(spine.topic, 1)[0]
    cut(spine, end)
    assert "accept-gap" in stopped(spine.worker(clickhouse_database, **QUIET))
    again = accept(spine, clickhouse_database, "--reason", "retention too short")
    assert f"no record is lost, but what was remembered of the last ones is; the fold begins again at {end}" in again
    last = response()
    sender.send(sender.batch(kept[3], first_sequence=6))
    sender.send(sender.batch(last, first_sequence=7))
    sender.flush()
    spine.wait_until_sunk(clickhouse_client, spine.worker(clickhouse_database, **QUIET))
    query = "SELECT max(records_skipped), max(events_duplicate), max(events_admitted) FROM ingest_batches"
    assert clickhouse_client.query(query).result_rows == [(1, 3, 5)]
    assert clickhouse_client.query("SELECT problem FROM conservation").result_rows == [("",)]


def test_a_log_that_was_cut_before_anybody_folded_it_begins_with_the_view_that_is_named(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    sender, first, second = Sender(spine), response(), response()
    sender.send(sender.batch(first))
    sender.send(sender.batch(second))
    sender.flush()
    end = spine.kafka.end_offsets(spine.topic, 1)[0]
    cut(spine, end - 1)
    wrong = accept(spine, clickhouse_database, "--reason", "no worker", "--metadata-offset", "99", exit_code=1)
    assert "error: --metadata-offset must be 1 to 3, got 99" in wrong
    accept(spine, clickhouse_database, "--reason", "no worker")
    spine.wait_until_sunk(clickhouse_client, spine.worker(clickhouse_database, **QUIET))
    query = "SELECT request_id FROM usage_facts FINAL"
    assert clickhouse_client.query(query).result_rows == [(second["request_id"],)]
    query = "SELECT next_offset, records, records_skipped FROM ingest_batches ORDER BY next_offset DESC LIMIT 1"
    assert clickhouse_client.query(query).result_rows == [(end, 1, end - 1)]
    assert clickhouse_client.query("SELECT problem FROM conservation").result_rows == [("",)]
