"""`gatemeter audit` as it is typed: one table or one object, one exit code, the first thing that is wrong on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gatemeter.cli.audit import audit
from gatemeter.processors.auditing.checks import NAMES
from gatemeter.processors.metadata.operators import save_operator_keys
from support.audited import Audited
from support.seals import SEALER

app = typer.Typer()
app.command()(audit)
Run = Callable[..., Result]


@pytest.fixture
def run(audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("time.sleep", lambda _: None)
    sealers, database, folder = tmp_path / "sealers.json", audited.database, audited.spine.folder
    save_operator_keys(sealers, {SEALER.kid: SEALER.public_hex})
    everything = {
        "clickhouse-url": database.url,
        "clickhouse-user": database.user,
        "clickhouse-password": database.password,
        "clickhouse-database": database.database,
        "bootstrap": audited.spine.kafka.bootstrap,
        "events-topic": audited.spine.topic,
        "metadata-topic": audited.spine.metadata_topic,
        "seals-topic": audited.seals_topic,
        "operator-keys": str(folder / "operators.json"),
        "sealers": str(sealers),
        "anchor": str(folder / "anchor"),
        "secrets": str(folder / "secrets.json"),
    }

    def run_command(*words: str, without: tuple[str, ...] = (), **changes: str) -> Result:
        options = {name: value for name, value in (everything | changes).items() if name not in without}
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        return CliRunner(env={"COLUMNS": "160"}).invoke(app, [*words, *given])

    return run_command


def test_a_clean_audit_prints_every_check_and_ends_with_0(run: Run) -> None:
    result = run("--refold")
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(f"{name} " in result.stdout for name in NAMES)
    assert result.stdout.rstrip().endswith("clean")
    assert "WRONG" not in result.stdout
    print(result.stdout)


def test_json_has_the_checks_and_the_counts_of_conservation(run: Run) -> None:
    answer = json.loads(run("--json", "--only", "conservation", "--only", "ledger").stdout)
    assert answer.keys() == {"clean", "first_problem", "conservation", "partitions", "totals", "checks"}
    assert (answer["clean"], answer["conservation"], len(answer["partitions"])) == (True, "ok", 3)
    assert {check["check"] for check in answer["checks"]} == {"conservation", "ledger"}
    answer = json.loads(run("--json", "--only", "chain").stdout)
    assert (answer["conservation"], answer["partitions"], answer["clean"]) == ("not checked", [], True)


def test_the_first_wrong_thing_is_named_on_stderr_and_the_code_is_1(run: Run, audited: Audited) -> None:
    audited.delete("usage_facts", "request_id = (SELECT min(request_id) FROM usage_facts)")
    result = run("--only", "leaves", "--only", "ledger")
    assert result.exit_code == 1
    assert result.stderr.startswith("leaves: seal 0 (")
    assert "was deleted since it was sealed" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "NOT CLEAN" in result.stdout


def test_what_cannot_be_read_is_code_2(run: Run) -> None:
    result = run("--only", "chain", **{"seals-topic": "no-such-topic"})
    assert result.exit_code == 2
    assert result.stderr.startswith("chain: could not be checked: ")
    assert "UNCHECKED" in result.stdout


@pytest.mark.parametrize(
    ("without", "changes", "message"),
    [
        (("secrets",), {}, "--secrets: must be given beside --refold"),
        (("bootstrap",), {}, "--bootstrap: must be given beside --refold"),
        ((), {"sealers": "/nothing/there"}, "--sealers: /nothing/there: cannot be read"),
        ((), {"gateway-keys": "/nothing/there"}, "--gateway-keys: /nothing/there: must be what"),
        ((), {"kafka-config": "/nothing/there"}, "--kafka-config: "),
    ],
)
def test_options_that_cannot_be_used_are_one_line(
    run: Run, without: tuple[str, ...], changes: dict[str, str], message: str
) -> None:
    result = run("--refold", without=without, **changes)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
