"""The proof of a request out of ClickHouse holds offline; what is not sealed or was changed has none."""

from __future__ import annotations

import json

import pytest

from gatemeter.processors.sealing.proving import NoProof, proofs_of
from gatemeter.schemas.proofs import verify_proof
from support.facts import decision, fact
from support.sealing import TRUSTED, Hours, replacement


def test_every_sealed_row_of_a_request_is_proven_and_open_hours_are_named(hours: Hours) -> None:
    hours.usage(*(fact(f"r{number}") for number in range(20)), fact("r7", 2, posted=1, used=0))
    hours.decisions(decision("d", "r7"), decision("e", "r8"))
    hours.correct(0, replacement("r7"))
    hours.over(0)
    hours.seal()
    found = json.loads(json.dumps(proofs_of(hours.client, "r7")))
    assert (found["gateway_id"], found["open_hours"]) == ("gw", ["2026-03-01T13:00:00Z"])
    proven = [verify_proof(entry, TRUSTED.sealers) for entry in found["proofs"]]
    assert [each.kind for each in proven] == ["correction", "decision", "usage"]
    assert [each.leaf["charge"] for each in proven] == [7, 6, 33]
    hours.over(1)
    hours.seal()
    later = proofs_of(hours.client, "r7", "gw")
    assert [verify_proof(entry, TRUSTED.sealers).number for entry in later["proofs"]] == [0, 0, 0, 1]


def test_what_has_no_proof_says_why(hours: Hours) -> None:
    hours.usage(fact("r"), fact("both"), fact("both", gateway_id="other"))
    with pytest.raises(NoProof, match="request 'r' is posted in 2026-03-01T12:00:00Z, which is not sealed yet"):
        proofs_of(hours.client, "r")
    with pytest.raises(NoProof, match="request 'x' is not known"):
        proofs_of(hours.client, "x")
    with pytest.raises(NoProof, match="known of gateways gw, other: name one with --gateway"):
        proofs_of(hours.client, "both")
    hours.over(0)
    hours.seal()
    assert len(proofs_of(hours.client, "both", "other")["proofs"]) == 1
    hours.usage(fact("r", tenant_id="umbrella", version=(1 << 63) + 1))
    with pytest.raises(NoProof, match="usage 'r' is not what seal 0 holds: run gatemeter audit"):
        proofs_of(hours.client, "r")
