"""Seals on Apache Kafka: the worker's timer, the command, two sealers at once, anchors, and a proof from end to end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from typer import Typer
from typer.testing import CliRunner, Result

from gatemeter.cli.proof import proof
from gatemeter.cli.seals import seal, sealers_init
from gatemeter.cli.verify_proof import verify
from gatemeter.processors.sealing.sealer import Sealer, Trusted
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic, SealsUnreachable
from gatemeter.schemas.seals import HOUR_US
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import fact
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.spine import Spine


@pytest.fixture
def spine(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Spine]:
    with Processes(tmp_path) as processes:
        yield Spine(kafka, tmp_path, processes, partitions=2)


def run(command: Any, *arguments: str) -> Result:
    application = Typer()
    application.command()(command)
    return CliRunner().invoke(application, list(arguments))


def clickhouse_options(database: ClickHouseSettings) -> list[str]:
    return [
        *("--clickhouse-url", database.url, "--clickhouse-user", database.user),
        *("--clickhouse-password", database.password, "--clickhouse-database", database.database),
    ]


def usage_three_hours_ago(database: ClickHouseSettings) -> int:
    """A row of an hour that is over as soon as a worker's checkpoints say where the log is."""
    hour_us = time.time_ns() // 1_000 // HOUR_US * HOUR_US - 3 * HOUR_US
    times = dict.fromkeys(("posted_hour", "usage_hour", "request_started_at"), hour_us)
    ClickHouseSink(database).write("usage_facts", rows_to_arrow("usage_facts", [fact("r-1") | times]))
    return hour_us


def test_a_worker_seals_by_itself_and_a_proof_of_it_holds_offline(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    folder = spine.folder
    hour_us = usage_three_hours_ago(clickhouse_database)
    keys = ["--sealer-key", str(folder / "sealer.json"), "--sealers", str(folder / "sealers.json")]
    made = run(sealers_init, "sealer-1", *keys)
    assert made.exit_code == 0, made.output
    worker = spine.worker(
        clickhouse_database,
        GATEMETER_SEALER_KEY_FILE=str(folder / "sealer.json"),
        GATEMETER_SEALERS_FILE=str(folder / "sealers.json"),
        GATEMETER_SEALS_TOPIC=spine.seals_topic,
        GATEMETER_SEAL_EVERY_MS="1000",
        GATEMETER_ANCHORS=str(folder / "anchor"),
    )

    def anchored() -> bool:
        assert worker.running, worker.log
        return (folder / "anchor" / "0.json").exists()

    eventually(anchored, "the first seal is anchored")
    ((seal_id, leaves, kid),) = clickhouse_client.query(
        "SELECT seal_id, leaves, kid FROM seals WHERE number = 0"
    ).result_rows
    assert (leaves, kid) == (1, "sealer-1")
    assert json.loads((folder / "anchor" / "0.json").read_text())["seal_id"] == seal_id

    where = ["--bootstrap", spine.kafka.bootstrap, "--seals-topic", spine.seals_topic, "--events-topic", spine.topic]
    where += ["--operator-keys", str(folder / "operators.json"), *clickhouse_options(clickhouse_database)]
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime(hour_us / 1e6))
    done = run(seal, "--through", hour, "--json", *keys, *where)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["tip"]["number"] >= 0
    done = run(seal, "--through", "2026-11-24T13:30", *keys, *where)
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "error: --through: must be a full hour, for example 2026-11-24T13" in done.output
    far = run(seal, "--through", "2290-01-01T00", *keys, *where)
    assert far.exit_code == 1
    assert "the hour ends at" in far.output

    made = run(proof, "r-1", *clickhouse_options(clickhouse_database))
    assert made.exit_code == 0, made.output
    (folder / "proof.json").write_text(made.output)
    checked = run(verify, str(folder / "proof.json"), "--sealers", str(folder / "sealers.json"))
    assert checked.exit_code == 0, checked.output
    assert "proven: attempt 1 of request r-1" in checked.output


def test_two_sealers_at_once_make_one_chain_and_one_ledger(
    spine: Spine, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> None:
    usage_three_hours_ago(clickhouse_database)
    key = OperatorKey.generate("sealer-1")
    worker = spine.worker(clickhouse_database)
    spine.wait_until_sunk(clickhouse_client, worker)
    worker.kill()

    def one(_: int) -> int:
        from gatemeter.sinks.clickhouse import connect

        topic = KafkaSealsTopic(spine.kafka.bootstrap, spine.seals_topic, spine.topic)
        trusted = Trusted({key.kid: key.public_hex}, {})
        sink = ClickHouseSink(clickhouse_database)
        sealer = Sealer(connect(clickhouse_database), sink, topic, key, trusted, seals_topic=spine.seals_topic)
        return len(sealer.run().hours)

    with ThreadPoolExecutor(2) as pool:
        sealed = list(pool.map(one, range(2)))
    ((seals, last),) = clickhouse_client.query("SELECT count(), max(number) FROM seals FINAL").result_rows
    assert seals == last + 1 == sum(sealed) >= 2
    ((entries, charge),) = clickhouse_client.query(
        "SELECT count(), toString(sum(charge)) FROM charge_lines"
    ).result_rows
    assert (entries, charge) == (1, "0.000000000033")
    assert clickhouse_client.query("SELECT count() FROM ledger_entries").result_rows == [(1,)]


def test_a_topic_that_is_not_there_is_one_line(kafka: KafkaBroker) -> None:
    topic = KafkaSealsTopic(kafka.bootstrap, "no-seals", "no-events")
    with pytest.raises(SealsUnreachable, match="topic no-seals"):
        topic.read(0)
    with pytest.raises(SealsUnreachable, match="topic no-events"):
        topic.places()
