"""`gatemeter explain`: the whole calculation of one request, or of each request of a list, in a terminal or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli.audit_files import kafka_settings, public_keys
from gatemeter.cli.explain_json import explanation_json
from gatemeter.cli.explain_tables import explanation_tables, list_table
from gatemeter.cli.one_line import errors
from gatemeter.cli.operator_options import KafkaConfig, MetadataTopic, moment
from gatemeter.processors.explaining.explanation import Explanation
from gatemeter.processors.explaining.explanation import explain as explain_request
from gatemeter.processors.explaining.terms import Terms, TermsMissing
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.reading import MetadataUnreachable, read_metadata
from gatemeter.schemas.partitions import METADATA_TOPIC
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.requests import Key, Search, find_requests, gateways_of, read_requests

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1_000


@ch.one_line_errors
def explain(
    request_id: Annotated[str, typer.Argument(help="Id of the request.", show_default=False)] = "",
    gateway: Annotated[str, typer.Option("--gateway", help="Its gateway; needed where several know the id.")] = "",
    trace: Annotated[str, typer.Option("--trace", help="All requests of a trace.")] = "",
    credential: Annotated[str, typer.Option("--credential", help="All requests of a credential's fingerprint.")] = "",
    workload: Annotated[str, typer.Option("--workload", help="All requests of a workload.")] = "",
    idempotency_key: Annotated[
        str, typer.Option("--idempotency-key", help="All requests of a retry group; with --workload, of one workload.")
    ] = "",
    first: Annotated[str, typer.Option("--from", help="Requests that started at this UTC time or later.")] = "",
    before: Annotated[str, typer.Option("--to", help="Requests that started before this UTC time.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="At most so many requests, the earliest first.")
    ] = DEFAULT_LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="JSON: an object, or an array of them for a list.")] = False,
    without_prices: Annotated[
        bool, typer.Option("--without-prices", help="Show what the tables hold; calculate nothing again.")
    ] = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap",
            envvar="GATEMETER_BOOTSTRAP",
            help="Kafka brokers, HOST:PORT: the metadata log has the prices.",
        ),
    ] = "",
    kafka_config: KafkaConfig = None,
    metadata_topic: MetadataTopic = METADATA_TOPIC,
    operator_keys: Annotated[
        Path | None,
        typer.Option("--operator-keys", envvar="GATEMETER_OPERATOR_KEYS_FILE", help="Public keys of the operators."),
    ] = None,
) -> None:
    """Calculate again what a request costs, from its tokens and the signed price list that was in force, line by line.

    Exit code 0: everything adds up, 1: something does not (named on stderr), 2: it cannot be explained.

    Example: gatemeter explain 01J9Z6… --bootstrap kafka:9092 --operator-keys operators.json
    """
    search = Search(trace, credential, workload, idempotency_key, _moment("--from", first), _moment("--to", before))
    _check(request_id, gateway, search)
    terms = None if without_prices else _terms(bootstrap, kafka_config, metadata_topic, operator_keys)
    client = connect(ch.settings(url, user, password, password_file, database))
    try:
        keys = [_one(client, request_id, gateway)] if request_id else find_requests(client, search, limit + 1)
        explained = [explain_request(rows, terms) for rows in read_requests(client, keys[:limit])]
    except TermsMissing as error:
        raise ch.OptionError(str(error)) from error
    finally:
        client.close()
    if as_json:
        data = [explanation_json(each) for each in explained]
        typer.echo(json.dumps(data[0] if request_id else data, indent=1))
    elif request_id:
        for part in explanation_tables(explained[0]):
            ch.console.print(part)
    else:
        ch.console.print(list_table(explained) if explained else "no request matches")
    if len(keys) > limit:
        errors.print(f"there are more than {limit} requests: narrow the search, or raise --limit (at most {MAX_LIMIT})")
    _verdict(explained)


def _verdict(explained: list[Explanation]) -> None:
    wrong = [each for each in explained if not each.adds_up]
    for each in wrong:
        for problem in each.problems:
            errors.print(f"DOES NOT ADD UP: request {each.request_id}: {problem}", markup=False)
    if wrong:
        raise typer.Exit(1)


def _check(request_id: str, gateway: str, search: Search) -> None:
    others = bool(search.named) or search.from_us is not None or search.to_us is not None
    if bool(request_id) == others:
        raise ch.OptionError(
            "REQUEST_ID: must be given, or at least one of --trace, --credential, --workload, --idempotency-key, "
            "--from, --to; not both"
        )
    if gateway and not request_id:
        raise ch.OptionError("--gateway: must be given beside REQUEST_ID only")


def _moment(option: str, text: str) -> int | None:
    try:
        return moment(option, text) if text else None
    except MetadataError as error:
        raise ch.OptionError(str(error)) from error


def _terms(bootstrap: str, kafka_config: Path | None, topic: str, operator_keys: Path | None) -> Terms:
    """The metadata log, read to its end. Raises `OptionError`."""
    kafka = kafka_settings(bootstrap, kafka_config)
    keys = public_keys("--operator-keys", operator_keys)
    if kafka is None or keys is None:
        option = "--bootstrap" if kafka is None else "--operator-keys"
        raise ch.OptionError(f"{option}: must be given, prices are in the metadata log (or use --without-prices)")
    try:
        return Terms(read_metadata(kafka.bootstrap, keys, topic=topic, client=kafka.client).log)
    except MetadataUnreachable as error:
        raise ch.OptionError(f"--bootstrap: {error} (--without-prices needs no Kafka)") from error


def _one(client: Client, request_id: str, gateway: str) -> Key:
    known = gateways_of(client, request_id)
    if (gateway and gateway not in known) or not known:
        of = f" of gateway {gateway!r}" if gateway else ""
        raise ch.OptionError(f"REQUEST_ID: request {request_id!r}{of} is not known")
    if len(known) > 1 and not gateway:
        raise ch.OptionError(
            f"REQUEST_ID: {request_id!r} is known of gateways {', '.join(known)}: name one with --gateway"
        )
    return gateway or known[0], request_id
