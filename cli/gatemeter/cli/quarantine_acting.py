"""`gatemeter quarantine replay|discard`: the way back of what was refused, or out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import typer
from clickhouse_connect.driver.client import Client

from gatemeter.cli import operator_options
from gatemeter.cli.clickhouse_options import (
    DEFAULT_DATABASE,
    DEFAULT_URL,
    DEFAULT_USER,
    Database,
    Password,
    PasswordFile,
    Url,
    User,
    console,
    reading,
)
from gatemeter.cli.operator_options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_OPERATOR_KEY,
    Bootstrap,
    KafkaConfig,
    OperatorKeyFile,
)
from gatemeter.cli.quarantine_options import (
    All,
    AsJson,
    Limit,
    Why,
    check_chosen,
    choosing,
    one_line_errors,
    refusal_json,
)
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.records import check_text
from gatemeter.processors.quarantining import NOT_VALID_THEN, admit, discard, replay
from gatemeter.sinks.reports.quarantine import (
    DEFAULT_LIMIT,
    WHOLE,
    Filters,
    Place,
    Refusal,
    RefusedRecord,
    effect_of,
    in_view,
    reached,
    records,
    refusals,
)

POLL_SECONDS: Final = 0.2


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
@choosing
def quarantine_replay(
    filters: Filters,
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
    check_chosen(filters, everything=everything)
    if admit_expired:
        check_text("--reason", reason)
    connection = operator_options.connect(bootstrap, operator_key, None, kafka_config)
    with reading(url, user, password, password_file, database) as client:
        found = refusals(client, replace(filters, state="open"), limit)
        wanted = records(client, [each.place for each in found])
        expired = {each.place: each.record_digest for each in found if each.reason == NOT_VALID_THEN}
        admits = 0
        if admit_expired:
            admits = admit(connection, [record for record in wanted if record.place in expired], expired, reason)
        results = _what_came(client, wanted, replay(connection, wanted), wait)
    _close_read_late(connection, found, results)
    if as_json:
        shown = [each.as_json() for each in results]
        typer.echo(json.dumps({"replayed": len(results), "admits": admits, "results": shown}))
        return
    for each in results:
        console.print(_line(each), markup=False, soft_wrap=True)
    count = sum(each.state == "admitted" for each in results)
    console.print(f"{len(results)} records replayed, {count} admitted; {admits} admits of expired keys", markup=False)


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


def _close_read_late(connection: Connection, found: Sequence[Refusal], results: Sequence[Replayed]) -> None:
    """Tells the view what records hold that their workers could not read, so that they do not stay open for ever."""
    admitted = {each.record.place for each in results if each.state == "admitted"}
    late = [each for each in found if each.read_late and each.place in admitted]
    if late:
        discard(connection, late, "came again and was admitted by a release that can read it", claimed=True)


def _line(replayed: Replayed) -> str:
    record = replayed.record
    text = f"{record.topic}[{record.partition}]@{record.offset} → @{replayed.offset}: {replayed.state}"
    if replayed.state == "waiting":
        return f"{text}; no worker has folded it yet, see: gatemeter quarantine list --partition {record.partition}"
    if replayed.refused:
        text += f" ({', '.join(sorted({reason for _, reason in replayed.refused}))})"
    return f"{text}, {replayed.facts} facts"


@one_line_errors
@choosing
def quarantine_discard(
    filters: Filters,
    reason: Why,
    everything: All = False,
    limit: Limit = DEFAULT_LIMIT,
    claimed_sequences: Annotated[
        bool,
        typer.Option(
            "--claimed-sequences",
            help="Give up the sequences of records that are not authentic too, also of those that were discarded"
            " before: only where you know whose they are.",
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
    check_chosen(filters, everything=everything)
    connection = operator_options.connect(bootstrap, operator_key, None, kafka_config)
    with reading(url, user, password, password_file, database) as client:
        found = in_view(client, replace(filters, state="open"), limit)
        if claimed_sequences:
            found += [each for each in refusals(client, replace(filters, state="discarded"), limit) if _lacks(each)]
    offsets = discard(connection, found, reason, claimed=claimed_sequences)
    if as_json:
        shown = [{**refusal_json(each), "discard_offset": at} for each, at in zip(found, offsets, strict=True)]
        typer.echo(json.dumps({"discarded": len(found), "results": shown}))
        return
    for each in found:
        event = "the record" if each.event_index == WHOLE else f"event {each.event_index}"
        console.print(f"{each.topic}[{each.partition}]@{each.offset}: {event} is given up", markup=False)
    console.print(f"{len(found)} discarded; in force when a worker has folded the records", markup=False)


def _lacks(refusal: Refusal) -> bool:
    """Discarded, and the sequences that it names are still missing for all we know."""
    named = refusal.claims.next_sequence > refusal.claims.first_sequence
    return named and not refusal.sequences_given_up
