"""`gatemeter evidence`: a pack for auditors, published controls beside the queries that speak to them, and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.one_line import errors, one_line_errors_of
from gatemeter.processors.auditing.chain import ChainCheck
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.schemas.partitions import SEALS_TOPIC
from gatemeter.schemas.signing import OperatorKey, SecretsError
from gatemeter.sinks.evidence_pack.answers import ask, bound_of, period_of
from gatemeter.sinks.evidence_pack.controls import ControlsError, load_controls
from gatemeter.sinks.evidence_pack.files import Found, files_of, write_files

UNCHECKED = "not checked: needs the public keys of the sealers, --sealers"


@one_line_errors_of({2: (*ch.FAILURES, ControlsError, SecretsError, MetadataError)})
def evidence(
    period: Annotated[str, typer.Option("--period", help="Month in UTC, YYYY-MM.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to make; evidence-YYYY-MM if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of a folder.")] = False,
    controls: Annotated[
        Path | None, typer.Option("--controls", help="TOML file of controls and queries instead of our own.")
    ] = None,
    sealers: Annotated[
        Path | None,
        typer.Option("--sealers", envvar="GATEMETER_SEALERS_FILE", help="Public keys of all sealers, to check seals."),
    ] = None,
    operator_key: Annotated[
        Path | None,
        typer.Option("--operator-key", envvar="GATEMETER_OPERATOR_KEY_FILE", help="Private key file: sign the pack."),
    ] = None,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Make the evidence of a month for auditors; it claims nothing about controls, which are the auditor's to judge.

    Exit code 0: every query was answered, 1: some were not, which the pack says at its place.

    Example: gatemeter evidence --period 2026-11 --sealers sealers.json --operator-key operator.json --output pack
    """
    try:
        month = period_of(period)
    except ValueError as error:
        raise ch.OptionError(f"--{error}") from error
    if as_json and output is not None:
        raise ch.OptionError("--output: must not be given beside --json")
    folder = output or Path(f"evidence-{month.name}")
    if not as_json and folder.exists():
        raise ch.OptionError(f"--output: {folder} is there already; must be a new folder")
    mapping = load_controls(controls)
    key = OperatorKey.load(operator_key) if operator_key else None
    keys = load_operator_keys(sealers) if sealers else None
    with ch.reading(url, user, password, password_file, database) as client:
        computed = {"seal-chain": UNCHECKED if keys is None else _chain(client, keys)}
        found = Found(mapping, month, bound_of(client, month), list(ask(client, mapping, month, computed)))
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        _write(found, folder, key)
    unanswered = [answer for answer in found.answers if answer.problem]
    for answer in unanswered:
        errors.print(f"not answered: {answer.query.id}: {answer.problem}", markup=False)
    if unanswered:
        raise typer.Exit(1)


def _chain(client: Client, sealers: dict[str, str]) -> Sequence[dict[str, Any]]:
    """The findings about the table of seals, as rows."""
    check = ChainCheck(client, sealers, None, None, SEALS_TOPIC)
    return [
        {"result": str(each.result), "scope": each.scope, "what": each.what}
        for each in check.look()
        if each.scope != "topic"  # this pack reads tables alone
    ]


def _write(found: Found, folder: Path, key: OperatorKey | None) -> None:
    try:
        files = files_of(found, datetime.now(UTC), key)
        write_files(folder, files)
    except OSError as error:
        raise ch.OptionError(f"--output: {folder} must be a folder that can be made: {error}") from error
    signed = f"signed by {key.kid}" if key else "not signed: give --operator-key"
    counts = f"{len(found.controls.controls)} controls, {len(found.answers)} queries, {len(files)} files"
    ch.console.print(f"{folder}: {counts}, {signed}", markup=False)
