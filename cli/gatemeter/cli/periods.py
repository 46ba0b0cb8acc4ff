"""`gatemeter periods status|close`: what is open in a month, and its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from clickhouse_connect.driver.client import Client
from rich.markup import escape
from rich.table import Table

from gatemeter.cli import clickhouse_options as ch
from gatemeter.cli import operator_options as ops
from gatemeter.cli.correcting import AsJson, one_line_errors
from gatemeter.cli.screen import plain_table
from gatemeter.processors.corrections.closing import (
    NotClosed,
    Terms,
    check_closable,
    close_period,
    read_chain,
)
from gatemeter.processors.corrections.month_states import MonthState, last_copied, month_states
from gatemeter.processors.corrections.open_points import KINDS, OpenPoint, open_points
from gatemeter.processors.metadata.operators import load_operator_keys
from gatemeter.processors.metadata.records import check_text
from gatemeter.processors.sealing.periods import is_period
from gatemeter.processors.sealing.seals_topic import KafkaSealsTopic, SealsUnreachable
from gatemeter.schemas.partitions import EVENTS_TOPIC, SEALS_TOPIC
from gatemeter.sinks.clickhouse import connect

SealersFile = Annotated[
    Path,
    typer.Option(
        "--sealers", envvar="GATEMETER_SEALERS_FILE", help="Public keys of the sealers (gatemeter sealers init)."
    ),
]
SealsTopicName = Annotated[str, typer.Option("--seals-topic", help="Topic of seals.")]

_MEANS: Final = {
    "unpriced": "attempts and decisions without a price",
    "orphans": "requests whose answer never came",
    "without_usage": "answers without usage",
    "carried_over": "batch jobs without a final state",
    "missing": "announced events that never arrived",
    "unclosed": "emitters that fell silent",
    "quarantine": "refused and neither admitted nor discarded",
    "conflicts": "contradictions without a correction by hand",
    "unmetered": "calls that evidence saw and nobody metered",
    "conservation": "partitions that do not add up",
}
assert tuple(_MEANS) == KINDS


def _limit(kind: str) -> Any:
    return typer.Option(f"--max-{kind.replace('_', '-')}", min=0, help=f"Most {_MEANS[kind]} to close with.")


@one_line_errors
def periods_status(
    period: Annotated[str, typer.Option("--period", help="YYYY-MM; the oldest open month if not given.")] = "",
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
) -> None:
    """Show the months, how far each is sealed, and what is still open in one of them.

    Example: gatemeter periods status --period 2026-11
    """
    _check_period(period)
    with ch.reading(url, user, password, password_file, database) as client:
        months = month_states(client)
        chosen = period or next((month.period for month in months if month.state != "closed"), "")
        points = open_points(client, chosen) if chosen else []
    if as_json:
        typer.echo(json.dumps({"months": [_month_json(month) for month in months], "period": chosen, **_plain(points)}))
        return
    if not months:
        ops.console.print("nothing is sealed")
    table = plain_table("month", "state", "sealed hours", title="Months")
    for month in months:
        table.add_row(month.period, month.state, f"{month.sealed_hours:,} of {month.hours:,}")
    ops.console.print(table)
    if chosen:
        ops.console.print(_points_table(chosen, points))


@one_line_errors
def periods_close(
    period: Annotated[str, typer.Argument(help="YYYY-MM: the oldest open month, all of its hours sealed.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may be closed; it stands in the operator log.")],
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="A kind of open points to accept whatever their number.")
    ] = None,
    max_unpriced: Annotated[int, _limit("unpriced")] = 0,
    max_orphans: Annotated[int, _limit("orphans")] = 0,
    max_without_usage: Annotated[int, _limit("without_usage")] = 0,
    max_missing: Annotated[int, _limit("missing")] = 0,
    max_unclosed: Annotated[int, _limit("unclosed")] = 0,
    max_quarantine: Annotated[int, _limit("quarantine")] = 0,
    max_conflicts: Annotated[int, _limit("conflicts")] = 0,
    max_unmetered: Annotated[int, _limit("unmetered")] = 0,
    sealers: SealersFile = Path("sealers.json"),
    seals_topic: SealsTopicName = SEALS_TOPIC,
    as_json: AsJson = False,
    url: ch.Url = ch.DEFAULT_URL,
    user: ch.User = ch.DEFAULT_USER,
    password: ch.Password = "",
    password_file: ch.PasswordFile = None,
    database: ch.Database = ch.DEFAULT_DATABASE,
    bootstrap: ops.Bootstrap = ops.DEFAULT_BOOTSTRAP,
    operator_key: ops.OperatorKeyFile = ops.DEFAULT_OPERATOR_KEY,
    operator_keys: ops.OperatorKeysFile = None,
    kafka_config: ops.KafkaConfig = None,
) -> None:
    """Close a month: what changes it later posts to the oldest open one. Refused while too many points are open.

    Batch jobs that are carried over never stand in the way: they post to the month that is open at their final state.

    Example: gatemeter periods close 2026-11 --reason "reviewed by finance" --max-orphans 20 --accept without_usage
    """
    limits = {"unpriced": max_unpriced, "orphans": max_orphans, "without_usage": max_without_usage}
    limits |= {"missing": max_missing, "unclosed": max_unclosed, "quarantine": max_quarantine}
    limits |= {"conflicts": max_conflicts, "unmetered": max_unmetered, "conservation": 0}
    accepted = tuple(dict.fromkeys(accept or ()))
    for kind in accepted:
        if kind not in KINDS:
            raise NotClosed(f"--accept must be one of {', '.join(KINDS)}, got {kind!r}")
    terms = Terms(limits, accepted, check_text("--reason", reason))
    connection = ops.connect(bootstrap, operator_key, operator_keys, kafka_config)
    topic = KafkaSealsTopic(bootstrap, seals_topic, EVENTS_TOPIC, connection.client)
    client = connect(ch.settings(url, user, password, password_file, database))
    try:
        chain = read_chain(topic, load_operator_keys(sealers), connection.trusted)
        check_closable(chain, period)
        points = _points_of(client, period, chain.tip_number)
        if not as_json:
            ops.console.print(_points_table(period, points, terms))
        closed = close_period(topic, chain, connection.operator_key, period, points, terms)
    except SealsUnreachable as error:
        raise NotClosed(str(error)) from error
    finally:
        client.close()
    if as_json:
        found = {"period": period, "closed": True, "after_seal": closed.after, "offset": closed.offset}
        typer.echo(json.dumps({**found, "accepted": list(accepted), **_plain(points)}))
    else:
        ops.console.print(f"{period} is closed after seal {closed.after}; what changes it later posts to a later month")


def _points_of(client: Client, period: str, tip: int) -> list[OpenPoint]:
    """The open points, as seen with all seals in ClickHouse."""
    copied = last_copied(client)
    if copied < tip:
        raise NotClosed(
            f"the last seal is {tip}, the table seals goes up to {copied}: wait for the sealer, or run gatemeter seal"
        )
    return open_points(client, period)


def _check_period(period: str) -> None:
    if period and not is_period(period):
        raise NotClosed(f"--period must be YYYY-MM, got {period!r}")


def _month_json(month: MonthState) -> dict[str, Any]:
    counts = {"sealed_hours": month.sealed_hours, "hours": month.hours}
    return {"period": month.period, "state": month.state, **counts}


def _plain(points: Sequence[OpenPoint]) -> dict[str, Any]:
    return {"open_points": {point.kind: {"count": point.count, "examples": list(point.examples)} for point in points}}


def _points_table(period: str, points: Sequence[OpenPoint], terms: Terms | None = None) -> Table:
    table = plain_table(title=f"Open points of {period}")
    table.add_column("kind", no_wrap=True)
    table.add_column("number", justify="right")
    table.add_column("what, and the first of them", overflow="fold")
    if terms is not None:
        table.add_column("", no_wrap=True)
    above = {point.kind for point in terms.above(points)} if terms else set()
    for point in points:
        texts = [point.kind, f"{point.count:,}", escape("\n".join((_MEANS[point.kind], *point.examples)))]
        if terms is not None:
            accepted = "accepted" if point.kind in terms.accepted else ""
            texts.append("above its limit" if point.kind in above else accepted)
        table.add_row(*texts)
    return table
