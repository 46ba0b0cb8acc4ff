"""Rows as leaves of a seal's tree: what identifies each, and its hash.

Leaves are in binary order of (kind, gateway, request | decision | run, attempt | entry, hash). Of a correction the run
stands for the request and the entry for the attempt; a decision's attempt is 0, its key is the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from gatemeter.processors.sealing.encoding import avro_bodies
from gatemeter.schemas import merkle
from gatemeter.schemas.seals import LEAF_SCHEMAS, leaf_body

KINDS: Final = ("correction", "decision", "usage")
"""In the order of their leaves."""

_HASH_COLUMN: Final = {"usage": "response_hash", "decision": "content_hash"}
_ID_COLUMN: Final = {"usage": "request_id", "decision": "decision_id"}

LEAF_COLUMNS: Final = ("kind", "gateway_id", "request_id", "attempt", "hash", "leaf")
_SCHEMA: Final = pa.schema(
    [
        ("kind", pa.large_string()),
        ("gateway_id", pa.large_binary()),
        ("request_id", pa.large_binary()),
        ("attempt", pa.int64()),
        ("hash", pa.large_binary()),
        ("leaf", pa.large_binary()),
    ]
)


def fact_leaves(kind: str, rows: pa.Table) -> pa.Table:
    """Leaves by `LEAF_COLUMNS` of rows of usage_facts (`usage`) or policy_facts (`decision`), in their order."""
    bodies = avro_bodies(LEAF_SCHEMAS[kind], rows).to_pylist()
    attempts = rows.column("attempt") if kind == "usage" else pa.nulls(rows.num_rows, pa.int64()).fill_null(0)
    return _leaves(
        kind,
        rows.column("gateway_id"),
        rows.column(_ID_COLUMN[kind]),
        attempts,
        rows.column(_HASH_COLUMN[kind]),
        bodies,
    )


def correction_leaves(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Leaves of rows of `corrections` (plain values, amounts in pico), in the order of run and entry."""
    bodies = [leaf_body("correction", row) for row in rows]
    empty = pa.array([""] * len(rows), pa.large_string())
    runs = pa.array([row["run_id"] for row in rows], pa.large_string())
    entries = pa.array([row["entry"] for row in rows], pa.int64())
    return _leaves("correction", empty, runs, entries, empty, bodies)


def _leaves(kind: str, gateways: Any, requests: Any, attempts: Any, hashes: Any, bodies: list[bytes]) -> pa.Table:
    leaves = [merkle.leaf_hash(body) for body in bodies]
    columns = [[kind] * len(leaves), gateways, requests, attempts, hashes, leaves]
    arrays = [
        pa.array(column, field.type) if isinstance(column, list) else column.cast(field.type)
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=_SCHEMA)
