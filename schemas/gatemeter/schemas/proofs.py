"""Proofs that a row was sealed, checked with public keys alone: no Kafka, no ClickHouse, nothing but the file.

A proof holds what the leaf says, the nodes from the leaf to the root, and the seal as it was signed. It proves that the
sealer signed an hour with exactly this row in it. It does not prove that the seal is part of the chain that others see
(compare its id with an anchor), nor that the gateway said so (that is what attestations are for).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.schemas import codec, merkle, signing
from gatemeter.schemas.seals import LEAF_SCHEMAS, leaf_body, leaf_fields, seal_id

FORMAT: Final = "gatemeter-proof-1"
KINDS: Final = ("usage", "decision", "correction")


class ProofError(ValueError):
    """A proof that does not hold or cannot be read; one line that says at which step."""


@dataclass(frozen=True, slots=True)
class Proven:
    """One row that a seal holds. `leaf`: its fields; times in microseconds UTC, amounts in 10⁻¹²."""

    kind: str
    leaf: Mapping[str, Any]
    number: int
    seal_id: bytes
    posted_hour_us: int
    kid: str


def make_proof(kind: str, body: bytes, index: int, path: tuple[bytes, ...], seal: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of `proofs`. `seal`: value and signature in hex, and the sealer's key id."""
    schema = codec.CURRENT[LEAF_SCHEMAS[kind]]
    return {
        "kind": kind,
        "leaf": codec.decode(schema.prefix + body).datum,
        "leaf_body": body.hex(),
        "index": index,
        "path": [node.hex() for node in path],
        "seal": dict(seal),
    }


def verify_proof(proof: Mapping[str, Any], sealers: Mapping[str, str]) -> Proven:
    """Checks one entry of `proofs`. `sealers`: key id → public Ed25519 key, 64 hex digits. Raises `ProofError`.

    1. the seal is signed by one of these sealers, and its id is that of its fields
    2. the leaf's fields give the leaf's bytes, and say the seal's hour
    3. the path leads from the leaf's hash, at its place, to the root that the seal names
    """
    try:
        kind, fields = proof["kind"], proof["leaf"]
        body = bytes.fromhex(proof["leaf_body"])
        path = [bytes.fromhex(node) for node in proof["path"]]
        index = int(proof["index"])
        value = bytes.fromhex(proof["seal"]["value"])
        kid = str(proof["seal"]["kid"])
        headers = {
            signing.KID_HEADER: kid.encode(),
            signing.SIGNATURE_HEADER: bytes.fromhex(proof["seal"]["signature"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ProofError(f"not a proof: {type(error).__name__}: {error}") from error
    seal = _seal(value, kid, headers, sealers)
    _check_leaf(kind, fields, body, seal)
    if not merkle.is_included(merkle.leaf_hash(body), index, seal["leaves"], path, seal["leaves_root"]):
        raise ProofError(f"the path does not lead from leaf {index} to the root of seal {seal['number']}")
    return Proven(kind, fields, seal["number"], seal["seal_id"], seal["posted_hour"], kid)


def _seal(value: bytes, kid: str, headers: Mapping[str, bytes], sealers: Mapping[str, str]) -> Mapping[str, Any]:
    if kid not in sealers:
        raise ProofError(f"the seal is signed with key {kid!r}, which is not among the sealers' public keys")
    if not signing.signature_is_valid(sealers, headers, value):
        raise ProofError(f"the seal's signature does not fit the public key {kid!r}")
    try:
        decoded = codec.decode(value)
    except codec.CodecError as error:
        raise ProofError(f"the seal cannot be read: {error}") from error
    if decoded.name != "Seal" or seal_id(decoded.datum) != decoded.datum["seal_id"]:
        raise ProofError("the seal's id is not that of its fields")
    return decoded.datum


def _check_leaf(kind: Any, fields: Any, body: bytes, seal: Mapping[str, Any]) -> None:
    if not isinstance(fields, Mapping) or set(fields) != set(leaf_fields(_checked(kind))):
        raise ProofError(f"the leaf's fields are not those of {kind!r}")
    try:
        given = leaf_body(kind, fields)
    except Exception as error:  # fastavro raises many types on values that misfit
        raise ProofError(f"the leaf's fields cannot be encoded: {type(error).__name__}") from error
    if given != body:
        raise ProofError("the leaf's fields do not give the leaf's bytes")
    if fields.get("posted_hour", seal["posted_hour"]) != seal["posted_hour"]:
        raise ProofError("the leaf was posted in another hour than the seal's")


def _checked(kind: Any) -> str:
    if kind not in KINDS:
        raise ProofError(f"kind: must be one of {', '.join(KINDS)}, got {kind!r}")
    return str(kind)
