"""`gatemeter audit`: does everything that came in, and everything that was made of it, still hold together?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gatemeter.cli.audit_files import attestation_keys, kafka_settings, public_keys, secrets_of
from gatemeter.cli.audit_table import audit_table
from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    OptionError,
    Password,
    PasswordFile,
    Url,
    User,
    console,
    one_line_errors,
    settings,
)
from gatemeter.cli.one_line import errors
from gatemeter.cli.operator_options import KafkaConfig
from gatemeter.processors.auditing.checks import NAMES, Checks, Sources
from gatemeter.schemas.partitions import EVENTS_TOPIC, METADATA_TOPIC, SEALS_TOPIC
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.audit import Audit, run_checks
from gatemeter.sinks.reports.conservation import Conservation


@one_line_errors
def audit(
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap",
            envvar="GATEMETER_BOOTSTRAP",
            help="Kafka brokers, HOST:PORT: checks against the log are made too.",
        ),
    ] = "",
    kafka_config: KafkaConfig = None,
    events_topic: Annotated[str, typer.Option("--events-topic", help="Topic of the gateways' events.")] = EVENTS_TOPIC,
    metadata_topic: Annotated[str, typer.Option("--metadata-topic", help="Topic of the metadata.")] = METADATA_TOPIC,
    seals_topic: Annotated[str, typer.Option("--seals-topic", help="Topic of the seals.")] = SEALS_TOPIC,
    operator_keys: Annotated[
        Path | None,
        typer.Option("--operator-keys", envvar="GATEMETER_OPERATOR_KEYS_FILE", help="Public keys of the operators."),
    ] = None,
    sealers: Annotated[
        Path | None, typer.Option("--sealers", envvar="GATEMETER_SEALERS_FILE", help="Public keys of the sealers.")
    ] = None,
    gateway_keys: Annotated[
        Path | None,
        typer.Option(
            "--gateway-keys",
            help="Public attestation keys (gatemeter gateways keys).",
            show_default="from the metadata topic",
        ),
    ] = None,
    anchor: Annotated[
        list[str] | None, typer.Option("--anchor", help="Folder or URL with copies of the seals; may be repeated.")
    ] = None,
    refold: Annotated[
        bool, typer.Option("--refold", help="Fold the retained log again and compare every row; needs --secrets.")
    ] = False,
    secrets: Annotated[
        Path | None, typer.Option("--secrets", help="Secrets file of gateway keys, for --refold alone.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help=f"Make this check alone; may be repeated: {', '.join(NAMES)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Check that nothing was lost, doubled or changed. Exit code 0: clean, 1: something is wrong, 2: cannot be checked.

    Example: gatemeter audit --clickhouse-url http://127.0.0.1:8123 --clickhouse-user analyst
    """
    chosen = _chosen(only)
    if refold:
        needed = {"--bootstrap": bootstrap, "--operator-keys": operator_keys, "--secrets": secrets}
        for option, value in needed.items():
            if not value:
                raise OptionError(f"{option}: must be given beside --refold")
    given: dict[str, Any] = {
        "kafka": kafka_settings(bootstrap, kafka_config),
        "operator_keys": public_keys("--operator-keys", operator_keys),
        "secrets": secrets_of(secrets),
        "refold": refold,
        "events_topic": events_topic,
        "metadata_topic": metadata_topic,
        "seals_topic": seals_topic,
        "sealers": public_keys("--sealers", sealers),
        "gateway_keys": attestation_keys(gateway_keys),
        "anchors": tuple(anchor or ()),
    }
    client = connect(settings(url, user, password, password_file, database))
    checks = Checks(Sources(client, **given))
    try:
        result = run_checks(checks.chosen(chosen))
    finally:
        client.close()
    if as_json:
        typer.echo(json.dumps(audit_json(result, checks.conservation), default=str))
    else:
        console.print(audit_table(result))
    if not result.clean:
        errors.print(result.first_problem, markup=False)
        raise typer.Exit(result.exit_code)


def _chosen(only: Sequence[str] | None) -> frozenset[str]:
    for name in only or ():
        if name not in NAMES:
            raise OptionError(f"--only: must be one of {', '.join(NAMES)}, got {name!r}")
    return frozenset(only or NAMES)


def audit_json(result: Audit, counted: Conservation | None) -> dict[str, Any]:
    """The audit as plain data. `conservation`: "ok", the first problem, or "not checked"."""
    verdict = "not checked" if counted is None else counted.first_problem or "ok"
    return {
        "clean": result.clean,
        "first_problem": result.first_problem,
        "conservation": verdict,
        "partitions": [
            {"topic": check.topic, "partition": check.partition, **check.counts, "problem": check.problem}
            for check in (counted.partitions if counted else ())
        ],
        "totals": counted.totals() if counted else {},
        "checks": [finding.as_json() for finding in result.findings],
    }
