"""Fingerprints of credentials."""

from __future__ import annotations

import pytest

from gatemeter.producers.hooks import fingerprint

KEY = b"k" * 32


def test_a_fingerprint_is_keyed_steady_and_not_the_credential() -> None:
    assert fingerprint(KEY, "sk-1") == fingerprint(KEY, "sk-1")
    assert len({fingerprint(KEY, "sk-1"), fingerprint(KEY, "sk-2"), fingerprint(b"o" * 32, "sk-1")}) == 3
    assert len(fingerprint(KEY, "sk-1")) == 32 and "sk-1" not in fingerprint(KEY, "sk-1")


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="key: must be 16 to 64 bytes, got 3"):
        fingerprint(b"abc", "sk-1")
