"""Rows that say what happened beside the facts: `quarantine`, `exceptions` and `gateway_epochs`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gatemeter.processors.fold.facts import Source
from gatemeter.processors.fold.partition_state import PartitionState
from gatemeter.processors.fold.state import EpochKey
from gatemeter.processors.fold.types import LogRecord, Row
from gatemeter.schemas.claims import Claims


def record_digest(value: bytes) -> str:
    """BLAKE2b-256 of a record's value, hex: how operators name a record by its bytes."""
    return hashlib.blake2b(value, digest_size=32).hexdigest()


def quarantine(
    state: PartitionState,
    record: LogRecord,
    index: int,
    wrong: tuple[str, str],
    gateway_id: str,
    claims: Claims,
    *,
    with_raw: bool,
) -> None:
    """One row of `quarantine`; the raw record stands in the row of its lowest index."""
    state.rows.add(
        "quarantine",
        {
            "topic": state.topic,
            "partition": state.partition,
            "offset": record.offset,
            "event_index": index,
            "reason": wrong[0],
            "detail": wrong[1],
            "gateway_id": gateway_id,
            "recorded_at": record.timestamp_us,
            "key": record.key or b"",
            "headers": json.dumps([[name, value.hex()] for name, value in record.headers]),
            "record_digest": record_digest(record.value),
            "claimed_gateway_id": claims.gateway_id,
            "epoch": claims.epoch,
            "first_sequence": claims.first_sequence,
            "next_sequence": claims.next_sequence,
            "raw": record.value if with_raw else b"",
        },
    )


def exception(event: Mapping[str, Any], index: int, source: Source, kind: str, raw: bytes) -> Row:
    """One row of `exceptions`."""
    detail = {
        "event": event["kind"],
        "usage_revision": event["usage_revision"],
        "content_hash": event["content_hash"].hex(),
        "request_started_at_us": event["request_started_at"],
        "decision_id": event["decision_id"],
    }
    return {
        "topic": source.topic,
        "partition": source.partition,
        "offset": source.offset,
        "event_index": index,
        "kind": kind,
        "gateway_id": source.gateway_id,
        "request_id": event["request_id"],
        "attempt": event["attempt"],
        "recorded_at": source.recorded_at_us,
        "detail": json.dumps(detail, sort_keys=True),
        "raw": raw,
        "first_offset": None,
        "first_raw": b"",
    }


def epoch_row(
    state: PartitionState,
    key: EpochKey,
    run: tuple[int, int],
    details: Mapping[str, Any],
    recorded_at_us: int,
    first_offset: int,
    content_hashes: bytes,
) -> Row:
    """One row of `gateway_epochs`: a run of sequences [first, after) received, and what its last record announced.

    `first_offset`: of the run's first record. Its records come one after the other, so what the run holds came at this
    offset or later, and a sequence is in it once.

    `details`: emitted, spooled, dropped and closed. `content_hashes`: of all events of the run, settled or not, in
    order of sequence, 16 bytes each.
    """
    first, after = run
    return {
        "gateway_id": key[0],
        "epoch": key[1],
        "topic": state.topic,
        "partition": state.partition,
        "first_sequence": first,
        "next_sequence": after,
        "heartbeat_sequence": after,
        **details,
        "recorded_at": recorded_at_us,
        "first_offset": first_offset,
        "content_hashes": content_hashes,
    }
