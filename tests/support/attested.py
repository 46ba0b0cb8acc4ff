"""A gateway that attests, what a fold makes of its log, and the rows as a test may change them."""

from __future__ import annotations

from typing import Any

from gatemeter.producers.attestation import Attestor
from gatemeter.schemas.signing import OperatorKey
from gatemeter.sinks.reports.attested import AttestationKey, EpochCheck, Fact, Held, Place, Run, Statement, checked
from support.logs import TOPIC, Gateway, Log, build, new_fold, policy, request, response, run, standard_view

SECOND = 1_000_000
KEY = OperatorKey.generate("gw-a-att")
KEYS = {KEY.kid: AttestationKey("gw-a", KEY.public_hex)}
Rows = dict[str, list[dict[str, Any]]]


class World:
    """A gateway that sends five events in two batches, attests after each, and closes; and what a fold makes of it."""

    def __init__(self, *, lost: bool = False) -> None:
        self.view, self.log = build(standard_view()), Log()
        self.log.control(self.view)
        self.gateway = Gateway(self.log)
        self.attestor = Attestor(KEY, "gw-a", self.gateway.epoch, TOPIC)
        self.send([request("r-1", SECOND), response("r-1", 2 * SECOND)], 2 * SECOND)
        self.heartbeat(2 * SECOND)
        self.send([policy("r-1", 3 * SECOND, "d-1"), request("r-2", 3 * SECOND)], 3 * SECOND, lost=lost)
        self.send([response("r-2", 4 * SECOND)], 4 * SECOND)
        self.heartbeat(4 * SECOND, closed=True)

    def send(self, events: list[dict[str, Any]], at_us: int, *, lost: bool = False) -> None:
        for number, body in enumerate(self.gateway.bodies(events), self.gateway.sequence):
            self.attestor.add(0, number, body[-16:])
        if lost:
            self.gateway.sequence += len(events)
        else:
            self.gateway.send(events, at_us)

    def heartbeat(self, at_us: int, *, closed: bool = False) -> None:
        for attestation in self.attestor.envelopes(0, closing=closed):
            value = self.gateway.value([], self.gateway.sequence, at_us, attestation=attestation, closed=closed)
            self.log.append(value, self.gateway.headers(value), at_us)

    def rows(self) -> Rows:
        (output,) = run(new_fold({1: self.view}, columnar=True), self.log.records)
        assert output.checkpoint is not None
        tables = {name: table.to_pylist() for name, table in output.tables.items()}
        empty: Rows = {"usage_facts": [], "policy_facts": [], "attestations": []}
        return {**empty, **tables, "ingest_batches": [{**output.checkpoint, "written_at": 0}]}


def in_us(row: dict[str, Any]) -> dict[str, Any]:
    """Amounts and times of an Arrow row as `rows_to_arrow` takes them."""
    changed = dict(row)
    for name, value in row.items():
        if hasattr(value, "timestamp"):
            changed[name] = int(value.timestamp()) * SECOND + value.microsecond
        elif hasattr(value, "scaleb"):
            changed[name] = int(value.scaleb(12))
    return changed


def check(rows: Rows, keys: dict[str, AttestationKey] = KEYS) -> EpochCheck:
    """The check of the rows of one epoch and partition."""
    held = Held()
    for row in rows["gateway_epochs"]:
        held.runs.append(Run(row["first_sequence"], row["content_hashes"]))
    for row in map(in_us, rows["attestations"]):
        names = ("offset", "from_sequence", "to_sequence", "kid", "attestation", "signature", "recorded_at")
        held.statements.append(Statement(*(row[name] for name in names)))
    for row in rows["usage_facts"]:
        hashed = bytes.fromhex(row["response_hash"]) if row["has_response"] else None
        held.facts.append(Fact(row["sequence"], hashed, f"attempt {row['request_id']}/{row['attempt']}"))
    for row in rows["policy_facts"]:
        held.facts.append(Fact(row["sequence"], bytes.fromhex(row["content_hash"]), f"decision {row['decision_id']}"))
    epoch = rows["gateway_epochs"][0]
    return checked(Place(epoch["gateway_id"], epoch["epoch"], epoch["topic"], epoch["partition"]), held, keys)
