"""`gatemeter periods` on Apache Kafka: a month is closed once, with a reason that stands in the operator log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli.periods import periods_close, periods_status
from gatemeter.processors.corrections.open_points import month_bounds
from gatemeter.processors.metadata.operators import init_operator
from gatemeter.processors.sealing.chain import Chain
from gatemeter.processors.sealing.sealer import Sealer, Trusted
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic
from gatemeter.schemas import codec
from gatemeter.schemas.seals import HOUR_US
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink
from support.facts import checkpoint, fact
from support.kafka import KafkaBroker
from support.seals import seal_datum

FIRST = month_bounds("2026-03")[1] - 2 * HOUR_US
app = typer.Typer()
for command in (periods_close, periods_status):
    app.command(command.__name__)(command)


class Office:
    """A topic of seals on Kafka, a sealer that seals empty hours, and the files of keys."""

    def __init__(self, kafka: KafkaBroker, folder: Path, database: ClickHouseSettings, client: Client) -> None:
        self.kafka, self.folder, self.database, self.client = kafka, folder, database, client
        self.name = f"seals-{uuid4().hex[:8]}"
        kafka.create_topic(self.name)
        self.key = init_operator(folder / "sealer.json", folder / "sealers.json", "sealer-1")
        operator = init_operator(folder / "operator.json", folder / "operators.json", "ops")
        self.trusted = Trusted({self.key.kid: self.key.public_hex}, {operator.kid: operator.public_hex})
        self.topic = KafkaSealsTopic(kafka.bootstrap, self.name, "unused")
        self.sink = ClickHouseSink(database)

    def chain(self) -> Chain:
        chain = Chain(self.trusted.sealers, self.trusted.operators)
        for record in self.topic.read(0):
            chain.append(record)
        return chain

    def seal(self) -> None:
        chain = self.chain()
        number = chain.tip_number + 1
        hour = FIRST + number * HOUR_US
        datum = seal_datum(number, chain.tip_id, posted_hour=hour, open_period=chain.open_period)
        value = codec.encode("Seal", datum)
        self.topic.append(b"", value, self.key.headers(value))

    def copy(self) -> None:
        Sealer(self.client, self.sink, self.topic, None, self.trusted, seals_topic=self.name).catch_up()

    def run(self, name: str, *arguments: str, exit_code: int = 0) -> str:
        where = ["--clickhouse-url", self.database.url, "--clickhouse-user", self.database.user]
        where += ["--clickhouse-password", self.database.password, "--clickhouse-database", self.database.database]
        if name == "periods_close":
            where += ["--bootstrap", self.kafka.bootstrap, "--seals-topic", self.name]
            where += ["--operator-key", str(self.folder / "operator.json")]
            where += ["--sealers", str(self.folder / "sealers.json")]
        result = CliRunner().invoke(app, [name, *arguments, *where], env={"COLUMNS": "300", "TERM": "dumb"})
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.output


@pytest.fixture
def office(
    kafka: KafkaBroker, tmp_path: Path, clickhouse_database: ClickHouseSettings, clickhouse_client: Client
) -> Iterator[Office]:
    made = Office(kafka, tmp_path, clickhouse_database, clickhouse_client)
    row = fact("r1", price_status="unpriced", charge=None, window_tokens=0, window_cost=0, usage_hour=FIRST, offset=4)
    made.sink.write("usage_facts", rows_to_arrow("usage_facts", [row | {"posted_hour": FIRST}]))
    good = checkpoint(events_received=1, events_admitted=1, responses_fresh=1)
    made.sink.write("ingest_batches", rows_to_arrow("ingest_batches", [good]))
    yield made


def test_a_month_is_closed_with_what_was_accepted_and_later_work_goes_on(office: Office) -> None:
    assert "nothing is sealed" in office.run("periods_status")
    early = office.run("periods_close", "2026-03", "--reason", "month end", exit_code=1)
    assert early == "error: nothing is sealed by a known sealer: there is no month to close\n"
    office.seal()
    office.seal()
    behind = office.run("periods_close", "2026-03", "--reason", "month end", exit_code=1)
    assert "the last seal is 1, the table seals goes up to -1: wait for the sealer" in behind
    office.copy()
    status = json.loads(office.run("periods_status", "--json"))
    assert status["months"][0] == {"period": "2026-03", "state": "sealed", "sealed_hours": 2, "hours": 2}
    assert status["open_points"]["unpriced"] == {"count": 1, "examples": ["gw/r1/1"]}
    refused = office.run("periods_close", "2026-03", "--reason", "month end", exit_code=1)
    assert "error: 2026-03 has open points: 1 unpriced (at most 0)" in refused
    bad = office.run("periods_close", "2026-03", "--reason", "r", "--accept", "all", exit_code=1)
    assert "--accept must be one of unpriced, orphans" in bad
    done = json.loads(office.run("periods_close", "2026-03", "--reason", "no price", "--accept", "unpriced", "--json"))
    assert (done["closed"], done["after_seal"], done["accepted"]) == (True, 1, ["unpriced"])
    again = office.run("periods_close", "2026-03", "--reason", "month end", exit_code=1)
    assert "error: 2026-03 is closed; the next month to close is 2026-04" in again
    office.copy()
    office.copy()
    (row,) = office.client.query("SELECT * FROM operator_log FINAL").named_results()
    assert (row["act"], row["subject"], row["reason"], row["kid"]) == ("close_period", "2026-03", "no price", "ops")
    office.seal()
    assert [seal.open_period for seal in office.chain().seals] == ["", "", "2026-04"]
    office.copy()
    shown = office.run("periods_status")
    assert "closed" in shown and "Open points of 2026-04" in shown


def test_a_limit_lets_so_many_pass(office: Office) -> None:
    for _ in range(2):
        office.seal()
    office.copy()
    done = office.run("periods_close", "2026-03", "--reason", "small", "--max-unpriced", "1")
    assert "2026-03 is closed after seal 1" in done
