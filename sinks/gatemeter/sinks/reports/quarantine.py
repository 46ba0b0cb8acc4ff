"""What was refused and what came of it: rows of `quarantine` with their state, and one whole record with its bytes.

The state comes from the view `quarantine_state`. A record that its worker could not read (its schema was not known) is
looked at once more here: where this release can read it, it is known whether it came again. The view learns it from the
operator's record that names the sequences (`discard`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.schemas.claims import Claims, claims_of
from gatemeter.sinks.rows import query_rows

STATES: Final = ("open", "admitted", "discarded", "refused_again")
WHOLE: Final = -1
"""`event_index` of a record that was refused whole."""

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 100_000

_LIST: Final = """
SELECT topic, partition, offset, event_index, state, reason, detail, gateway_id, claimed_gateway_id, epoch,
    first_sequence, next_sequence, record_digest, toUnixTimestamp64Micro(recorded_at) AS at_us, again_offset,
    discard_reason, discarded_by, sequences_given_up
FROM quarantine_state
WHERE ({topic:String} = '' OR topic = {topic:String})
    AND ({partition:Int64} < 0 OR partition = {partition:Int64})
    AND offset >= {first_offset:Int64} AND offset <= {last_offset:Int64}
    AND ({gateway:String} = '' OR claimed_gateway_id = {gateway:String})
    AND ({reason:String} = '' OR reason = {reason:String})
    AND at_us >= {since_us:Int64} AND at_us < {until_us:Int64}
    AND ({state:String} = '' OR state = {state:String})
ORDER BY topic, partition, offset, event_index
LIMIT {limit:UInt64}
"""
_RECORDS: Final = """
SELECT topic, partition, offset, hex(key) AS key_hex, headers, hex(raw) AS raw_hex,
    toUnixTimestamp64Micro(recorded_at) AS at_us
FROM quarantine FINAL
WHERE (topic, partition, offset) IN {places:Array(Tuple(String, Int64, Int64))}
ORDER BY topic, partition, offset, event_index
LIMIT 1 BY topic, partition, offset
"""
_RUNS: Final = """
SELECT first_sequence, next_sequence FROM gateway_epochs
WHERE topic = {topic:String} AND partition = {partition:Int64} AND gateway_id = {gateway:String}
    AND epoch = {epoch:String} AND first_offset > {offset:Int64}
    AND first_sequence <= {next:Int64} AND next_sequence >= {first:Int64}
ORDER BY first_sequence, next_sequence
"""
_PROGRESS: Final = """
SELECT topic, partition, max(next_offset) AS reached FROM ingest_batches GROUP BY topic, partition
"""
_EFFECT: Final = """
SELECT
    (SELECT count() FROM usage_facts FINAL WHERE topic = {topic:String} AND partition = {partition:Int64}
        AND offset = {offset:Int64})
    + (SELECT count() FROM policy_facts FINAL WHERE topic = {topic:String} AND partition = {partition:Int64}
        AND offset = {offset:Int64}) AS facts,
    (SELECT arraySort(groupArray((event_index, reason))) FROM quarantine FINAL
        WHERE topic = {topic:String} AND partition = {partition:Int64} AND offset = {offset:Int64}) AS refused
"""

Place = tuple[str, int, int]
"""(topic, partition, offset)."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows; what is blank, negative or None chooses all. Offsets are inclusive, times are [since, until)."""

    topic: str = ""
    partition: int = -1
    first_offset: int = 0
    last_offset: int | None = None
    gateway: str = ""
    reason: str = ""
    since_us: int = 0
    until_us: int | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused record or event. `gateway_id` is '' where the record was not authentic; `claims` may be lies.

    `read_late`: its worker could not read it, this release can; the view does not know its claims.
    """

    topic: str
    partition: int
    offset: int
    event_index: int
    state: str
    reason: str
    detail: str
    gateway_id: str
    claims: Claims
    record_digest: str
    recorded_at_us: int
    again_offset: int | None
    discard_reason: str
    discarded_by: str
    sequences_given_up: bool
    read_late: bool = False

    @property
    def place(self) -> Place:
        """Where its record is."""
        return self.topic, self.partition, self.offset


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A whole record as it was found in the log."""

    topic: str
    partition: int
    offset: int
    recorded_at_us: int
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.topic, self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Effect:
    """What a record did: facts that name it, and what was refused of it: (event_index, reason)."""

    facts: int
    refused: tuple[tuple[int, str], ...]


