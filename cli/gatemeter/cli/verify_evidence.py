"""`gatemeter verify-evidence`: checks an evidence pack with public keys only; the base install is enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gatemeter.cli.screen import screen
from gatemeter.schemas.evidence_packs import PackError, check_pack

_screen = screen(soft_wrap=True)
_errors = screen(stderr=True, soft_wrap=True)


def verify_evidence(
    folder: Annotated[Path, typer.Argument(help="What gatemeter evidence made.")],
    operators: Annotated[
        Path, typer.Option("--operator-keys", help="Public keys of operators: JSON of key id and 64 hex digits.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Check that an evidence pack is as an operator signed it. Needs no Kafka, no ClickHouse and no private key.

    Exit code 0: signed and unchanged, 1: not signed, changed, or it cannot be read.

    Example: gatemeter verify-evidence evidence-2026-11 --operator-keys operators.json
    """
    try:
        checked = check_pack(folder, _keys(operators))
    except PackError as error:
        _errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    if not checked.kid:
        _errors.print(f"error: {folder}: nobody signed it; its {checked.files} files are those of its manifest")
        raise typer.Exit(1)
    manifest = checked.manifest
    if as_json:
        typer.echo(json.dumps({"kid": checked.kid, "period": manifest["period"], "files": checked.files}))
        return
    _screen.print(
        f"signed by {checked.kid}, {checked.files} files unchanged; period {manifest['period']},"
        f" made at {manifest['made_at']}",
        markup=False,
    )


def _keys(path: Path) -> dict[str, str]:
    wrong = PackError(f"{path}: must be a JSON object of key id and public key, 64 hex digits")
    try:
        entries = json.loads(path.read_text("utf-8"))
        return {str(kid): bytes.fromhex(public).hex() for kid, public in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise wrong from error
