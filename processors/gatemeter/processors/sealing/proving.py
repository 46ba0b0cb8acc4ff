"""Makes the proofs of a request: its sealed rows, the places of their leaves, and the paths to the roots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.runs import commit_of, staged_rows
from gatemeter.processors.sealing.encoding import avro_bodies
from gatemeter.processors.sealing.hours import utc
from gatemeter.schemas import merkle
from gatemeter.schemas.proofs import FORMAT, make_proof
from gatemeter.schemas.seals import LEAF_SCHEMAS, leaf_body, leaf_fields
from gatemeter.sinks.failures import FAILURES, sink_error

_FACTS: Final = {"usage": "usage_facts", "decision": "policy_facts"}
_KEY: Final = {
    "usage": ("request_id", "attempt", "response_hash"),
    "decision": ("decision_id", "0", "content_hash"),
}


class NoProof(Exception):
    """There is nothing to prove, or what there is does not fit the seals; one line."""


@dataclass(frozen=True, slots=True)
class _Row:
    kind: str
    posted_hour_us: int
    key: tuple[str, str, int, str]  # of its leaf: gateway, request | decision | run, attempt | entry, hash
    body: bytes


def proofs_of(client: Client, request_id: str, gateway_id: str = "") -> dict[str, Any]:
    """The proofs of everything sealed about a request, ready for JSON; `open`: rows whose hour is not sealed yet.

    `gateway_id` may be '' where only one gateway knows the request. Raises `NoProof`, `SinkUnavailable`, `SinkRefused`.
    """
    gateway_id = gateway_id or _gateway_of(client, request_id)
    rows = [*_facts(client, "usage", gateway_id, request_id), *_facts(client, "decision", gateway_id, request_id)]
    rows += _corrections(client, gateway_id, [row.key[1] for row in rows] or [request_id])
    if not rows:
        raise NoProof(f"request {request_id!r} of gateway {gateway_id!r} is not known")
    seals = _seals(client, {row.posted_hour_us for row in rows})
    proofs = [
        _proof(client, row, seals[row.posted_hour_us])
        for row in sorted(rows, key=lambda row: (row.posted_hour_us, row.kind, row.key))
        if row.posted_hour_us in seals
    ]
    waiting = sorted({utc(row.posted_hour_us) for row in rows if row.posted_hour_us not in seals})
    if not proofs:
        raise NoProof(f"request {request_id!r} is posted in {', '.join(waiting)}, which is not sealed yet")
    return {
        "format": FORMAT,
        "gateway_id": gateway_id,
        "request_id": request_id,
        "proofs": proofs,
        "open_hours": waiting,
    }


def _gateway_of(client: Client, request_id: str) -> str:
    query = (
        "SELECT DISTINCT gateway_id FROM usage_facts WHERE request_id = {request:String}"
        " UNION DISTINCT SELECT DISTINCT gateway_id FROM policy_facts WHERE request_id = {request:String}"
    )
    found = sorted(str(row[0]) for row in _rows(client, query, {"request": request_id}))
    if not found:
        raise NoProof(f"request {request_id!r} is not known")
    if len(found) > 1:
        raise NoProof(f"request {request_id!r} is known of gateways {', '.join(found)}: name one with --gateway")
    return found[0]


def _facts(client: Client, kind: str, gateway_id: str, request_id: str) -> list[_Row]:
    columns = ", ".join(f"`{name}`" for name in leaf_fields(kind))
    query = (
        f"SELECT {columns} FROM {_FACTS[kind]} FINAL"
        " WHERE gateway_id = {gateway:String} AND request_id = {request:String}"
    )
    try:
        found = client.query_arrow(query, {"gateway": gateway_id, "request": request_id}, use_strings=False)
    except (*FAILURES, pa.ArrowException) as error:
        raise sink_error(f"read the {kind} of a request", error) from error
    bodies = avro_bodies(LEAF_SCHEMAS[kind], found).to_pylist()
    name, attempt, fact_hash = _KEY[kind]
    hours = found.column("posted_hour").cast(pa.int64()).to_pylist()
    attempts = found.column(attempt).to_pylist() if kind == "usage" else [0] * found.num_rows
    names, hashes = found.column(name).to_pylist(), found.column(fact_hash).to_pylist()
    return [
        _Row(kind, hour_us, (gateway_id, key.decode(), number, fact.decode()), body)
        for hour_us, key, number, fact, body in zip(hours, names, attempts, hashes, bodies, strict=True)
    ]


def _corrections(client: Client, gateway_id: str, keys: Sequence[str]) -> list[_Row]:
    query = (
        "SELECT DISTINCT run_id FROM corrections WHERE kind = 'replace' AND gateway_id = {gateway:String}"
        " AND request_id IN {keys:Array(String)}"
    )
    rows = []
    for (run_id,) in _rows(client, query, {"gateway": gateway_id, "keys": list(dict.fromkeys(keys))}):
        commit = commit_of(client, run_id)
        for row in staged_rows(client, run_id) if commit else ():
            if row.gateway_id == gateway_id and row.request_id in keys:
                hour_us = commit.posted_hour_us if commit else 0
                body = leaf_body("correction", asdict(row))
                rows.append(_Row("correction", hour_us, ("", run_id, row.entry, ""), body))
    return rows


def _seals(client: Client, hours_us: set[int]) -> dict[int, Mapping[str, Any]]:
    query = (
        "SELECT toUnixTimestamp64Micro(posted_hour) AS hour_us, seal_id, number, leaves, kid, hex(value) AS value,"
        " hex(signature) AS signature FROM seals FINAL"
        " WHERE toUnixTimestamp64Micro(posted_hour) IN {hours:Array(Int64)}"
    )
    try:
        found = client.query(query, {"hours": sorted(hours_us)}).named_results()
        return {row["hour_us"]: row for row in found}
    except FAILURES as error:
        raise sink_error("read the seals of a request", error) from error


def _proof(client: Client, row: _Row, seal: Mapping[str, Any]) -> dict[str, Any]:
    asked = {
        "seal": seal["seal_id"],
        "hour": row.posted_hour_us,
        "kind": row.kind,
        "gateway": row.key[0],
        "key": row.key[1],
        "attempt": row.key[2],
        "hash": row.key[3],
    }
    of_seal = "posted_hour = fromUnixTimestamp64Micro({hour:Int64}, 'UTC') AND seal_id = {seal:String}"
    query = (
        f"SELECT leaf_index, hex(leaf) FROM seal_leaves FINAL WHERE {of_seal} AND kind = {{kind:String}}"
        " AND gateway_id = {gateway:String} AND request_id = {key:String} AND attempt = {attempt:Int64}"
        " AND hash = {hash:String}"
    )
    found = _rows(client, query, asked)
    if not found or bytes.fromhex(found[0][1]) != merkle.leaf_hash(row.body):
        raise NoProof(f"{row.kind} {row.key[1]!r} is not what seal {seal['number']} holds: run gatemeter audit")
    index = int(found[0][0])
    try:
        path = merkle.inclusion_path(_leaves(client, of_seal, asked), int(seal["leaves"]), index)
    except ValueError as error:
        raise NoProof(f"the leaves of seal {seal['number']} are not complete ({error}): run gatemeter audit") from error
    signed = {"kid": seal["kid"], "value": seal["value"].lower(), "signature": seal["signature"].lower()}
    return make_proof(row.kind, row.body, index, path, signed)


def _leaves(client: Client, of_seal: str, asked: Mapping[str, Any]) -> Iterator[bytes]:
    query = f"SELECT leaf FROM seal_leaves FINAL WHERE {of_seal} ORDER BY leaf_index"
    try:
        with client.query_arrow_stream(query, dict(asked), use_strings=False) as batches:
            for batch in batches:
                yield from batch.column(0).to_pylist()
    except FAILURES as error:
        raise sink_error("read the leaves of a seal", error) from error


def _rows(client: Client, query: str, asked: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    try:
        return client.query(query, dict(asked)).result_rows
    except FAILURES as error:
        raise sink_error("read what is known of a request", error) from error