def refusals(client: Client, filters: Filters, limit: int = DEFAULT_LIMIT) -> list[Refusal]:
    """Rows by topic, partition, offset and event. Raises `SinkUnavailable`, `SinkRefused`."""
    looked = in_view(client, filters, limit)
    return [each for each in looked if not filters.state or each.state == filters.state]


def in_view(client: Client, filters: Filters, limit: int = DEFAULT_LIMIT) -> list[Refusal]:
    """The same, chosen by their state in the view: among the open ones are those `read_late`, which may have come."""
    asked = {
        "topic": filters.topic,
        "partition": filters.partition,
        "first_offset": filters.first_offset,
        "last_offset": (1 << 62) if filters.last_offset is None else filters.last_offset,
        "gateway": filters.gateway,
        "reason": filters.reason,
        "since_us": filters.since_us,
        "until_us": (1 << 62) if filters.until_us is None else filters.until_us,
        "state": filters.state,
        "limit": limit,
    }
    found = [_refusal(row) for row in query_rows(client, "list the quarantine", _LIST, asked)]
    return _second_look(client, found)


def _refusal(row: Mapping[str, Any]) -> Refusal:
    claims = Claims(row["claimed_gateway_id"], row["epoch"], row["first_sequence"], row["next_sequence"])
    names = ("topic", "partition", "offset", "event_index", "state", "reason", "detail", "gateway_id", "record_digest")
    return Refusal(
        **{name: row[name] for name in names},
        claims=claims,
        recorded_at_us=row["at_us"],
        again_offset=row["again_offset"],
        discard_reason=row["discard_reason"],
        discarded_by=row["discarded_by"],
        sequences_given_up=bool(row["sequences_given_up"]),
    )


def _second_look(client: Client, found: Sequence[Refusal]) -> list[Refusal]:
    """Records without claims that this release can read, with what they claim and whether it came again."""
    unread = [each for each in found if not each.claims.epoch and each.event_index == WHOLE and each.state == "open"]
    values = {record.place: record.value for record in records(client, [each.place for each in unread])}
    return [_read_again(client, each, values.get(each.place)) if each in unread else each for each in found]


def _read_again(client: Client, refusal: Refusal, value: bytes | None) -> Refusal:
    claims = claims_of(value or b"")
    if not claims.epoch:
        return refusal
    asked = {
        "topic": refusal.topic,
        "partition": refusal.partition,
        "offset": refusal.offset,
        "gateway": claims.gateway_id,
        "epoch": claims.epoch,
        "first": claims.first_sequence,
        "next": claims.next_sequence,
    }
    runs = query_rows(client, "look for a record that came again", _RUNS, asked)
    reached = claims.first_sequence
    for run in runs:
        if run["first_sequence"] <= reached:
            reached = max(reached, run["next_sequence"])
    came = bool(runs) and reached >= claims.next_sequence
    return replace(refusal, claims=claims, state="admitted" if came else refusal.state, read_late=True)


def records(client: Client, places: Iterable[Place]) -> list[RefusedRecord]:
    """The records at these places, each once, with key, headers and value. Raises `SinkUnavailable`, `SinkRefused`."""
    wanted = sorted(set(places))
    if not wanted:
        return []
    return [
        RefusedRecord(
            row["topic"],
            row["partition"],
            row["offset"],
            row["at_us"],
            bytes.fromhex(row["key_hex"]),
            tuple((name, bytes.fromhex(value)) for name, value in json.loads(row["headers"])),
            bytes.fromhex(row["raw_hex"]),
        )
        for row in query_rows(client, "read refused records", _RECORDS, {"places": wanted})
    ]


def reached(client: Client) -> dict[tuple[str, int], int]:
    """Where the newest checkpoint of each (topic, partition) is."""
    rows = query_rows(client, "read the checkpoints", _PROGRESS)
    return {(row["topic"], row["partition"]): row["reached"] for row in rows}


def effect_of(client: Client, place: Place) -> Effect:
    """What the record at a place did, once a checkpoint has passed it."""
    asked = dict(zip(("topic", "partition", "offset"), place, strict=True))
    (row,) = query_rows(client, "look what a record did", _EFFECT, asked)
    return Effect(row["facts"], tuple((index, reason) for index, reason in row["refused"]))


def utc(at_us: int) -> str:
    """An instant of microseconds UTC as ISO 8601."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
