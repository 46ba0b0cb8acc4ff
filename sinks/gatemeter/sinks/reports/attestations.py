"""The check of attestations: what gateways signed against what was received and what became facts.

Nothing but the tables and public keys: each statement's signature and its place in the chain, its digest computed anew
from the content hashes of the events received, and each fact's hash against the event received under its sequence.
Facts and attestations count below the newest checkpoint, so a flush that is under way is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.schemas.signing import TICK_GATEWAY
from gatemeter.sinks.failures import FAILURES, sink_error
from gatemeter.sinks.reports.attested import AttestationKey, EpochCheck, Fact, Held, Place, Run, Statement, checked

__all__ = ["AttestationKey", "Attestations", "EpochCheck", "Place", "attestations", "keys_from"]


EVENTS_A_LOOK: Final = 2_000_000
"""Content hashes that are read at once; an epoch's partition is never divided."""


def keys_from(entries: Iterable[Mapping[str, Any]]) -> dict[str, AttestationKey]:
    """Keys by key id from entries {gateway_id, kid, public_key, valid_from, valid_to}; times as ISO 8601 text.

    Raises `ValueError`, `KeyError` or `TypeError` where an entry is not one.
    """
    return {
        str(entry["kid"]): AttestationKey(
            str(entry["gateway_id"]),
            bytes.fromhex(entry["public_key"]).hex(),
            _us(entry["valid_from"]),
            None if entry["valid_to"] is None else _us(entry["valid_to"]),
        )
        for entry in entries
    }


def _us(text: str) -> int:
    at = datetime.fromisoformat(text)
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + at.microsecond


@dataclass(frozen=True, slots=True)
class Attestations:
    """The check of a database. What is missing or unattested is listed and is no problem by itself."""

    epochs: tuple[EpochCheck, ...]

    @property
    def ok(self) -> bool:
        return not self.first_problem

    @property
    def first_problem(self) -> str:
        """The first thing that is wrong, with its epoch and partition; '' where nothing is."""
        return next((f"{check.place}: {check.problem}" for check in self.epochs if check.problem), "")

    @property
    def received(self) -> int:
        return sum(check.received for check in self.epochs)

    @property
    def attested(self) -> int:
        return sum(check.attested for check in self.epochs)

    @property
    def missing_events(self) -> int:
        return sum(check.missing_events for check in self.epochs)


def attestations(client: Client, keys: Mapping[str, AttestationKey]) -> Attestations:
    """Checks every epoch and partition. `keys`: public keys by key id. Raises `SinkUnavailable`, `SinkRefused`."""
    try:
        ends = _ends(client)
        checks = [
            checked(place, rows, keys)
            for chunk in _chunks(_places(client))
            for place, rows in _read(client, chunk, ends).items()
        ]
    except (*FAILURES, pa.ArrowException) as error:
        raise sink_error("check attestations", error) from error
    return Attestations(tuple(checks))


# -- reading

