"""Records of operators in a partition: what each does to the state, and the rows that say who did what, and why.

The clock has been moved and the record counted before (`take_control`). All rows are functions of the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gatemeter.processors.admission import Operated
from gatemeter.processors.fold.partition_state import PartitionState
from gatemeter.processors.fold.types import HOUR_US, Row
from gatemeter.processors.metadata.log import MetadataLog, Published
from gatemeter.processors.metadata.records import id_of

OFFSET_LIMIT: Final = 1 << 40


def take(state: PartitionState, step: Operated, view_offset: int, metadata: MetadataLog) -> None:
    """One valid record of an operator; `view_offset` is the view in force before it."""
    if step.name == "Discard":
        _discard(state, step)
    elif step.name == "Commit":
        _commit(state, step)
    if state.decisions.replaying:
        return  # nothing is written
    state.rows.add("operator_log", _log_row(state, step))
    if step.view is not None and state.partition == 0:
        for record in metadata.published(view_offset, step.view.offset):
            state.rows.add("operator_log", _metadata_row(step, record, metadata.topic))


def _discard(state: PartitionState, step: Operated) -> None:
    """The holes count as settled, under any view. What is settled already stays as it is."""
    datum = step.datum
    if datum["next_sequence"] > datum["first_sequence"]:
        key = (datum["gateway_id"], datum["epoch"])
        state.epochs.discard(key, datum["first_sequence"], datum["next_sequence"], state.clock.log_time_us)
    names = ("offset", "event_index", "gateway_id", "epoch", "first_sequence", "next_sequence", "reason")
    state.rows.add(
        "quarantine_discards",
        {
            "topic": state.topic,
            "partition": state.partition,
            **{name: datum[name] for name in names},
            "kid": step.kid,
            "discard_offset": step.record.offset,
            "recorded_at": step.record.timestamp_us,
        },
    )


def _commit(state: PartitionState, step: Operated) -> None:
    """Every COMMIT is a row; of a run the first one counts, because it has the greatest version."""
    datum, floor = step.datum, state.clock.posting_floor_us
    state.rows.add(
        "commits",
        {
            "run_id": datum["run_id"],
            "version": OFFSET_LIMIT - 1 - step.record.offset,
            "rows_digest": datum["rows_digest"].hex(),
            "entries": datum["entries"],
            "cause": datum["cause"],
            "reason": datum["reason"],
            "posted_hour": floor - floor % HOUR_US,
            "kid": step.kid,
            "topic": state.topic,
            "partition": state.partition,
            "offset": step.record.offset,
            "recorded_at": step.record.timestamp_us,
        },
    )


def _log_row(state: PartitionState, step: Operated) -> Row:
    return {
        "topic": state.topic,
        "partition": state.partition,
        "offset": step.record.offset,
        "at": step.record.timestamp_us,
        "kid": step.kid,
        "act": step.name.lower(),
        "subject": _subject(step),
        "reason": step.datum["reason"],
        "detail": _json(step.datum),
    }


def _subject(step: Operated) -> str:
    if step.name == "Discard":
        return f"{step.datum['offset']}:{step.datum['event_index']}"
    if step.name == "Admit":
        return str(step.datum["record_digest"].hex())
    return str(step.datum["metadata_offset" if step.name == "Control" else "run_id"])


def _metadata_row(step: Operated, record: Published, topic: str) -> Row:
    """A change of keys, rates, tenants or plans, where it comes into force in the partition that speaks for all."""
    return {
        "topic": topic,
        "partition": 0,
        "offset": record.offset,
        "at": record.at_us or step.record.timestamp_us,
        "kid": record.kid,
        "act": record.record.name,
        "subject": id_of(record.record),
        "reason": step.datum["reason"],
        "detail": _json(record.record.datum),
    }


def _json(datum: Mapping[str, Any]) -> str:
    return json.dumps(datum, sort_keys=True, default=bytes.hex)
