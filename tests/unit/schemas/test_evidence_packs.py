"""A pack holds while its files are those of a manifest that an operator signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatemeter.schemas.evidence_packs import FORMAT, MANIFEST, SIGNATURE, PackError, check_pack, digest, signature_of
from gatemeter.schemas.signing import OperatorKey

KEY = OperatorKey.generate("ops-1")
KEYS = {"ops-1": KEY.public_hex}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    (folder / "results").mkdir(parents=True)
    files = {"README.md": b"# Evidence", "results/a.csv": b"n\n1\n"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    entries = {name: {"sha256": digest(content)} for name, content in files.items()}
    manifest = json.dumps({"format": FORMAT, "period": "2026-03", "files": entries}).encode()
    (folder / MANIFEST).write_bytes(manifest)
    (folder / SIGNATURE).write_bytes(signature_of(KEY, manifest))
    return folder


def test_a_signed_pack_holds(pack: Path) -> None:
    checked = check_pack(pack, KEYS)
    assert (checked.kid, checked.files, checked.manifest["period"]) == ("ops-1", 2, "2026-03")


def test_a_pack_that_nobody_signed_says_so(pack: Path) -> None:
    (pack / SIGNATURE).unlink()
    assert check_pack(pack, KEYS).kid == ""


def test_any_change_is_found(pack: Path) -> None:
    def problem() -> str:
        with pytest.raises(PackError) as caught:
            check_pack(pack, KEYS)
        return str(caught.value)

    (pack / "more.txt").write_text("x")
    assert problem() == "more.txt: the manifest does not name it"
    (pack / "more.txt").unlink()
    result = pack / "results" / "a.csv"
    result.write_bytes(b"n\n2\n")
    assert problem() == "results/a.csv: was changed, its SHA-256 is not that of the manifest"
    result.unlink()
    assert problem() == "results/a.csv: the manifest names it, it is not there"
    manifest = pack / MANIFEST
    manifest.write_text(manifest.read_text().replace("2026-03", "2026-04"))
    assert problem() == "manifest.json: not signed by a known operator (key id 'ops-1'), or was changed since"


def test_another_operators_signature_is_refused(pack: Path) -> None:
    with pytest.raises(PackError, match="not signed by a known operator"):
        check_pack(pack, {"ops-1": OperatorKey.generate("ops-1").public_hex})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (MANIFEST, "[]", "must be a manifest of a pack"),
        (MANIFEST, '{"format": "other", "files": {}}', "format must be gatemeter-evidence-1, got 'other'"),
        (SIGNATURE, "{}", "must hold JSON with kid and signature"),
    ],
)
def test_what_cannot_be_read_is_named(pack: Path, name: str, content: str, message: str) -> None:
    if name == MANIFEST:
        (pack / SIGNATURE).unlink()
    (pack / name).write_text(content)
    with pytest.raises(PackError, match=message):
        check_pack(pack, KEYS)


def test_a_folder_without_a_manifest_is_no_pack(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"manifest\.json: must be a readable file"):
        check_pack(tmp_path, KEYS)
