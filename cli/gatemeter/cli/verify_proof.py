"""`gatemeter verify-proof`: checks a proof with public keys only; the base install is enough."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatemeter.cli.screen import screen
from gatemeter.schemas.proofs import FORMAT, ProofError, Proven, verify_proof

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_screen: Final = screen(soft_wrap=True)
_errors: Final = screen(stderr=True, soft_wrap=True)


def verify(
    file: Annotated[Path, typer.Argument(help="What gatemeter proof printed.")],
    sealers: Annotated[
        Path, typer.Option("--sealers", help="Public keys of the sealers: JSON of key id and 64 hex digits.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Check that signed seals hold the rows of a proof. Needs no Kafka, no ClickHouse and no private key.

    Exit code 0: every row is proven, 1: it is not, or the files cannot be read.

    Example: gatemeter verify-proof proof.json --sealers sealers.json
    """
    try:
        keys, content = _object(sealers), _object(file)
        proven = _verified(content, keys)
    except ProofError as error:
        _errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps({"request_id": content["request_id"], "proven": [_row(each) for each in proven]}))
        return
    for each in proven:
        _screen.print(_sentence(each), markup=False)
    for hour in content.get("open_hours", ()):
        _screen.print(f"not proven: what is posted in {hour}, which was not sealed yet", markup=False)
    _screen.print(
        "This proves that the sealer signed these rows, unchanged. That the seal is in the chain which others see, an"
        " anchor shows; that the gateway said so, its attestation."
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ProofError(f"{path}: must be a readable JSON object: {error}") from error
    if not isinstance(content, dict):
        raise ProofError(f"{path}: must be a JSON object")
    return content


def _verified(content: dict[str, Any], keys: dict[str, Any]) -> list[Proven]:
    proofs = content.get("proofs")
    if content.get("format") != FORMAT or not isinstance(proofs, list) or not proofs:
        raise ProofError(f"format: must be {FORMAT} with at least one proof")
    for kid, key in keys.items():
        if not isinstance(key, str) or len(key) != 64 or set(key) - set("0123456789abcdefABCDEF"):
            raise ProofError(f"--sealers: key {kid!r} must be 64 hex digits")
    proven = []
    for place, entry in enumerate(proofs):
        try:
            row = verify_proof(entry, keys)
        except ProofError as error:
            raise ProofError(f"proof {place} does not hold: {error}") from error
        named = (row.leaf["gateway_id"], row.leaf["request_id"])
        if row.kind == "usage" and named != (content.get("gateway_id"), content.get("request_id")):
            raise ProofError(f"proof {place} does not hold: it is of request {named[1]!r} of gateway {named[0]!r}")
        proven.append(row)
    return proven


def _row(each: Proven) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "seal": each.number,
        "seal_id": each.seal_id.hex(),
        "posted_hour": _utc(each.posted_hour_us),
        "kid": each.kid,
        "leaf": dict(each.leaf),
    }


def _sentence(each: Proven) -> str:
    leaf = each.leaf
    what = {
        "usage": "attempt {attempt} of request {request_id} ({status}, {provider} {model})",
        "decision": "decision {decision_id} on request {request_id} ({outcome} by {policy_id})",
        "correction": "correction {entry} of run {run_id} on {request_id} ({cause}: {reason})",
    }[each.kind].format_map(leaf)
    charge = "no price" if leaf["charge"] is None else f"charge {leaf['charge']} x 10^-12 {leaf['currency']}"
    return (
        f"proven: {what}, {charge}, is in seal {each.number} of hour {_utc(each.posted_hour_us)}, id"
        f" {each.seal_id.hex()[:16]}…, signed by {each.kid}"
    )


def _utc(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
