"""Attestations of gateways: the fold notes what a batch carries; who signed it, and whether it is true, audits check.

A row says only that an authentic batch of the epoch carried these bytes and that they speak of the place where they
were found. The signature is checked with public keys by whoever audits (`sinks.reports.attestations`), so that nobody
has to believe a worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.processors.fold.partition_state import PartitionState
from gatemeter.processors.fold.state import EpochKey
from gatemeter.processors.fold.types import LogRecord
from gatemeter.schemas import codec

MAX_KID_LENGTH: Final = 64
SIGNATURE_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Attested:
    """The attestation that one batch carries. `after`: the first sequence behind the batch."""

    record: LogRecord
    key: EpochKey
    after: int
    value: bytes


def take_attestation(state: PartitionState, attested: Attested) -> None:
    """One row of `attestations`, or an exception `bad_attestation`; the batch itself counts in any case."""
    try:
        envelope = _decoded(attested.value, "AttestationEnvelope")
        statement = _decoded(envelope["attestation"], "Attestation")
    except codec.CodecError as error:
        _refuse(state, attested, str(error))
        return
    wrong = _problem(envelope, statement, attested, (state.topic, state.partition))
    if wrong:
        _refuse(state, attested, wrong)
        return
    state.rows.add(
        "attestations",
        {
            "gateway_id": attested.key[0],
            "epoch": attested.key[1],
            "topic": state.topic,
            "partition": state.partition,
            "from_sequence": statement["from_sequence"],
            "to_sequence": statement["to_sequence"],
            "kid": envelope["kid"],
            "attestation": envelope["attestation"],
            "signature": envelope["signature"],
            "offset": attested.record.offset,
            "recorded_at": attested.record.timestamp_us,
        },
    )


def _decoded(value: bytes, name: str) -> Mapping[str, Any]:
    decoded = codec.decode(value)
    if decoded.name != name:
        raise codec.CodecError("wrong_schema", f"expected {name}, got {decoded.name}")
    return decoded.datum


def _problem(
    envelope: Mapping[str, Any], statement: Mapping[str, Any], attested: Attested, place: tuple[str, int]
) -> str:
    """What does not fit the batch or the ranges; '' where all does."""
    if not 1 <= len(envelope["kid"]) <= MAX_KID_LENGTH:
        return f"kid must have 1 to {MAX_KID_LENGTH} characters, got {len(envelope['kid'])}"
    if len(envelope["signature"]) != SIGNATURE_LENGTH:
        return f"signature must have {SIGNATURE_LENGTH} bytes, got {len(envelope['signature'])}"
    expected = dict(zip(("gateway_id", "epoch", "topic", "partition"), (*attested.key, *place), strict=True))
    for name, value in expected.items():
        if statement[name] != value:
            return f"{name} must be the batch's, {value!r}, got {statement[name]!r}"
    if not 0 <= statement["from_sequence"] <= statement["to_sequence"] <= attested.after:
        return (
            f"from_sequence and to_sequence must be in order and within 0 to {attested.after}, where the batch ends,"
            f" got {statement['from_sequence']} and {statement['to_sequence']}"
        )
    return ""


def _refuse(state: PartitionState, attested: Attested, wrong: str) -> None:
    state.rows.add(
        "exceptions",
        {
            "topic": state.topic,
            "partition": state.partition,
            "offset": attested.record.offset,
            "event_index": -1,
            "kind": "bad_attestation",
            "gateway_id": attested.key[0],
            "request_id": "",
            "attempt": 0,
            "recorded_at": attested.record.timestamp_us,
            "detail": json.dumps({"epoch": attested.key[1], "reason": wrong}, sort_keys=True),
            "raw": attested.record.value,
            "first_offset": None,
            "first_raw": b"",
        },
    )
