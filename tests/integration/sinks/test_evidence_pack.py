"""`gatemeter evidence` on the real engine: what each query finds, what the pack holds, what is in none of its files."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from gatemeter.cli.evidence import UNCHECKED, evidence
from gatemeter.cli.verify_evidence import verify_evidence
from gatemeter.processors.metadata.operators import init_operator, save_operator_keys
from gatemeter.schemas.evidence_packs import MANIFEST, SIGNATURE
from gatemeter.sinks.arrow import rows_to_arrow
from gatemeter.sinks.clickhouse import ClickHouseSettings, ClickHouseSink, connect
from gatemeter.sinks.evidence_pack.answers import period_of, plain
from gatemeter.sinks.evidence_pack.controls import load_controls
from gatemeter.sinks.evidence_pack.index import CLAIM
from support.clickhouse import ClickHouse
from support.facts import HOUR_US, NOON_US, blank_row, checkpoint, decision, fact
from support.mutations import mutate
from support.sealing import Hours
from support.seals import SEALER

SECRET: Final = "sk-proj-DoNotPrintMe-0123456789"
DAY_US: Final = 24 * HOUR_US
# The engine inside of Python shows nobody its users and roles: these cannot be answered here, and say so.
OF_SERVERS: Final = {"grants", "role-members"}
NOTHING: Final = {"corrections"}
app = typer.Typer()
for command in (evidence, verify_evidence):
    app.command(command.__name__.replace("_", "-"))(command)


def log(offset: int, act: str, subject: str, **detail: Any) -> dict[str, Any]:
    row = blank_row("operator_log") | {"offset": offset, "act": act, "subject": subject, "kid": "ops-1"}
    return row | {"reason": "as agreed", "detail": json.dumps(detail | {"effective_from": 0, "note": SECRET})}


def identity(offset: int, name: str, **detail: Any) -> dict[str, Any]:
    named = {"kind": "credential", "identity_id": name, "tenant_id": "acme", "owner": "team"}
    return log(offset, "Identity", f"credential/{name}", **named | detail)


def fill(settings: ClickHouseSettings, client: Client) -> None:
    """Two sealed hours; old, shared, offboarded credentials, refusals, a gap, evidence; secrets wherever bytes are."""
    hours = Hours(settings, client)
    used = {"credential_fingerprint": "fp-old", "identity_source": "verified_credential", "usage_raw": SECRET}
    gone = {"credential_fingerprint": "fp-gone", "attribution_note": "credential_offboarded"}
    hours.usage(
        fact("a", workload_id="bot", **used),
        fact("b", workload_id="cron", end_user=SECRET, idempotency_key=SECRET, **used),
        fact("c", posted=1, **gone),
        fact("d", posted=1, attribution="unattributed", attribution_note="no_tenant", tenant_id=""),
    )
    hours.decisions(decision("p", "a", outcome="deny"))
    hours.over(1)
    hours.seal()
    topic = {"topic": "gatemeter.events"}
    refusal = {
        "offset": 3,
        "event_index": -1,
        "reason": "bad_signature",
        "raw": SECRET.encode(),
        "key": SECRET.encode(),
    }
    window = {"window_start": NOON_US, "tenant_id": "acme", "attempts": 4, "input_tokens": 400, "currency": "USD"}
    conflict = {"kind": "conflict", "detail": SECRET, "raw": SECRET.encode(), "first_raw": SECRET.encode()}
    seen = {"gateway_id": "agent", "kind": "RESPONSE", "request_id": "s", "trace_id": "t", "usage_raw": SECRET}
    keys = [{"kid": "gw-1", "valid_from": NOON_US - 400 * DAY_US, "valid_to": None}]
    rows: dict[str, list[dict[str, Any]]] = {
        "quarantine": [blank_row("quarantine") | topic | refusal | {"headers": SECRET.encode(), "detail": SECRET}],
        "quarantine_discards": [blank_row("quarantine_discards") | topic | {"kid": "ops-1", "reason": "not ours"}],
        "exceptions": [blank_row("exceptions") | topic | conflict],
        "evidence": [blank_row("evidence") | topic | seen],
        "usage_windows": [blank_row("usage_windows") | topic | window],
        "attestations": [blank_row("attestations") | {"gateway_id": "gw", "to_sequence": 9, "kid": "att"}],
        "gateway_epochs": [
            blank_row("gateway_epochs")
            | topic
            | {"gateway_id": "gw", "epoch": "e", "first_sequence": 5, "next_sequence": 9}
        ],
        "ingest_batches": [checkpoint(next_offset=900, posting_floor=NOON_US + 3 * HOUR_US)],
        "operator_log": [
            log(1, "Gateway", "gw", gateway_kind="api_gateway", keys=keys),
            identity(2, "fp-old", issued_at=NOON_US - 400 * DAY_US),
            identity(3, "fp-gone", issued_at=NOON_US - 10 * DAY_US, offboarded_at=NOON_US),
            identity(4, "fp-unsaid", owner=""),
            log(5, "Parameters", "parameters") | {"at": NOON_US + 40 * DAY_US},
        ],
    }
    sink = ClickHouseSink(settings)
    for table, those in rows.items():
        sink.write(table, rows_to_arrow(table, those))


@dataclass(frozen=True)
class World:
    settings: ClickHouseSettings
    client: Client
    folder: Path

    def run(self, *words: str) -> Result:
        server = self.settings
        where = [f"--clickhouse-url={server.url}", f"--clickhouse-user={server.user}"]
        where += [f"--clickhouse-password={server.password}", f"--clickhouse-database={server.database}"]
        return CliRunner().invoke(app, ["evidence", *where, *words])


@pytest.fixture(scope="module")
def world(clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings, folder = clickhouse.migrated(), tmp_path_factory.mktemp("evidence")
    save_operator_keys(folder / "sealers.json", {SEALER.kid: SEALER.public_hex})
    init_operator(folder / "operator.json", folder / "operators.json", "ops-1")
    with closing(connect(settings)) as client:
        fill(settings, client)
        yield World(settings, client, folder)
    clickhouse.drop(settings)


def make(world: World, name: str) -> tuple[Result, Path]:
    folder = world.folder / name
    keys = [f"--sealers={world.folder}/sealers.json", f"--operator-key={world.folder}/operator.json"]
    return world.run("--period=2026-03", f"--output={folder}", *keys), folder


@pytest.fixture(scope="module")
def pack(world: World) -> Path:
    result, folder = make(world, "pack")
    assert result.exit_code == 1
    assert "signed by ops-1" in result.output
    unanswered = re.findall(r"not answered: ([a-z-]+): .*SHOW USERS, SHOW ROLES", result.output)
    assert set(unanswered) == OF_SERVERS, result.output
    return folder


@pytest.fixture(scope="module")
def found(pack: Path) -> Callable[[str], list[dict[str, Any]]]:
    def rows(name: str) -> list[dict[str, Any]]:
        document = json.loads((pack / "results" / f"{name}.json").read_text("utf-8"))
        assert document["problem"] == ""
        return [dict(zip(document["columns"], row, strict=True)) for row in document["rows"]]

    return rows


def test_the_first_words_claim_evidence_and_nothing_else(pack: Path) -> None:
    index = (pack / "README.md").read_text("utf-8")
    assert index.split("\n\n")[1] == CLAIM
    assert "It makes no claim of compliance" in CLAIM
    written = index + (pack / "controls.toml").read_text("utf-8") + (pack / MANIFEST).read_text("utf-8")
    rest = written.replace(CLAIM, "")
    assert not re.search(r"complian|complie|comply|conform|certif|satisf|fulfil", rest, re.IGNORECASE)
    for control in load_controls().controls:
        assert (
            f"### {control.label} {control.title}\n\n*{control.framework.title}, edition {control.framework.edition}.*"
            in index
        )


def test_every_query_answers_with_rows_and_its_files_say_the_same(pack: Path) -> None:
    manifest = json.loads((pack / MANIFEST).read_text("utf-8"))
    for query in load_controls().queries:
        if query.id in OF_SERVERS:
            continue
        document = json.loads((pack / "results" / f"{query.id}.json").read_text("utf-8"))
        with (pack / "results" / f"{query.id}.csv").open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        assert header == document["columns"] or not document["rows"]
        counted = manifest["files"][f"results/{query.id}.csv"]["rows"]
        assert len(lines) == len(document["rows"]) == counted
        assert counted or query.id in NOTHING, query.id


def test_old_keys_and_credentials_are_told_by_their_age(found: Callable[[str], list[dict[str, Any]]]) -> None:
    (key,) = found("gateway-keys")
    assert (key["kid"], key["valid_to"], key["days_in_use"]) == ("gw-1", None, 431)
    credentials = {row["credential_fingerprint"]: row["days_since_rotation"] for row in found("credentials")}
    assert credentials == {"fp-old": 431, "fp-gone": 41, "fp-unsaid": None}
    (ages,) = found("rotation-age")
    assert (ages["never_said"], ages["up_to_90_days"], ages["more_than_a_year"], ages["without_expiry"]) == (1, 0, 1, 2)
    (owners,) = found("owners")
    assert (owners["without_owner"], owners["registered"], owners["owners"]) == (1, 2, ["team"])


def test_use_that_should_not_be_is_listed(found: Callable[[str], list[dict[str, Any]]]) -> None:
    (late,) = found("use-after-end")
    assert (late["credential_fingerprint"], late["attribution_note"], late["requests"]) == (
        "fp-gone",
        "credential_offboarded",
        1,
    )
    (shared,) = found("shared-credentials")
    assert (shared["credential_fingerprint"], shared["used_by"]) == ("fp-old", ["chat / bot", "chat / cron"])
    assert {row["attribution_note"] for row in found("unattributed")} == {"credential_offboarded", "no_tenant"}
    (refused,) = found("refused")
    assert (refused["reason"], refused["refusals"]) == ("bad_signature", 1)
    (incomplete,) = found("completeness")
    assert (incomplete["missing_events"], incomplete["missing"]) == (5, [[0, 5]])
    (unseen,) = found("unmetered")
    assert (unseen["gateway_id"], unseen["calls"]) == ("agent", 1)


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, Any]:
    """The month before, as JSON, without the keys of the sealers."""
    result = world.run("--period=2026-02", "--json")
    assert result.exit_code == 1
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_only_what_is_of_the_period_is_in_it(
    before: dict[str, Any], found: Callable[[str], list[dict[str, Any]]]
) -> None:
    assert [row["act"] for row in found("operator-log")] == ["Gateway", "Identity", "Identity", "Identity"]
    answers = {answer["id"]: answer for answer in before["answers"]}
    for name in ("operator-log", "inventory", "daily-use", "refused", "use-after-end", "completeness"):
        assert answers[name]["rows"] == [], name


def test_the_pack_names_the_seal_that_bounds_it(world: World, pack: Path, before: dict[str, Any]) -> None:
    bound = json.loads((pack / MANIFEST).read_text("utf-8"))["bounded_by_seal"]
    (tip,) = world.client.query("SELECT number, seal_id FROM seals ORDER BY number DESC LIMIT 1").result_rows
    assert (bound["number"], bound["seal_id"]) == tip
    index = (pack / "README.md").read_text("utf-8")
    assert f"Bounded by seal {tip[0]}, id `{tip[1]}`, which ends at 2026-03-01T14:00Z: what was posted later" in index
    assert before["bounded_by_seal"] is None
    (chain,) = [answer for answer in before["answers"] if answer["id"] == "seal-chain"]
    assert (chain["problem"], chain["rows"]) == (UNCHECKED, [])


def test_no_secret_is_in_any_file(pack: Path) -> None:
    files = [file for file in pack.rglob("*") if file.is_file()]
    assert len(files) > 60
    for file in files:
        content = file.read_bytes()
        assert SECRET.encode() not in content, file
        assert SECRET.encode().hex().encode() not in content, file


def test_a_pack_made_again_is_the_same_but_for_its_moment(world: World, pack: Path) -> None:
    _, again = make(world, "again")
    names = {file.relative_to(pack) for file in pack.rglob("*") if file.is_file()}
    assert names == {file.relative_to(again) for file in again.rglob("*") if file.is_file()}
    different = {str(name) for name in names if (pack / name).read_bytes() != (again / name).read_bytes()}
    assert different == {MANIFEST, SIGNATURE}
    ours, theirs = (json.loads((folder / MANIFEST).read_text("utf-8")) for folder in (pack, again))
    assert {key for key in ours if ours[key] != theirs[key]} == {"made_at"}


def test_a_pack_is_checked_with_public_keys(world: World, pack: Path) -> None:
    keys = f"--operator-keys={world.folder}/operators.json"
    result = CliRunner().invoke(app, ["verify-evidence", str(pack), keys, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kid"] == "ops-1"
    copy = shutil.copytree(pack, world.folder / "changed")
    file = copy / "results" / "refused.csv"
    file.write_text(file.read_text("utf-8").replace("bad_signature", "good_signature"), "utf-8")
    result = CliRunner().invoke(app, ["verify-evidence", str(copy), keys])
    assert result.exit_code == 1
    assert "results/refused.csv: was changed" in result.output


def test_sql_of_the_pack_runs_as_it_is(world: World, pack: Path) -> None:
    text = (pack / "queries" / "refused.sql").read_text("utf-8")
    values = dict(re.findall(r"^SET param_(\w+) = '([^']+)';$", text, re.MULTILINE))
    assert values == {"start": "2026-03-01 00:00:00", "end": "2026-04-01 00:00:00"}
    statement = text.split(";\n\n")[1].removesuffix(";\n")
    assert len(world.client.query(statement, values).result_rows) == 1


def test_a_seal_that_was_changed_is_wrong_in_the_chain(
    world: World, found: Callable[[str], list[dict[str, Any]]], clickhouse: ClickHouse
) -> None:
    assert [row["result"] for row in found("seal-chain")] == ["ok"]
    settings = clickhouse.migrated()
    rows = world.client.query_arrow("SELECT * FROM seals ORDER BY number", use_strings=False)
    with closing(connect(settings)) as client:
        client.insert_arrow("seals", rows)
        mutate(client, "seals", "UPDATE leaves = leaves + 1 WHERE number = 1")
        changed = World(settings, client, world.folder)
        result = changed.run("--period=2026-03", "--json", f"--sealers={world.folder}/sealers.json")
    clickhouse.drop(settings)
    (chain,) = [answer for answer in json.loads(result.stdout)["answers"] if answer["id"] == "seal-chain"]
    assert [row[0] for row in chain["rows"]] == ["wrong"]
    assert "leaves" in chain["rows"][0][2]


def test_what_the_server_refuses_is_said_at_its_place_and_the_rest_is_answered(world: World) -> None:
    mine = world.folder / "mine.toml"
    text = load_controls().text.replace("FROM gateways\n", "FROM no_such_table\n")
    mine.write_text(text, "utf-8")
    folder = world.folder / "mine"
    keys = f"--sealers={world.folder}/sealers.json"
    result = world.run("--period=2026-03", f"--controls={mine}", f"--output={folder}", keys)
    assert result.exit_code == 1
    assert "not answered: gateway-keys: " in result.output
    index = (folder / "README.md").read_text("utf-8")
    assert "**not answered**: ClickHouse: ask gateway-keys" in index
    assert not (folder / "results" / "gateway-keys.csv").exists()
    assert json.loads((folder / "results" / "gateway-keys.json").read_text("utf-8"))["problem"]
    assert (folder / "results" / "credentials.csv").exists()
    assert (folder / "controls.toml").read_text("utf-8") == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--period=2026-3"], "--period: must be YYYY-MM, for example 2026-11, got '2026-3'"),
        (["--period=2026-03", "--json", "--output=x"], "--output: must not be given beside --json"),
        (["--period=2026-03", "--output=/"], "--output: / is there already; must be a new folder"),
        (["--period=2026-03", "--controls=/none.toml"], "/none.toml: must be a readable TOML file"),
    ],
)
def test_options_that_cannot_be_are_named(world: World, words: list[str], message: str) -> None:
    result = world.run(*words)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


def test_a_period_is_a_month_in_utc() -> None:
    period = period_of("2026-12")
    assert period.end == datetime(2027, 1, 1, tzinfo=UTC)
    assert plain(period.start) == "2026-12-01T00:00:00Z"
