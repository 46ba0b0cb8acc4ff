"""Commitments, exchange rates and budgets: from a file over Kafka and a CONTROL to those who read them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli.audit import audit
from gatemeter.cli.budgets import budgets_status
from gatemeter.cli.commitments import commitments_status
from gatemeter.cli.report import report
from gatemeter.cli.terms_apply import budgets_apply, commitments_apply, fx_apply
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.cards import CardHead, make_card_datum
from gatemeter.producers import new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker, free_port
from support.processes import Process, Processes, eventually
from support.spine import Spine

MONTH = f"{datetime.now(UTC):%Y-%m}"
IN = "input_text_uncached"
FILES = {
    "tenants": "{plans: [{plan: cost}], tenants: [{tenant: acme, cost_centre: cc-1, plan: cost}]}",
    "commitments": "commitments: [{commitment: ptu, effective_from: 2026-01-01, provider: p, models: [m],"
    " service_tier: provisioned, amount_per_month: 100000, currency: USD, source: order}]",
    "fx": "rates: [{base: USD, quote: EUR, rate: 0.5, effective_from: 2026-01-01, source: bank}]",
    "budgets": "budgets: [{budget: acme, effective_from: 2026-01-01, tenant: acme, amount: 4, currency: USD,"
    " thresholds: [50, 100], owner: ann}]",
}
app = typer.Typer()
for command in (audit, budgets_apply, budgets_status, commitments_apply, commitments_status, fx_apply, report):
    app.command(command.__name__)(command)


class Office:
    """A running system; its worker looks at budgets every second and shows its figures."""

    def __init__(self, spine: Spine, database: ClickHouseSettings) -> None:
        self.spine, self.database, self.port = spine, database, free_port()
        self.client: Client = connect(database)
        for name, text in FILES.items():
            (spine.folder / f"{name}.yaml").write_text(text)
        line = RateLine("p", "m", {IN: 10**6}, {IN: 10**6}, "provisioned")
        card = Draft("RateCard", make_card_datum(CardHead("card", 0, None, "USD", "test"), [line]))
        spine.apply(*read_tenants_file(spine.folder / "tenants.yaml"), card)
        for name in ("commitments", "fx", "budgets"):
            said = self.run(f"{name}_apply", str(spine.folder / f"{name}.yaml"), *self._operator())
            assert said.startswith("1 published, 0 unchanged")
            assert self.run(f"{name}_apply", str(spine.folder / f"{name}.yaml"), *self._operator()).startswith("0 publ")
        self.worker: Process = spine.worker(
            database, GATEMETER_BUDGETS_EVERY_MS="1000", GATEMETER_WEB_PORT=str(self.port)
        )
        emitter = spine.emitter()
        who = {"tenant_id": "acme", "identity_source": "mtls", "provider": "p", "model": "m"}
        for _ in range(3):
            call = {"request_id": new_request_id(), "request_started_at": now_us(), **who}
            usage = {"usage_source": "reported", IN: 1_000_000, "service_tier": "provisioned"}
            assert emitter.response(status="ok", **usage, **call)
        assert emitter.close(30).undelivered == 0
        spine.wait_until_sunk(self.client, self.worker)

    def run(self, name: str, *arguments: str) -> str:
        result = CliRunner().invoke(app, [name, *arguments], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def read(self, name: str, *arguments: str) -> Any:
        return json.loads(self.run(name, *arguments, *self._tables(), "--json"))

    def _operator(self) -> list[str]:
        topics = ["--events-topic", self.spine.topic, "--metadata-topic", self.spine.metadata_topic]
        key = ["--operator-key", str(self.spine.folder / "operator.json")]
        return ["--bootstrap", self.spine.kafka.bootstrap, *topics, *key]

    def _tables(self) -> list[str]:
        where = ["--clickhouse-url", self.database.url, "--clickhouse-user", self.database.user]
        where += ["--clickhouse-password", self.database.password]
        return [*where, "--clickhouse-database", self.database.database]

    def refold(self) -> str:
        folder = self.spine.folder
        words = ["--operator-keys", str(folder / "operators.json"), "--secrets", str(folder / "secrets.json")]
        topics = ["--events-topic", self.spine.topic, "--metadata-topic", self.spine.metadata_topic]
        where = ["--bootstrap", self.spine.kafka.bootstrap, *topics, *words, *self._tables()]
        return self.run("audit", "--refold", "--only", "refold", *where)


@pytest.fixture(scope="module")
def office(kafka: KafkaBroker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    database, folder = clickhouse.migrated(), Path(tmp_path_factory.mktemp("terms"))
    with Processes(folder) as processes:
        made = Office(Spine(kafka, folder, processes, partitions=2), database)
        yield made
        made.client.close()
    clickhouse.drop(database)


def test_a_commitment_is_set_against_the_facts_of_its_tier(office: Office) -> None:
    (line,) = office.read("commitments_status", "--period", MONTH)
    assert (line["commitment_id"], line["used"], line["attempts"]) == ("ptu", "3.000000000000", 3)
    (_, shown) = office.read("report", "--month", MONTH)
    assert (shown["commitment_id"], shown["posted_to"]) == ("ptu", "unallocated")


def test_a_statement_is_converted_by_the_applied_rate(office: Office) -> None:
    (line, _) = office.read("report", "--month", MONTH, "--currency", "EUR")
    assert (line["total"], line["in_currency"]["total"], line["in_currency"]["rate"]["source"]) == (
        "3.000000000000",
        "1.50",
        "bank",
    )


def test_a_worker_records_a_crossing_and_shows_it_and_a_refold_finds_nothing_wrong(office: Office) -> None:
    query = "SELECT budget_id, threshold_percent, toString(spend) FROM budget_crossings"
    eventually(lambda: office.client.query(query).result_rows == [("acme", 50, "3")], "50 % of 4 USD is crossed")
    of = f'{{budget="acme",currency="USD",period="{MONTH}",scope="tenant",subject="acme"}}'

    def shown() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{office.port}/metrics") as page:
            text = page.read().decode()
            assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return f"gatemeter_budget_spend{of} 3.0\n" in text and "gatemeter_ok 1.0\n" in text

    eventually(shown, "the figures of the budget")
    (status,) = office.read("budgets_status", "--period", MONTH)
    assert (status["spend"], status["crossed"], status["newly_crossed"]) == ("3.000000000000", [50], [])
    assert "clean" in office.refold()
    acts = "SELECT DISTINCT act FROM operator_log WHERE act IN ('Commitment', 'FxRate', 'Budget') ORDER BY act"
    assert office.client.query(acts).result_rows == [("Budget",), ("Commitment",), ("FxRate",)]
