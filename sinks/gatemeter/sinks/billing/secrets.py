"""Keys do not belong into a bill; one that is there all the same is never stored or shown.

Exports name keys by ids (`key_…`, `apikey_…`) or cut them (`sk-...abcd`). A whole key is replaced by a digest of it, so
that lines of different keys stay apart. Source: OpenAI's and Anthropic's admin APIs give `api_key_id` only, 2026-11.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|AIza[A-Za-z0-9_-]{30,}|ABSK[A-Za-z0-9+/=]{20,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*)?)|\b(?:[Bb]earer|BEARER)\s+[A-Za-z0-9._~+/=-]{8,}"
)
_MARKS: Final = ("sk-", "AIza", "ABSK", "eyJ", "earer", "EARER")


def scrubbed(text: str) -> str:
    """The text, each key in it as `[key sha256:…]`."""
    if not any(mark in text for mark in _MARKS):  # as nearly every text
        return text
    return _KEYS.sub(lambda match: f"[key sha256:{sha256(match[0].encode('utf-8', 'replace')).hexdigest()[:12]}]", text)
