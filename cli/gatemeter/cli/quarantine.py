"""`gatemeter quarantine list|show|replay|discard`: what was refused, and its way back or out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import clickhouse_options, operator_options
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
    settings,
)
from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    KafkaConfig,
    OperatorKeyFile,
    moment,
)
from gatemeter.processors.metadata.records import check_text
from gatemeter.processors.quarantining import NOT_VALID_THEN, admit, discard, replay
from gatemeter.schemas.codec import CodecError, decode
from gatemeter.sinks.clickhouse import connect
from gatemeter.sinks.reports.quarantine import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    STATES,
    WHOLE,
    Filters,
    Place,
    Refusal,
    RefusedRecord,
    effect_of,
    reached,
    records,
    refusals,
    utc,
)

P = ParamSpec("P")
T = TypeVar("T")

Topic = Annotated[str, typer.Option("--topic", help="Events topic; all if not given.")]
Partition = Annotated[int, typer.Option("--partition", show_default="all", help="One partition.")]
Offset = Annotated[int, typer.Option("--offset", show_default="all", help="One offset.")]
FromOffset = Annotated[int, typer.Option("--from-offset", help="First offset.")]
ToOffset = Annotated[int, typer.Option("--to-offset", show_default="the last", help="Last offset.")]
GatewayName = Annotated[str, typer.Option("--gateway", help="Gateway that the record names, authentic or not.")]
WhyRefused = Annotated[str, typer.Option("--refused-for", help="Reason of refusal, for example unknown_key.")]
Since = Annotated[str, typer.Option("--since", help="Recorded at this UTC time or later.")]
Until = Annotated[str, typer.Option("--until", help="Recorded before this UTC time.")]
State = Annotated[str, typer.Option("--state", help="open, admitted, discarded, refused_again; all if not given.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="At most so many rows.")]
All = Annotated[bool, typer.Option("--all", help="Every open row; needed where no other option chooses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept with the record and in the operator log.")]
POLL_SECONDS: Final = 0.2


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """As that of the operators' options (exit code 1) and of ClickHouse's (2)."""

    @operator_options.one_line_errors
    @clickhouse_options.one_line_errors
    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        return command(*args, **kwargs)

    return guarded


@contextmanager
def _client(url: str, user: str, password: str, password_file: Any, database: str) -> Iterator[Client]:
    client = connect(settings(url, user, password, password_file, database))
    try:
        yield client
    finally:
        client.close()


def _filters(
    topic: str,
    partition: int,
    offset: int,
    span: tuple[int, int],
    gateway: str,
    reason: str,
    times: tuple[str, str],
    state: str,
) -> Filters:
    if state and state not in STATES:
        raise OptionError(f"--state must be one of {', '.join(STATES)}, got {state!r}")
    if offset >= 0 and span != (0, -1):
        raise OptionError("--offset must not be given beside --from-offset or --to-offset")
    first, last = (offset, offset) if offset >= 0 else span
    return Filters(
        topic=topic,
        partition=partition,
        first_offset=first,
        last_offset=None if last < 0 else last,
        gateway=gateway,
        reason=reason,
        since_us=moment("--since", times[0]) if times[0] else 0,
        until_us=moment("--until", times[1]) if times[1] else None,
        state=state,
    )


@one_line_errors
def quarantine_list(
    topic: Topic = "",
    partition: Partition = -1,
    offset: Offset = -1,
    from_offset: FromOffset = 0,
    to_offset: ToOffset = -1,
    gateway: GatewayName = "",
    refused_for: WhyRefused = "",
    since: Since = "",
    until: Until = "",
    state: State = "",
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """List refused records and events, why they were refused and what came of them.

    Example: gatemeter quarantine list --state open --refused-for unknown_key --since 2026-11-24
    """
    span = (from_offset, to_offset)
    filters = _filters(topic, partition, offset, span, gateway, refused_for, (since, until), state)
    with _client(url, user, password, password_file, database) as client:
        found = refusals(client, filters, limit)
    if as_json:
        typer.echo(json.dumps([_as_json(each) for each in found]))
        return
    for each in found:
        event = "whole record" if each.event_index == WHOLE else f"event {each.event_index}"
        who = each.gateway_id or (f"says {each.claims.gateway_id}" if each.claims.gateway_id else "unknown")
        place = f"{each.topic}[{each.partition}]@{each.offset}"
        line = f"{place} {event}: {each.state}, {each.reason}, gateway {who}, {utc(each.recorded_at_us)}"
        console.print(line, markup=False, soft_wrap=True)
    if not found:
        console.print("nothing refused is like that")
    if len(found) == limit:
        console.print(f"only the first {limit} rows; more with --limit", markup=False)


def _as_json(refusal: Refusal) -> dict[str, Any]:
    return {
        "topic": refusal.topic,
        "partition": refusal.partition,
        "offset": refusal.offset,
        "event_index": refusal.event_index,
        "state": refusal.state,
        "reason": refusal.reason,
        "detail": refusal.detail,
        "gateway_id": refusal.gateway_id,
        "claims": refusal.claims._asdict(),
        "record_digest": refusal.record_digest,
        "recorded_at": utc(refusal.recorded_at_us),
        "again_offset": refusal.again_offset,
        "discard_reason": refusal.discard_reason,
        "discarded_by": refusal.discarded_by,
    }


@one_line_errors
def quarantine_show(
    partition: Annotated[int, typer.Argument(help="Partition.")],
    offset: Annotated[int, typer.Argument(help="Offset of the refused record.")],
    topic: Topic = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Print one refused record: why, its headers, its content as far as it can be read, and its bytes.

    Example: gatemeter quarantine show 3 1042 --json
    """
    filters = Filters(topic=topic, partition=partition, first_offset=offset, last_offset=offset)
    with _client(url, user, password, password_file, database) as client:
        found = refusals(client, filters)
        kept = records(client, [each.place for each in found])
    if len(kept) != 1:
        where = f"partition {partition} offset {offset}"
        if kept:
            raise OptionError(
                f"--topic: {where} is refused in {', '.join(record.topic for record in kept)}; choose one"
            )
        raise OptionError(f"{where}: no refused record is there; see: gatemeter quarantine list")
    shown = _shown(kept[0], found)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for name in ("record", "recorded_at", "record_digest", "key"):
        console.print(f"{name}: {shown[name]}", markup=False, soft_wrap=True)
    for name, value in shown["headers"]:
        console.print(f"header {name}: {value}", markup=False, soft_wrap=True)
    for row in shown["refused"]:
        event = "whole record" if row["event_index"] == WHOLE else f"event {row['event_index']}"
        line = f"{event}: {row['state']}, refused for {row['reason']}: {row['detail']}"
        console.print(line, markup=False, soft_wrap=True)
    if shown["content"] is None:
        console.print(f"content: {shown['unreadable']}", markup=False, soft_wrap=True)
    else:
        console.print(f"content: {shown['schema']} {json.dumps(shown['content'])}", markup=False, soft_wrap=True)
    console.print(f"bytes: {shown['bytes']}", markup=False, soft_wrap=True)


