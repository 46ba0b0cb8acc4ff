"""Who may post what: tokens, each of a sender that speaks for one gateway in one form. Tokens are kept as digests."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gatemeter.producers.collector.sources.naming import Naming

_BEARER: Final = "bearer "
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Sender:
    """`source` is the form of what it posts; `token_sha256` are its tokens' digests, several while one changes."""

    name: str
    gateway_id: str
    source: str
    token_sha256: tuple[str, ...]
    naming: Naming


def new_token() -> str:
    """A token of 256 random bits, in URL-safe text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What the settings keep of a token: 64 hex digits. A random token of this length cannot be guessed from it."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_digest(text: object) -> bool:
    """Whether it is such a digest."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


class Senders:
    """Finds the sender of a token, in the same time for every token."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._digests: Mapping[bytes, Sender] = {
            bytes.fromhex(digest): sender for sender in senders for digest in sender.token_sha256
        }

    def of(self, authorization: str | None) -> Sender | None:
        """The sender whose token a header `Authorization: Bearer ...` holds; None where it is nobody's."""
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            return None
        given = hashlib.sha256(authorization[len(_BEARER) :].strip().encode(errors="replace")).digest()
        found: Sender | None = None
        for digest, sender in self._digests.items():
            if hmac.compare_digest(digest, given):
                found = sender
        return found
