"""`gatemeter seal` and `gatemeter sealers init`: hours are closed, and the keys with which that is signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.one_line import errors, one_line_errors_of
from gatemeter.processors.metadata.operators import init_operator, load_operator_keys
from gatemeter.processors.sealing.anchors import AnchorError, anchor_at
from gatemeter.processors.sealing.chain import Seal
from gatemeter.processors.sealing.contents import SealStopped
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.sealer import Sealed, Sealer, Trusted
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic, SealsUnreachable
from gatemeter.schemas.partitions import EVENTS_TOPIC, SEALS_TOPIC
from gatemeter.schemas.seals import HOUR_US
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.clickhouse import ClickHouseSink, connect

SealerKeyFile = Annotated[
    Path,
    typer.Option("--sealer-key", envvar="GATEMETER_SEALER_KEY_FILE", help="Private key file (gatemeter sealers init)."),
]
SealersFile = Annotated[
    Path, typer.Option("--sealers", envvar="GATEMETER_SEALERS_FILE", help="Public keys of all sealers.")
]

DEFAULT_SEALER_KEY: Final = Path("sealer.json")
DEFAULT_SEALERS: Final = Path("sealers.json")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@ops.one_line_errors
def sealers_init(
    name: Annotated[str, typer.Argument(help="Key id of the sealer, for example sealer-2026.")],
    sealer_key: SealerKeyFile = DEFAULT_SEALER_KEY,
    sealers: SealersFile = DEFAULT_SEALERS,
) -> None:
    """Make a sealer's signing key and add its public half to the file that workers and auditors trust.

    Example: gatemeter sealers init sealer-1 --sealer-key sealer.json --sealers sealers.json
    """
    key = init_operator(sealer_key, sealers, name, "sealer")
    ops.console.print(f"sealer {key.kid}: private key in {sealer_key} (keep it), public key in {sealers}", markup=False)


@one_line_errors_of({1: (*ops.FAILURES, SealStopped, SealsUnreachable), 2: (*ch.FAILURES, AnchorError)})
def seal(
    through: Annotated[
        str, typer.Option("--through", help="Last hour to seal, 2026-11-24T13 (UTC); all that are over if not given.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    sealer_key: SealerKeyFile = DEFAULT_SEALER_KEY,
    sealers: SealersFile = DEFAULT_SEALERS,
    operator_keys: Annotated[
        Path,
        typer.Option(
            "--operator-keys",
            envvar="GATEMETER_OPERATOR_KEYS_FILE",
            help="Public keys of the operators, who close months.",
        ),
    ] = Path("operators.json"),
    anchor: Annotated[
        list[str] | None, typer.Option("--anchor", help="Folder or http(s) address for copies; may be repeated.")
    ] = None,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    kafka_config: ops.KafkaConfig = None,
    events_topic: Annotated[
        str, typer.Option("--events-topic", help="Topic whose partitions must have passed the hour.")
    ] = EVENTS_TOPIC,
    seals_topic: Annotated[str, typer.Option("--seals-topic", help="Topic that keeps the seals.")] = SEALS_TOPIC,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Seal the hours that are over: their facts become leaves of a signed tree and entries of the ledger.

    An hour is over when every partition has passed its end and the grace. Exit code 1: the hour asked for is not.

    Example: gatemeter seal --through 2026-11-24T13 --anchor /mnt/worm/gatemeter
    """
    through_us = _hour(through) if through else None
    key = OperatorKey.load(sealer_key)
    trusted = Trusted(load_operator_keys(sealers), load_operator_keys(operator_keys))
    where = ch.settings(url, user, password, password_file, database)
    topic = KafkaSealsTopic(bootstrap, seals_topic, events_topic, ops.client_settings(kafka_config))
    places = [anchor_at(place) for place in anchor or ()]
    client = connect(where)
    try:
        sealer = Sealer(client, ClickHouseSink(where), topic, key, trusted, seals_topic=seals_topic, anchors=places)
        done = sealer.run(through_us)
    finally:
        client.close()
    if as_json:
        typer.echo(json.dumps(sealed_json(done)))
    else:
        _print(done)
    reached = through_us is None or (done.tip is not None and done.tip.posted_hour_us >= through_us)
    if not reached or done.anchor_problems:
        raise typer.Exit(1)


def sealed_json(done: Sealed) -> dict[str, Any]:
    """What a run did, as plain data."""
    return {
        "sealed": [_seal_json(each) for each in done.hours],
        "tip": _seal_json(done.tip) if done.tip else None,
        "waiting": done.waiting,
        "anchor_problems": done.anchor_problems,
    }


def _seal_json(each: Seal) -> dict[str, Any]:
    return {
        "number": each.number,
        "seal_id": each.seal_id.hex(),
        "posted_hour": utc(each.posted_hour_us),
        "leaves": each.leaves,
        "entries": each.entries,
        "open_period": each.open_period,
        "kid": each.kid,
    }


def _print(done: Sealed) -> None:
    for each in done.hours:
        ops.console.print(
            f"sealed {utc(each.posted_hour_us)} as number {each.number}: {each.leaves:,} leaves,"
            f" {each.entries:,} entries, id {each.seal_id.hex()[:16]}…"
        )
    if not done.hours:
        ops.console.print("nothing was sealed")
    ops.console.print(done.waiting, markup=False)
    for problem in done.anchor_problems:
        errors.print(f"error: {problem}", markup=False)


def _hour(text: str) -> int:
    wrong = ch.OptionError(f"--through: must be a full hour, for example 2026-11-24T13, got {text!r}")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise wrong from None
    at_us = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    if at_us % HOUR_US:
        raise wrong
    return at_us
