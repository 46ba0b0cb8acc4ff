"""What a batch attests becomes a row where it speaks of its own place, else an exception; the batch counts anyway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.processors.fold.types import LogRecord
from gatemeter.schemas import codec
from support.logs import ATTESTER, Gateway, Log, build, collapse, new_fold, request, run, standard_view

SECOND = 1_000_000
BOTH = pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])


class World:
    """One gateway with two events in the log, and heartbeats that carry what a test says."""

    def __init__(self, columnar: bool) -> None:
        self.view, self.log = build(standard_view()), Log()
        self.log.control(self.view)
        self.gateway = Gateway(self.log)
        self.gateway.send([request("r-1", SECOND), request("r-2", SECOND)], SECOND)
        self.columnar = columnar

    def heartbeat(self, attestation: bytes, at_us: int = 2 * SECOND) -> LogRecord:
        value = self.gateway.value([], self.gateway.sequence, at_us, attestation=attestation)
        return self.log.append(value, self.gateway.headers(value), at_us)

    def fold(self) -> dict[str, list[dict[str, Any]]]:
        outputs = run(new_fold({1: self.view}, columnar=self.columnar), self.log.records)
        assert outputs[-1].checkpoint is not None
        assert outputs[-1].checkpoint["records_quarantined"] == 0
        return {table: list(rows.values()) for table, rows in collapse(outputs).items()}


@BOTH
def test_an_attestation_is_kept_with_its_bytes_and_place(columnar: bool) -> None:
    world = World(columnar)
    record = world.heartbeat(world.gateway.attestation(0, 2))
    (row,) = world.fold()["attestations"]
    assert (row["gateway_id"], row["epoch"], row["partition"]) == ("gw-a", world.gateway.epoch, 0)
    assert (row["from_sequence"], row["to_sequence"], row["offset"]) == (0, 2, record.offset)
    assert row["kid"] == ATTESTER.kid
    assert row["signature"] == ATTESTER.sign(row["attestation"])
    assert codec.decode(row["attestation"]).datum["to_sequence"] == 2


@BOTH
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"gateway_id": "gw-b"}, "gateway_id must be the batch's, 'gw-a', got 'gw-b'"),
        ({"epoch": "1-1-0000000000000001"}, "epoch must be the batch's"),
        ({"topic": "other"}, "topic must be the batch's"),
        ({"partition": 3}, "partition must be the batch's, 0, got 3"),
        ({"to_sequence": 3}, "within 0 to 2, where the batch ends, got 0 and 3"),
        ({"from_sequence": -1}, "got -1 and 2"),
        ({"from_sequence": 2, "to_sequence": 1}, "got 2 and 1"),
    ],
)
def test_an_attestation_of_another_place_is_an_exception(columnar: bool, changed: Any, reason: str) -> None:
    world = World(columnar)
    record = world.heartbeat(world.gateway.attestation(0, 2, **changed))
    tables = world.fold()
    (row,) = tables["exceptions"]
    assert tables["attestations"] == []
    assert (row["kind"], row["offset"], row["event_index"]) == ("bad_attestation", record.offset, -1)
    assert reason in json.loads(row["detail"])["reason"]
    assert row["raw"] == record.value


@BOTH
@pytest.mark.parametrize("value", [b"", b"\xc3\x01nothing", "other"])
def test_bytes_that_are_no_attestation_are_an_exception(columnar: bool, value: Any) -> None:
    world = World(columnar)
    if value == "other":
        inner = codec.decode(world.gateway.attestation(0, 2)).datum
        value = codec.encode(
            "AttestationEnvelope", {**inner, "attestation": codec.encode("AttestationEnvelope", inner)}
        )
    world.heartbeat(value)
    tables = world.fold()
    assert [row["kind"] for row in tables["exceptions"]] == ["bad_attestation"]
    assert tables["attestations"] == []


@BOTH
def test_an_expired_epoch_attests_nothing(columnar: bool) -> None:
    world = World(columnar)
    value = world.gateway.value([], 2, 0, attestation=world.gateway.attestation(0, 2))
    world.log.append(value, world.gateway.headers(value), 40 * 86_400 * SECOND)
    outputs = run(new_fold({1: world.view}, columnar=columnar), world.log.records)
    assert [row["reason"] for row in collapse(outputs)["quarantine"].values()] == ["epoch_expired"]
    assert not collapse(outputs)["attestations"]
