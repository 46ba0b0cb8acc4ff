"""A proof holds or is refused at a named step, with public keys only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from gatemeter.cli.verify_proof import verify
from gatemeter.schemas import codec, merkle
from gatemeter.schemas.proofs import FORMAT, ProofError, make_proof, verify_proof
from gatemeter.schemas.seals import leaf_body
from gatemeter.schemas.signing import OperatorKey
from support.facts import fact
from support.seals import SEALER, seal_datum

SEALERS = {SEALER.kid: SEALER.public_hex}


def proof(place: int = 2, count: int = 5, key: OperatorKey = SEALER) -> dict[str, Any]:
    bodies = [leaf_body("usage", fact(f"r{number}")) for number in range(count)]
    leaves = [merkle.leaf_hash(body) for body in bodies]
    value = codec.encode("Seal", seal_datum(0, leaves=count, leaves_root=merkle.root_of(leaves)))
    seal = {"kid": key.kid, "value": value.hex(), "signature": key.sign(value).hex()}
    made = make_proof("usage", bodies[place], place, merkle.inclusion_path(leaves, count, place), seal)
    copy: dict[str, Any] = json.loads(json.dumps(made))
    return copy


def test_a_proof_holds_with_the_public_key_and_says_what_is_proven() -> None:
    proven = verify_proof(proof(), SEALERS)
    assert (proven.kind, proven.leaf["request_id"], proven.leaf["charge"], proven.number) == ("usage", "r2", 33, 0)


def _changed(**changes: Any) -> dict[str, Any]:
    return proof() | changes


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (_changed(index=3), "the path does not lead from leaf 3"),
        (_changed(path=proof()["path"][:-1]), "the path does not lead"),
        (_changed(leaf=proof()["leaf"] | {"charge": 32}), "the leaf's fields do not give the leaf's bytes"),
        (_changed(leaf=proof()["leaf"] | {"charge": "33"}), "the leaf's fields cannot be encoded"),
        (_changed(leaf=proof()["leaf"] | {"more": 1}), "the leaf's fields are not those of 'usage'"),
        (_changed(kind="entry"), "kind: must be one of usage, decision, correction, got 'entry'"),
        (_changed(seal=proof()["seal"] | {"signature": "00" * 64}), "signature does not fit the public key 'sealer-1'"),
        (
            _changed(seal=proof(key=OperatorKey.generate("other"))["seal"]),
            "key 'other', which is not among the sealers",
        ),
        (_changed(leaf_body="zz"), "not a proof: ValueError"),
        ({}, "not a proof: KeyError"),
    ],
)
def test_a_change_is_refused_at_its_step(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ProofError, match=expected):
        verify_proof(changed, SEALERS)


def test_another_row_with_its_own_bytes_is_not_under_the_root() -> None:
    row = fact("r2", charge=32)
    other = _changed(leaf_body=leaf_body("usage", row).hex(), leaf=proof()["leaf"] | {"charge": 32})
    with pytest.raises(ProofError, match="the path does not lead from leaf 2 to the root of seal 0"):
        verify_proof(other, SEALERS)


@pytest.fixture
def command() -> Typer:
    application = Typer()
    application.command()(verify)
    return application


def write(folder: Path, content: Any, sealers: Any = SEALERS) -> list[str]:
    (folder / "proof.json").write_text(json.dumps(content))
    (folder / "sealers.json").write_text(json.dumps(sealers))
    return [str(folder / "proof.json"), "--sealers", str(folder / "sealers.json")]


def whole(**changes: Any) -> dict[str, Any]:
    return {"format": FORMAT, "gateway_id": "gw", "request_id": "r2", "proofs": [proof()], "open_hours": []} | changes


def test_the_command_says_what_is_proven_and_what_is_not(command: Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, write(tmp_path, whole(open_hours=["2026-03-01T13:00:00Z"])))
    assert done.exit_code == 0, done.output
    assert "proven: attempt 1 of request r2 (ok, openai gpt-4o), charge 33 x 10^-12 USD, is in seal 0" in done.output
    assert "not proven: what is posted in 2026-03-01T13:00:00Z" in done.output
    done = CliRunner().invoke(command, [*write(tmp_path, whole()), "--json"])
    assert json.loads(done.output)["proven"][0]["leaf"]["charge"] == 33


@pytest.mark.parametrize(
    ("content", "sealers", "expected"),
    [
        (whole(request_id="r3"), SEALERS, "error: proof 0 does not hold: it is of request 'r2' of gateway 'gw'"),
        (whole(proofs=[]), SEALERS, "error: format: must be gatemeter-proof-1 with at least one proof"),
        (whole(), {"sealer-1": "xy"}, "error: --sealers: key 'sealer-1' must be 64 hex digits"),
        (whole(), {}, "error: proof 0 does not hold: the seal is signed with key 'sealer-1'"),
        ([], SEALERS, "must be a JSON object"),
    ],
)
def test_the_command_fails_in_one_line(
    command: Typer, tmp_path: Path, content: Any, sealers: Any, expected: str
) -> None:
    done = CliRunner().invoke(command, write(tmp_path, content, sealers))
    assert done.exit_code == 1
    assert expected in done.output
    assert done.output.count("\n") == 1
