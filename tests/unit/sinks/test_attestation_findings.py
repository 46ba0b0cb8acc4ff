"""Attestations are checked with public keys alone: whoever changes a fact, an event or a statement is found out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from gatemeter.schemas import codec
from gatemeter.sinks.reports.attested import AttestationKey, without
from support.attested import KEY, SECOND, Rows, World, check
from support.logs import request, response


def test_what_was_attested_received_and_charged_agrees() -> None:
    rows = World().rows()
    rows["gateway_epochs"] *= 2  # a worker that was killed writes runs again
    found = check(rows)
    assert (found.problem, found.received, found.attested, found.statements, found.facts) == ("", 5, 5, 2, 3)
    assert (found.unattested, found.missing) == ((), ())


def test_what_a_dead_gateway_did_not_attest_is_listed() -> None:
    world = World()
    world.send([request("r-3", 5 * SECOND), response("r-3", 6 * SECOND)], 6 * SECOND)
    found = check(world.rows())
    assert (found.problem, found.unattested, found.attested, found.received) == ("", ((5, 7),), 5, 7)


def test_what_was_attested_and_never_came_is_listed() -> None:
    found = check(World(lost=True).rows())
    assert (found.problem, found.missing, found.missing_events) == ("", ((2, 4),), 2)
    assert (found.unattested, found.attested) == (((4, 5),), 2)


def test_a_gateway_without_a_key_is_unattested_as_a_whole() -> None:
    rows = World().rows()
    rows["attestations"] = []
    found = check(rows, {})
    assert (found.problem, found.unattested, found.statements) == ("", ((0, 5),), 0)


def swap(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def changed(rows: Rows, table: str, at: int, **changes: Callable[[Any], Any]) -> None:
    rows[table][at] = {**rows[table][at], **{name: change(rows[table][at][name]) for name, change in changes.items()}}


def test_a_changed_hash_of_a_fact_is_found() -> None:
    rows = World().rows()
    changed(rows, "usage_facts", 1, response_hash=lambda text: bytes(16).hex())
    assert "attempt r-2/1: its content hash 00000000000000000000000000000000 is not" in check(rows).problem


def test_a_changed_hash_of_a_decision_is_found() -> None:
    rows = World().rows()
    changed(rows, "policy_facts", 0, content_hash=lambda text: bytes(16).hex())
    assert "decision d-1: its content hash" in check(rows).problem


def test_a_fact_that_nobody_sent_is_found() -> None:
    rows = World().rows()
    rows["usage_facts"].append(
        {**rows["usage_facts"][0], "request_id": "made-up", "sequence": 5, "response_hash": "ab" * 16}
    )
    assert "attempt made-up/1: sequence 5 was never received" in check(rows).problem


def test_received_events_that_were_changed_together_with_their_fact_are_found_by_the_digest() -> None:
    rows = World().rows()
    rows["gateway_epochs"] = [
        {**row, "content_hashes": swap(row["content_hashes"], 16)} for row in rows["gateway_epochs"]
    ]
    flip = lambda text: swap(bytes.fromhex(text), 0).hex()  # noqa: E731
    changed(rows, "usage_facts", 0, response_hash=flip)
    problem = check(rows).problem
    assert "the attestation of [0, 2) at offset 2 has another digest than the events that were received" in problem


def test_two_contents_under_one_sequence_are_found() -> None:
    rows = World().rows()
    rows["gateway_epochs"] += [
        {**row, "content_hashes": swap(row["content_hashes"], 50)} for row in rows["gateway_epochs"]
    ]
    assert "sequence 3 was received with two contents" in check(rows).problem


def test_a_statement_with_another_signature_is_found() -> None:
    rows = World().rows()
    changed(rows, "attestations", 0, signature=lambda data: swap(data, 5))
    assert "does not have the signature of key id 'gw-a-att'" in check(rows).problem


def test_a_statement_signed_by_another_key_is_found() -> None:
    rows = World().rows()
    assert "is not a key of the gateway" in check(rows, {KEY.kid: AttestationKey("gw-b", KEY.public_hex)}).problem


def test_a_key_counts_while_it_is_valid() -> None:
    rows = World().rows()
    late = {KEY.kid: AttestationKey("gw-a", KEY.public_hex, valid_from_us=1 << 52)}
    assert "which was not valid when it came" in check(rows, late).problem


def test_a_statement_left_out_of_the_chain_is_found() -> None:
    rows = World().rows()
    del rows["attestations"][0]
    assert "does not follow the ones before it" in check(rows).problem


def test_two_statements_after_the_same_one_are_found() -> None:
    world = World()
    body = world.gateway.bodies([request("r-9", SECOND)])[0]
    digest = hashlib.blake2b(body[-16:], digest_size=32).digest()
    value = codec.decode(world.gateway.attestation(0, 1, events_digest=digest)).datum["attestation"]
    rows = world.rows()
    forged = {**rows["attestations"][0], "attestation": value, "signature": KEY.sign(value), "to_sequence": 1}
    rows["attestations"].append(forged)
    assert "both follow the same one" in check(rows).problem


def test_what_is_left_of_ranges() -> None:
    assert without([(0, 10)], [(0, 2), (2, 4), (6, 7)]) == [(4, 6), (7, 10)]
    assert without([(0, 3), (5, 8)], [(2, 6)]) == [(0, 2), (6, 8)]
    assert without([(0, 3)], []) == [(0, 3)]
    assert without([(4, 6)], [(0, 9)]) == []
