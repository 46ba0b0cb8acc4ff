"""The commands of corrections end to end: a worker on Kafka folds their COMMITs, and who did it why is on record."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from gatemeter.cli.adjust import adjust
from gatemeter.cli.corrections import corrections_commit, corrections_list
from gatemeter.cli.reconcile import coverage_command, reconcile_command
from gatemeter.cli.reconciliations import (
    reconciliations_accept,
    reconciliations_compare,
    reconciliations_list,
    reconciliations_rates,
    reconciliations_show,
)
from gatemeter.cli.reorganise import reorganise
from gatemeter.cli.reprice import reprice
from gatemeter.processors.corrections.runs import all_runs, commit_of, committed_rows
from gatemeter.processors.metadata.cards import RateLine
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.cards import CardHead, load_card, make_card_datum, save_card
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.producers import new_request_id, now_us
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.billed import line, write_import
from support.clickhouse import ClickHouse
from support.kafka import KafkaBroker
from support.processes import Process, Processes, eventually
from support.spine import Spine

TENANTS = """
plans: [{plan: standard, markup_percent: 10}]
tenants:
  - {tenant: acme, cost_centre: cc-1, plan: standard, apps: [chat, search]}
  - {tenant: finder, cost_centre: cc-2, plan: standard, apps: [none]}
"""
MOVED = TENANTS.replace("[chat, search]", "[chat]").replace("[none]", "[search]")
OUTPUT = {"COLUMNS": "400", "TERM": "dumb"}
app = typer.Typer()
RECONCILING = (reconcile_command, coverage_command, reconciliations_list, reconciliations_show)
RECONCILING += (reconciliations_compare, reconciliations_rates, reconciliations_accept)
for command in (adjust, corrections_commit, corrections_list, reorganise, reprice, *RECONCILING):
    app.command(command.__name__)(command)


class World:
    """A running system with one attempt of each app of tenant acme, at 10 pico a token of input."""

    def __init__(self, spine: Spine, database: ClickHouseSettings) -> None:
        self.spine, self.database = spine, database
        self.client: Client = connect(database)
        (spine.folder / "tenants.yaml").write_text(TENANTS)
        (spine.folder / "moved.yaml").write_text(MOVED)
        self.card("first", 10)
        spine.apply(*read_tenants_file(spine.folder / "tenants.yaml"), load_card(spine.folder / "first.json"))
        self.worker: Process = spine.worker(database)
        emitter = spine.emitter()
        for number, name in enumerate(("chat", "search", "chat")):
            who = {
                "tenant_id": "acme",
                "app_id": name,
                "identity_source": "mtls",
                "provider": "p",
                "model": f"m{number}",
            }
            call = {"request_id": new_request_id(), "request_started_at": now_us(), **who}
            assert emitter.response(status="ok", usage_source="reported", input_text_uncached=1_000, **call)
        assert emitter.close(30).undelivered == 0
        spine.wait_until_sunk(self.client, self.worker)

    def card(self, card_id: str, pico: int) -> Path:
        prices = {"input_text_uncached": pico}
        lines = [RateLine("p", model, prices, prices) for model in ("m0", "m1")]
        path = self.spine.folder / f"{card_id}.json"
        save_card(path, make_card_datum(CardHead(card_id, 0, None, "USD", "test"), lines))
        return path

    def run(self, name: str, *arguments: str, exit_code: int = 0, kafka: bool = True, answer: str = "") -> str:
        where = ["--clickhouse-url", self.database.url, "--clickhouse-user", self.database.user]
        where += ["--clickhouse-password", self.database.password, "--clickhouse-database", self.database.database]
        if kafka:
            where += ["--bootstrap", self.spine.kafka.bootstrap, "--events-topic", self.spine.topic]
            where += ["--operator-key", str(self.spine.folder / "operator.json")]
        if name in ("reprice", "reorganise"):
            where += ["--metadata-topic", self.spine.metadata_topic]
        result = CliRunner().invoke(app, [name, *arguments, *where], env=OUTPUT, input=answer)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.output

    def json(self, name: str, *arguments: str, kafka: bool = True) -> Any:
        return json.loads(self.run(name, *arguments, "--json", kafka=kafka))

    def folded(self, run_id: str) -> dict[str, Any]:
        """The row of `operator_log` of a run's first COMMIT, once the worker has folded it."""
        eventually(lambda: commit_of(self.client, run_id), f"the COMMIT of {run_id} is folded")
        found = commit_of(self.client, run_id)
        assert found is not None
        query = "SELECT * FROM operator_log FINAL WHERE subject = {run:String} AND offset = {offset:Int64}"
        rows: list[dict[str, Any]] = []

        def logged() -> bool:  # a flush writes one table after the other
            rows[:] = self.client.query(query, {"run": run_id, "offset": found.offset}).named_results()
            return bool(rows)

        eventually(logged, f"the COMMIT of {run_id} is in operator_log")
        (row,) = rows
        return dict(row)