def _shown(record: RefusedRecord, found: Sequence[Refusal]) -> dict[str, Any]:
    schema, content, unreadable = "", None, ""
    try:
        decoded = decode(record.value)
        schema, content = decoded.name, json.loads(json.dumps(decoded.datum, default=bytes.hex))
    except CodecError as error:
        unreadable = str(error)
    return {
        "record": f"{record.topic}[{record.partition}]@{record.offset}",
        "recorded_at": utc(record.recorded_at_us),
        "record_digest": found[0].record_digest,
        "key": record.key.hex(),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "refused": [_as_json(each) for each in found],
        "schema": schema,
        "content": content,
        "unreadable": unreadable,
        "bytes": record.value.hex(),
    }


def _text(value: bytes) -> str:
    """A header's value: as text where it is printable, else as hex."""
    return value.decode() if value.isascii() and value.decode("ascii").isprintable() else value.hex()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one record: `state` admitted, partly_refused, refused_again, or waiting (not folded yet)."""

    record: RefusedRecord
    offset: int
    state: str
    facts: int
    refused: tuple[tuple[int, str], ...]

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "replayed_as": self.offset,
            "state": self.state,
            "facts": self.facts,
            "refused": [{"event_index": index, "reason": reason} for index, reason in self.refused],
        }


@one_line_errors
def quarantine_replay(
    topic: Topic = "",
    partition: Partition = -1,
    offset: Offset = -1,
    from_offset: FromOffset = 0,
    to_offset: ToOffset = -1,
    gateway: GatewayName = "",
    refused_for: WhyRefused = "",
    since: Since = "",
    until: Until = "",
    everything: All = False,
    limit: Limit = DEFAULT_LIMIT,
    admit_expired: Annotated[
        bool,
        typer.Option(
            "--admit-expired", help="Admit records whose key was not valid at their time; needs --reason. Look first."
        ),
    ] = False,
    reason: Why = "",
    wait: Annotated[float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait for the workers.")] = 30.0,
    as_json: AsJson = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    kafka_config: KafkaConfig = None,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Append open refused records once more to their partitions, unchanged, and say what came of them.

    Mend the cause first: register the key, install the release that knows the schema. Only what was not admitted before
    counts, so that repeating it does no harm.

    Example: gatemeter quarantine replay --refused-for unknown_key --gateway litellm-eu
    """
    span = (from_offset, to_offset)
    filters = _filters(topic, partition, offset, span, gateway, refused_for, (since, until), "open")
    _check_chosen(filters, everything)
    if admit_expired:
        check_text("--reason", reason)
    connection = operator_options.connect(bootstrap, operator_key, None, kafka_config)
    with _client(url, user, password, password_file, database) as client:
        found = refusals(client, filters, limit)
        wanted = records(client, [each.place for each in found])
        expired = {each.place: each.record_digest for each in found if each.reason == NOT_VALID_THEN}
        admits = 0
        if admit_expired:
            admits = admit(connection, [record for record in wanted if record.place in expired], expired, reason)
        results = _what_came(client, wanted, replay(connection, wanted), wait)
    if as_json:
        shown = [each.as_json() for each in results]
        typer.echo(json.dumps({"replayed": len(results), "admits": admits, "results": shown}))
        return
    for each in results:
        console.print(_line(each), markup=False, soft_wrap=True)
    count = sum(each.state == "admitted" for each in results)
    console.print(f"{len(results)} records replayed, {count} admitted; {admits} admits of expired keys", markup=False)