_PLACE: Final = "gateway_id, epoch, topic, partition"
_PLACES: Final = f"""
SELECT {_PLACE}, sum(events) FROM
(
    SELECT {_PLACE}, sum(next_sequence - first_sequence) AS events FROM gateway_epochs GROUP BY {_PLACE}
    UNION ALL SELECT {_PLACE}, toInt64(count()) FROM attestations GROUP BY {_PLACE}
    UNION ALL SELECT {_PLACE}, toInt64(count()) FROM usage_facts GROUP BY {_PLACE}
    UNION ALL SELECT {_PLACE}, toInt64(count()) FROM policy_facts GROUP BY {_PLACE}
    UNION ALL SELECT {_PLACE}, toInt64(count()) FROM evidence GROUP BY {_PLACE}
)
GROUP BY {_PLACE} ORDER BY {_PLACE}
"""
_BETWEEN: Final = (
    f"WHERE ({_PLACE}) >= ({{low0:String}}, {{low1:String}}, {{low2:String}}, {{low3:Int64}})"
    f" AND ({_PLACE}) <= ({{high0:String}}, {{high1:String}}, {{high2:String}}, {{high3:Int64}})"
    " AND gateway_id >= {low0:String} AND gateway_id <= {high0:String}"
)
_FACTS: Final = f"""
SELECT {_PLACE}, sequence, offset, has_response, unhex(response_hash) AS hash,
    concat('attempt ', request_id, '/', toString(attempt)) AS name FROM usage_facts {_BETWEEN}
UNION ALL
SELECT {_PLACE}, sequence, offset, true, unhex(content_hash), concat('decision ', decision_id)
FROM policy_facts {_BETWEEN}
UNION ALL
SELECT {_PLACE}, sequence, offset, true, unhex(content_hash), concat('evidence ', request_id, '/', toString(attempt))
FROM evidence {_BETWEEN}
"""
_RUNS: Final = f"SELECT {_PLACE}, first_sequence, content_hashes FROM gateway_epochs {_BETWEEN}"
_STATEMENTS: Final = (
    f"SELECT {_PLACE}, offset, from_sequence, to_sequence, kid, attestation, signature,"
    f" toUnixTimestamp64Micro(recorded_at) AS recorded_at FROM attestations {_BETWEEN}"
)


def _ends(client: Client) -> dict[tuple[str, int], int]:
    rows = client.query("SELECT topic, partition, max(next_offset) FROM ingest_batches GROUP BY topic, partition")
    return {(str(topic), int(partition)): int(end) for topic, partition, end in rows.result_rows}


def _places(client: Client) -> list[tuple[Place, int]]:
    """All places in order, with how much there is to read of each."""
    rows = client.query(_PLACES).result_rows
    places = [(Place(str(row[0]), str(row[1]), str(row[2]), int(row[3])), int(row[4])) for row in rows]
    return [(place, events) for place, events in places if place.gateway_id != TICK_GATEWAY]


def _chunks(places: Sequence[tuple[Place, int]]) -> Iterable[list[Place]]:
    chunk: list[Place] = []
    held = 0
    for place, events in places:
        if chunk and held + events > EVENTS_A_LOOK:
            yield chunk
            chunk, held = [], 0
        chunk.append(place)
        held += events
    if chunk:
        yield chunk


def _read(client: Client, chunk: list[Place], ends: Mapping[tuple[str, int], int]) -> dict[Place, Held]:
    """Facts first: what they need of the other tables was written before the checkpoint that `ends` tells of."""
    found = {place: Held() for place in chunk}
    asked: dict[str, Any] = {f"low{at}": value for at, value in enumerate(chunk[0])}
    asked |= {f"high{at}": value for at, value in enumerate(chunk[-1])}
    for place, row in _rows(client, _FACTS, asked):
        sequence, offset, has_response, hashed, name = row
        if offset < ends.get(place[2:], 0) and place in found:
            found[place].facts.append(Fact(sequence, hashed if has_response else None, name.decode()))
    for place, (offset, first, after, kid, value, signature, at_us) in _rows(client, _STATEMENTS, asked):
        if offset < ends.get(place[2:], 0) and place in found:
            statement = Statement(offset, first, after, kid.decode(), value, signature, at_us)
            found[place].statements.append(statement)
    for place, (first, hashes) in _rows(client, _RUNS, asked):
        if place in found:
            found[place].runs.append(Run(first, hashes))
    return found


def _rows(client: Client, query: str, asked: dict[str, Any]) -> Iterator[tuple[Place, tuple[Any, ...]]]:
    """Rows of a query whose first columns are a place; text as bytes."""
    table = client.query_arrow(query, asked, use_strings=False)
    if not table.num_rows:
        return
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        gateway_id, epoch, topic, partition, *rest = row
        yield Place(gateway_id.decode(), epoch.decode(), topic.decode(), partition), tuple(rest)
