"""`gatemeter rates diff|check|preview` on published cards and a worker's facts: what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli.rates_check import rates_check
from gatemeter.cli.rates_diff import rates_diff
from gatemeter.cli.rates_preview import rates_preview
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.cards import CardHead, load_card, make_card_datum, save_card
from gatemeter.producers import new_request_id, now_us
from gatemeter.schemas.tables import TABLES
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Processes
from support.spine import Spine

TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants: [{tenant: acme, cost_centre: cc-1, plan: standard}]
"""
OUTPUT = {"COLUMNS": "400", "TERM": "dumb"}
IN = "input_text_uncached"
app = typer.Typer()
for command in (rates_diff, rates_check, rates_preview):
    app.command(command.__name__)(command)


class World:
    """A running system with three attempts of tenant acme at 10 pico a token, one of a model without a rate."""

    def __init__(self, spine: Spine, database: ClickHouseSettings) -> None:
        self.spine, self.database = spine, database
        self.client: Client = connect(database)
        self.file("tenants.yaml", TENANTS)
        spine.apply(*read_tenants_file(spine.folder / "tenants.yaml"), load_card(self.card("first", 10)))
        spine.apply(load_card(self.card("first", 11, start=now_us() + 10**14, name="later")))
        self.worker = spine.worker(database)
        emitter = spine.emitter()
        self.period = f"{datetime.now(UTC):%Y-%m}"
        for model in ("m0", "m1", "new"):
            who = {"tenant_id": "acme", "identity_source": "mtls", "provider": "p", "model": model}
            call = {"request_id": new_request_id(), "request_started_at": now_us(), **who}
            assert emitter.response(status="ok", usage_source="reported", input_text_uncached=1_000, **call)
        assert emitter.close(30).undelivered == 0
        spine.wait_until_sunk(self.client, self.worker)

    def file(self, name: str, text: str) -> Path:
        (self.spine.folder / name).write_text(text)
        return self.spine.folder / name

    def card(self, card_id: str, pico: int, *more: str, start: int = 0, name: str = "") -> Path:
        lines = [RateLine("p", model, {IN: pico}, {IN: pico}) for model in ("m0", "m1", *more)]
        path = self.spine.folder / f"{name or card_id}.json"
        save_card(path, make_card_datum(CardHead(card_id, start, None, "USD", "test"), lines))
        return path

    def run(self, name: str, *arguments: str, exit_code: int = 0) -> str:
        where = ["--bootstrap", self.spine.kafka.bootstrap, "--metadata-topic", self.spine.metadata_topic]
        where += ["--operator-keys", str(self.spine.folder / "operators.json")]
        if name != "rates_diff":
            where += ["--clickhouse-url", self.database.url, "--clickhouse-user", self.database.user]
            where += ["--clickhouse-password", self.database.password]
            where += ["--clickhouse-database", self.database.database]
        result = CliRunner().invoke(app, [name, *arguments, *where], env=OUTPUT)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.output

    def json(self, name: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        done: dict[str, Any] = json.loads(self.run(name, *arguments, "--json", exit_code=exit_code))
        return done

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        names = [table for table in TABLES if table != "ingest_batches"]
        return {name: self.client.query(f"SELECT count() FROM {name}").result_rows[0][0] for name in names}


@pytest.fixture(scope="module")
def world(kafka: KafkaBroker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = clickhouse.migrated()
    folder = tmp_path_factory.mktemp("rates")
    with Processes(folder) as processes:
        made = World(Spine(kafka, folder, processes, partitions=2), database)
        yield made
        made.client.close()
    clickhouse.drop(database)


def test_published_cards_are_compared_by_id_and_date(world: World) -> None:
    same = str(world.card("same", 10))
    assert world.run("rates_diff", "first@1970-01-01", same).splitlines()[-1] == "equal"
    done = world.json("rates_diff", "first@1970-01-01", str(world.card("dear", 25, "new")), exit_code=1)
    assert {(line["change"], line["model"]) for line in done["lines"]} == {
        ("changed", "m0"),
        ("changed", "m1"),
        ("added", "new"),
    }
    assert done["lines"][0]["prices"][0]["provider_percent"] == "150.0000"
    ambiguous = world.run("rates_diff", "first", same, exit_code=2)
    assert "error: A is published with several dates: got 'first'; published are first@1970-01-01, first@" in ambiguous
    assert "error: B is no file and no published card: got 'none'" in world.run("rates_diff", same, "none", exit_code=2)


def test_the_check_names_what_has_no_rate_and_what_would_give_one(world: World) -> None:
    (found,) = world.json("rates_check", "--days", "2", exit_code=1)["unpriced"]
    named = ("provider", "model", "reason", "attempts", "input_tokens", "tenants", "priced_now", "reason_now")
    assert [found[name] for name in named] == ["p", "new", "unknown_model", 1, 1000, ["acme"], False, "unknown_model"]
    shown = world.run("rates_check", "--days", "2", "--card", str(world.card("mine", 25, "new")), exit_code=1)
    assert "1 attempts of the last 2 days have no price" in shown and "yes" in shown
    assert "--days" in world.run("rates_check", "--days", "0", exit_code=2)


def test_a_preview_says_what_the_month_would_have_cost_and_writes_nothing(world: World) -> None:
    before = world.rows()
    done = world.json("rates_preview", "--card", str(world.card("mine", 25, "new")), "--period", world.period)
    (line,) = done["tenants"]
    assert (line["now"]["charge"], line["then"]["charge"]) == ("0.000000022000", "0.000000082500")
    assert (line["now"]["unpriced"], line["then"]["unpriced"], line["newly_priced"]) == (1, 0, 1)
    assert done["totals"][0]["difference"]["provider_cost"] == "0.000000055000"
    plan = world.file("plan.yaml", TENANTS.replace("10}", "50}"))
    shown = world.run("rates_preview", "--plan", str(plan), "--period", world.period)
    assert "0.000000022" in shown and "0.00000003 " in shown and "0.000000008" in shown
    assert "USD: 3 attempts, 0 decisions; 0 newly priced, 0 newly unpriced" in shown
    assert "nothing was used" in world.run("rates_preview", "--plan", str(plan), "--period", "2020-01")
    assert world.rows() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--period", "2026-10"), "error: --card or --plan must be given"),
        (("--period", "2026-13", "--card", "x"), "error: --period must be YYYY-MM, got '2026-13'"),
        (("--period", "2026-10", "--card", "none.json"), "error: none.json: cannot be read"),
    ],
)
def test_a_preview_that_cannot_be_made_says_why_in_one_line(
    world: World, arguments: tuple[str, ...], says: str
) -> None:
    said = world.run("rates_preview", *arguments, exit_code=2)
    assert said.startswith(says) and len(said.splitlines()) == 1


def test_a_file_without_plans_cannot_be_previewed(world: World) -> None:
    empty = world.file("empty.yaml", "plans: []\n")
    said = world.run("rates_preview", "--plan", str(empty), "--period", world.period, exit_code=2)
    assert said == "error: empty.yaml: must have plans or tenants\n"
