"""Rows of the tables that sealing writes, from seals, closes, leaves, entries and what contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from gatemeter.processors.sealing.chain import ClosedPeriod, Seal
from gatemeter.schemas.codec import decode
from gatemeter.sinks.arrow import arrow_schema, frame_to_arrow, rows_to_arrow


def seal_rows(seals: Sequence[Seal]) -> pa.Table:
    """Rows of `seals`."""
    return rows_to_arrow(
        "seals",
        [
            {
                "number": seal.number,
                "seal_id": seal.seal_id.hex(),
                "previous": seal.previous.hex(),
                "posted_hour": seal.posted_hour_us,
                "leaves": seal.leaves,
                "leaves_root": seal.leaves_root.hex(),
                "entries": seal.entries,
                "entries_root": seal.entries_root.hex(),
                "open_period": seal.open_period,
                "kid": seal.kid,
                "value": seal.value,
                "signature": seal.signature,
                "offset": seal.offset,
                "sealed_at": seal.sealed_at_us,
            }
            for seal in seals
        ],
    )


def close_rows(closes: Sequence[ClosedPeriod]) -> pa.Table:
    """Rows of `closed_periods`."""
    return rows_to_arrow(
        "closed_periods",
        [
            {
                "period": close.period,
                "after_seal": close.after,
                "open_points": close.open_points,
                "kid": close.kid,
                "reason": close.reason,
                "offset": close.offset,
                "closed_at": close.issued_at_us,
            }
            for close in closes
        ],
    )


def operator_log_rows(closes: Sequence[ClosedPeriod], topic: str) -> pa.Table:
    """Rows of `operator_log` for closes."""
    return rows_to_arrow(
        "operator_log",
        [
            {
                "topic": topic,
                "partition": 0,
                "offset": close.offset,
                "at": close.issued_at_us,
                "kid": close.kid,
                "act": "close_period",
                "subject": close.period,
                "reason": close.reason,
                "detail": json.dumps(decode(close.value).datum, sort_keys=True),
            }
            for close in closes
        ],
    )


def ledger_table(entries: pl.DataFrame, seal_id: str, first_entry: int) -> pa.Table:
    """Entries (columns `ENTRIES`) as rows of `ledger`, numbered from `first_entry`."""
    numbered = entries.with_columns(
        seal_id=pl.lit(seal_id), entry=pl.int_range(first_entry, first_entry + pl.len(), dtype=pl.Int64)
    )
    return frame_to_arrow("ledger", numbered)


def seal_leaves_table(leaves: pa.Table, seal_id: str, hour_us: int, first_index: int) -> pa.Table:
    """Leaves (`LEAF_COLUMNS`) as rows of `seal_leaves`, numbered from `first_index`."""
    schema = arrow_schema("seal_leaves")
    count = leaves.num_rows
    own = {
        "seal_id": pa.array([seal_id] * count, pa.large_string()),
        "posted_hour": pa.array([hour_us] * count, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "leaf_index": pa.array(range(first_index, first_index + count), pa.int64()),
    }
    arrays = [own[name] if name in own else leaves.column(name).cast(schema.field(name).type) for name in schema.names]
    return pa.table(arrays, schema=schema)


def exception_rows(seal: Seal, found: Sequence[Mapping[str, Any]], topic: str, first_number: int) -> pa.Table:
    """Rows of `exceptions` for what the reader found contradicting itself in a seal's hour, numbered in order."""
    rows: list[dict[str, Any]] = []
    for item in found:
        for kind, detail in _contradictions(item):
            rows.append(
                {
                    "topic": topic,
                    "partition": 0,
                    "offset": seal.number,
                    "event_index": first_number + len(rows),
                    "kind": kind,
                    "gateway_id": item["gateway_id"],
                    "request_id": item["request_id"],
                    "attempt": item["attempt"],
                    "recorded_at": item["recorded_us"],
                    "detail": json.dumps(detail | {"seal_id": seal.seal_id.hex()}, sort_keys=True),
                    "raw": b"",
                    "first_offset": None,
                    "first_raw": b"",
                }
            )
    return rows_to_arrow("exceptions", rows)


def _contradictions(item: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if "run_id" in item:
        names = ("target", "run_id", "entry", "corrected_hash", "true_hash")
        return [("correction_superseded", {name: item[name] for name in names})]
    if len(item["starts"]) > 1:
        found.append(("start_mismatch", {"request_started_at": list(item["starts"])}))
    if item["hashes"]:
        found.append(("content_conflict", {"response_hashes": list(item["hashes"])}))
    return found
