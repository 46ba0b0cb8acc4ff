"""Secrets, MACs and operator signatures: what is accepted, and what an error says."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from gatemeter.schemas import signing


def test_the_mac_is_keyed_blake2b_256_over_the_value() -> None:
    secret = signing.new_secret()
    assert len(secret) == signing.SECRET_LENGTH
    tag = signing.mac(secret, b"value")
    assert tag == hashlib.blake2b(b"value", key=secret, digest_size=32).digest()
    assert signing.mac_is_valid(secret, b"value", tag)
    assert not signing.mac_is_valid(secret, b"valuf", tag)
    assert not signing.mac_is_valid(signing.new_secret(), b"value", tag)
    assert not signing.mac_is_valid(secret, b"value", b"")


def test_secrets_come_back_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    entries = {"chat-1": signing.new_secret(), "_tick-1": signing.new_secret()}
    signing.save_secrets(file, entries)
    assert signing.load_secrets(file) == entries
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    signing.save_secrets(file, {})
    assert signing.load_secrets(file) == {}
    assert [entry.name for entry in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no json", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('{"a b": "00"}', "key id 'a b' must be 1 to 64"),
        ('{"kid": "00"}', "secret of key id 'kid' must be 64 hex digits"),
        ('{"kid": 5}', "secret of key id 'kid' must be 64 hex digits"),
    ],
)
def test_a_wrong_secrets_file_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(text)
    with pytest.raises(signing.SecretsError, match=complaint) as refused:
        signing.load_secrets(file)
    assert str(refused.value).startswith(f"{file}: ")


def test_a_missing_secrets_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(signing.SecretsError, match="cannot be read"):
        signing.load_secrets(tmp_path / "none.json")


def test_an_operator_signs_and_only_known_operators_count(tmp_path: Path) -> None:
    signing.OperatorKey.generate("ops-1").save(tmp_path / "operator.json")
    key = signing.OperatorKey.load(tmp_path / "operator.json")
    assert stat.S_IMODE((tmp_path / "operator.json").stat().st_mode) == 0o600
    headers = dict(key.headers(b"value"))
    assert signing.signature_is_valid({"ops-1": key.public_hex}, headers, b"value")
    assert not signing.signature_is_valid({"ops-1": key.public_hex}, headers, b"other")
    assert not signing.signature_is_valid({"ops-2": key.public_hex}, headers, b"value")
    assert not signing.signature_is_valid({"ops-1": key.public_hex}, {}, b"value")
    stranger = signing.OperatorKey.generate("ops-1")
    assert not signing.signature_is_valid({"ops-1": stranger.public_hex}, headers, b"value")


def test_a_wrong_operator_key_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "operator.json"
    for text in ("{}", "[]", '{"kid": "a", "private": "zz"}', '{"kid": "a", "private": "00"}'):
        file.write_text(text)
        with pytest.raises(signing.SecretsError, match="must hold JSON with kid and private"):
            signing.OperatorKey.load(file)