@pytest.fixture(scope="module")
def world(kafka: KafkaBroker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = clickhouse.migrated()
    folder = tmp_path_factory.mktemp("corrections")
    with Processes(folder) as processes:
        made = World(Spine(kafka, folder, processes, partitions=2), database)
        yield made
        made.client.close()
    clickhouse.drop(database)


CREDIT = ("--tenant", "acme", "--period", "2026-11", "--currency", "USD", "--markup", "-12.50", "--reason", "outage")
ALL = ("--from", "2026-01-01", "--to", "2100-01-01")


def test_a_dry_run_writes_nothing(world: World) -> None:
    before = len(all_runs(world.client))
    shown = world.run("adjust", *CREDIT, "--dry-run")
    assert "an entry of its own, usage of 2026-11-01T00:00:00Z" in shown
    assert "charge: -12.5 USD" in shown and "dry run: nothing was written" in shown
    card = str(world.card("second", 25))
    done = world.json("reprice", "--rate-card", card, *ALL, "--reason", "contract", "--dry-run")
    assert (done["examined"], done["rows"], done["left"]) == (3, 2, {"not in the card": 1})
    assert done["charge_delta"] == {"USD": "0.000000033000"}
    assert [line["charge_before"] for line in done["lines"]] == ["0.000000011000"] * 2
    moved = world.run(
        "reorganise", "--tenants", str(world.spine.folder / "moved.yaml"), *ALL, "--reason", "m", "--dry-run"
    )
    assert "3 rows examined, 1 differ" in moved
    assert len(all_runs(world.client)) == before


def test_an_entry_by_hand_is_committed_once_however_often_it_is_asked_for(world: World) -> None:
    done = world.json("adjust", *CREDIT, "--yes")
    run = done["run"]
    row = world.folded(run)
    assert (row["act"], row["kid"], row["reason"], row["topic"]) == ("commit", "ops", "outage", world.spine.topic)
    assert json.loads(row["detail"])["cause"] == "manual"
    found = commit_of(world.client, run)
    assert found is not None and found.offset == done["offset"]
    (entry,) = committed_rows(world.client, found)
    assert (entry.charge, entry.tenant_id, entry.reason) == (-12_500_000_000_000, "acme", "outage")
    again = world.run("corrections_commit", run, "--digest", found.rows_digest)
    assert f"run {run} was committed before: {world.spine.topic}[0] at offset {found.offset}" in again
    listed = json.loads(world.run("corrections_list", "--json", kafka=False))
    assert {"run": run, "cause": "manual", "rows": 1} == {name: listed[-1][name] for name in ("run", "cause", "rows")}
    assert listed[-1]["posted_hour"] is not None


def test_what_is_not_confirmed_stays_staged_until_it_is_committed(world: World) -> None:
    said = world.run("adjust", *CREDIT, exit_code=1, answer="n\n")
    later = re.search(r"gatemeter corrections commit (\S+) --digest ([0-9a-f]{64})", said)
    assert later is not None
    run, digest = later.groups()
    assert commit_of(world.client, run) is None
    refused = world.run("corrections_commit", run, "--digest", "0" * 64, exit_code=1)
    assert f"error: run {run}: digest must be {'0' * 64}, its 1 rows have {digest}" in refused
    assert f"run {run} is committed" in world.run("corrections_commit", run, "--digest", digest)
    world.folded(run)


def test_repricing_and_reorganising_stand_on_each_other(world: World) -> None:
    card = str(world.card("third", 30))
    priced = world.json("reprice", "--rate-card", card, *ALL, "--model", "m1", "--reason", "contract", "--yes")
    assert (priced["rows"], world.folded(priced["run"])["reason"]) == (1, "contract")
    file = str(world.spine.folder / "moved.yaml")
    moved = world.json("reorganise", "--tenants", file, *ALL, "--reason", "search moved", "--yes")
    assert json.loads(world.folded(moved["run"])["detail"])["cause"] == "reorganisation"
    found = commit_of(world.client, moved["run"])
    assert found is not None
    (row,) = committed_rows(world.client, found)
    assert (row.tenant_id, row.cost_centre, row.charge, row.rate_card_id) == ("finder", "cc-2", 33_000, "third")
    back = world.json("reprice", "--rate-card", "first", *ALL, "--tenant", "finder", "--reason", "undo", "--dry-run")
    assert [line["tenant_id"] for line in back["lines"]] == ["finder"]
    assert world.run("reorganise", "--tenants", file, *ALL, "--reason", "again").endswith("nothing was staged\n")


def test_a_run_that_was_overtaken_is_not_committed(world: World) -> None:
    request = world.client.query("SELECT any(request_id) FROM usage_facts WHERE model = 'm2'").result_rows[0][0]
    hand = ("--request", request, "--token-cost", "1", "--reason", "by hand", "--currency", "USD")
    said = world.run("adjust", *hand, exit_code=1, answer="n\n")
    later = re.search(r"commit (\S+) --digest (\S+)", said)
    assert later is not None
    done = world.json("adjust", *hand, "--yes")
    world.folded(done["run"])
    overtaken = world.run("corrections_commit", later[1], "--digest", later[2], exit_code=1)
    assert (
        f"run {done['run']}, committed since it was computed, replaces 1 of the same rows; stage it anew" in overtaken
    )


def test_a_commit_that_no_worker_has_folded_yet_is_listed_and_overtakes_too(world: World) -> None:
    request = world.client.query("SELECT any(request_id) FROM usage_facts WHERE model = 'm2'").result_rows[0][0]
    hand = ("--request", request, "--token-cost", "2", "--reason", "by hand again", "--currency", "USD")
    later = re.search(r"commit (\S+) --digest (\S+)", world.run("adjust", *hand, exit_code=1, answer="n\n"))
    first = re.search(r"commit (\S+) --digest (\S+)", world.run("adjust", *hand, exit_code=1, answer="n\n"))
    assert later is not None and first is not None
    world.worker.send(signal.SIGSTOP)
    try:
        done = json.loads(world.run("corrections_commit", first[1], "--digest", first[2], "--json"))
        offset = done["offset"]
        assert not done["was_committed_before"]
        again = world.run("corrections_commit", first[1], "--digest", first[2])
        assert f"was committed before: {world.spine.topic}[0] at offset {offset}; no worker has folded it yet" in again
        overtaken = world.run("corrections_commit", later[1], "--digest", later[2], exit_code=1)
        waits = f"run {first[1]}, which waits to be folded at offset {offset}, replaces 1 of the same rows"
        assert waits in overtaken
        keys = world.spine.folder / "public.json"
        keys.write_text(json.dumps(world.spine.connection.trusted))
        where = ["--operator-keys", str(keys), "--bootstrap", world.spine.kafka.bootstrap]
        where += ["--events-topic", world.spine.topic]
        rows = json.loads(world.run("corrections_list", *where, "--json", kafka=False))
        assert {row["run"]: row["waits_at_offset"] for row in rows if row["posted_hour"] is None}[first[1]] == offset
        shown = world.run("corrections_list", *where, kafka=False)
        assert f"committed at offset {offset}, not folded yet" in shown
    finally:
        world.worker.send(signal.SIGCONT)
    world.folded(first[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("adjust", *CREDIT[:-2], "--reason", " "), "error: reason must be 1 to 1000 characters, got ' '"),
        (("adjust", "--tenant", "acme", "--reason", "r"), "error: --hour or --period must be given"),
        (("adjust", *CREDIT, "--hour", "2026-11-01"), "error: --hour or --period must be given, one of them"),
        (("adjust", "--request", "none", "--reason", "r", "--markup", "1"), "error: there is no attempt 1 of request"),
        (("reprice", "--rate-card", "no", *ALL, "--reason", "r"), "published card (first), got 'no'"),
        (
            ("reprice", "--rate-card", "no", "--from", "2026-01-01T00:30", "--to", "x", "--reason", "r"),
            "start of an hour",
        ),
        (
            ("reprice", "--rate-card", "no", "--from", "2026-01-02", "--to", "2026-01-01", "--reason", "r"),
            "after --from",
        ),
        (("corrections_commit", "x", "--digest", "abc"), "error: --digest must be 64 hex digits, got 'abc'"),
        (("corrections_commit", "x", "--digest", "0" * 64), "error: run x: there are no staged rows"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(world: World, arguments: tuple[str, ...], says: str) -> None:
    said = world.run(*arguments, exit_code=1)
    assert says in said
    assert len(said.strip().splitlines()) == 1


def test_a_reconciliation_is_kept_shown_and_accepted(world: World) -> None:
    today = datetime.now(UTC).date()
    month = ("--provider", "p", "--period", f"{today:%Y-%m}")
    usual = line(today, "input_text_uncached", 1_000, 10_000, provider="p", model="m0")
    dearer = line(today, "input_text_uncached", 1_000, 40_000, provider="p", model="m1")
    tax = line(today, "", None, 1_001, provider="p", model="", charge_category="tax")
    stolen = line(today, "input_text_uncached", 77, 770, provider="p", model="m9", key_id="key_x")
    lines = [usual, dearer, tax, stolen, usual | {"model": "m2", "amount": None}]
    write_import(world.client, "i1", lines, provider="p")

    shown = world.run("reconcile_command", *month, kafka=False)
    assert "unmetered" in shown and "stolen key" in shown and "key_x" in shown
    done = world.json("reconcile_command", *month, kafka=False)
    assert done["causes"]["unmetered"] == {"amount": "0.000000000770", "findings": 1}
    assert done["causes"]["tax"] == {"amount": "0.000000001001", "findings": 1}
    assert world.json("coverage_command", *month, kafka=False)["models"][0]["model"] == "m9"
    listed = world.json("reconciliations_list", kafka=False)
    assert [run["state"] for run in listed] == ["open", "superseded"]
    assert "superseded" in world.run("reconciliations_list", kafka=False)
    assert "the runs found the same" in world.run(
        "reconciliations_compare", listed[1]["run"], listed[0]["run"], kafka=False
    )
    run = done["run"]
    found = world.json("reconciliations_show", run, "--cause", "unmetered", kafka=False)["findings"]
    assert [each["evidence"]["billed_to"] for each in found] == [["org-1/proj-1/key_x 77"]]
    refused = world.run("reconciliations_show", run, "--cause", "luck", exit_code=1, kafka=False)
    assert "--cause must be one of unmetered, missing_provider_line" in refused
    file = world.spine.folder / "invoice.yaml"
    world.run("reconciliations_rates", run, "--card-id", "invoice", "--output", str(file), kafka=False)
    assert build_card(file).datum["rates"][0]["model"] == "m1"

    assert "dry run: nothing was written" in world.run("reconciliations_accept", run, "--reason", "ok", "--dry-run")
    superseded = world.run("reconciliations_accept", listed[1]["run"], "--reason", "ok", exit_code=1)
    assert "is superseded by a later one" in superseded
    accepted = world.json("reconciliations_accept", run, "--reason", "reviewed", "--yes")
    row = world.folded(accepted["run"])
    assert row["reason"].startswith(f"reconciliation {run} of p {today:%Y-%m}")
    again = world.run("reconciliations_accept", run, "--reason", "ok", exit_code=1)
    assert f"run {run} was accepted before" in again