def _check_chosen(filters: Filters, everything: bool) -> None:
    if filters == Filters(state="open") and not everything:
        raise OptionError("choose records by an option such as --offset or --gateway, or give --all")


def _what_came(client: Client, wanted: Sequence[RefusedRecord], at: dict[Place, int], wait: float) -> list[Replayed]:
    deadline = time.monotonic() + wait
    results: list[Replayed] = []
    for record in wanted:
        new = at[record.place]
        while reached(client).get(record.place[:2], 0) <= new and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if reached(client).get(record.place[:2], 0) <= new:
            results.append(Replayed(record, new, "waiting", 0, ()))
            continue
        effect = effect_of(client, (record.topic, record.partition, new))
        state = "admitted"
        if effect.refused:
            state = "refused_again" if effect.refused[0][0] == WHOLE else "partly_refused"
        results.append(Replayed(record, new, state, effect.facts, effect.refused))
    return results


def _line(replayed: Replayed) -> str:
    record = replayed.record
    text = f"{record.topic}[{record.partition}]@{record.offset} → @{replayed.offset}: {replayed.state}"
    if replayed.state == "waiting":
        return f"{text}; no worker has folded it yet, see: gatemeter quarantine list --partition {record.partition}"
    if replayed.refused:
        text += f" ({', '.join(sorted({reason for _, reason in replayed.refused}))})"
    return f"{text}, {replayed.facts} facts"


@one_line_errors
def quarantine_discard(
    reason: Why,
    topic: Topic = "",
    partition: Partition = -1,
    offset: Offset = -1,
    from_offset: FromOffset = 0,
    to_offset: ToOffset = -1,
    gateway: GatewayName = "",
    refused_for: WhyRefused = "",
    since: Since = "",
    until: Until = "",
    everything: All = False,
    limit: Limit = DEFAULT_LIMIT,
    claimed_sequences: Annotated[
        bool,
        typer.Option(
            "--claimed-sequences",
            help="Give up the sequences of records that are not authentic too: only where you know whose they are.",
        ),
    ] = False,
    as_json: AsJson = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    operator_key: OperatorKeyFile = DEFAULT_OPERATOR_KEY,
    kafka_config: KafkaConfig = None,
    url: Url = DEFAULT_URL,
    user: User = DEFAULT_USER,
    password: Password = "",
    password_file: PasswordFile = None,
    database: Database = DEFAULT_DATABASE,
) -> None:
    """Give up open refused records and events for good. They stay in the table, with the reason and your key id.

    Example: gatemeter quarantine discard --partition 3 --offset 1042 --reason "test traffic of a laptop"
    """
    check_text("--reason", reason)
    span = (from_offset, to_offset)
    filters = _filters(topic, partition, offset, span, gateway, refused_for, (since, until), "open")
    _check_chosen(filters, everything)
    connection = operator_options.connect(bootstrap, operator_key, None, kafka_config)
    with _client(url, user, password, password_file, database) as client:
        found = refusals(client, filters, limit)
    offsets = discard(connection, found, reason, claimed=claimed_sequences)
    if as_json:
        shown = [{**_as_json(each), "discard_offset": at} for each, at in zip(found, offsets, strict=True)]
        typer.echo(json.dumps({"discarded": len(found), "results": shown}))
        return
    for each in found:
        event = "the record" if each.event_index == WHOLE else f"event {each.event_index}"
        console.print(f"{each.topic}[{each.partition}]@{each.offset}: {event} is given up", markup=False)
    console.print(f"{len(found)} discarded; in force when a worker has folded the records", markup=False)
