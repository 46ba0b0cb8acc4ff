"""Tokens of a text by tiktoken, without a network: the ranks come from the package bpe-openai.

Their bytes are held to the digests that tiktoken itself expects, so that every worker counts alike.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import tiktoken

from gatemeter.processors.fold.types import LoudStop

PIECE_LENGTH: Final = 16_384
"""A longer text is counted in pieces of so many characters: tiktoken's cost of one long run grows faster than the run.
A cut adds at most a token or two."""

_SHIPPED: Final = "bpe-openai"
RANKS_SHA256: Final = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
PATTERNS: Final = {
    "o200k_base": "|".join(
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
    "cl100k_base": "|".join(
        (
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}++",
            r"\p{N}{1,3}+",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
            r"\s++$",
            r"\s*[\r\n]",
            r"\s+(?!\S)",
            r"\s",
        )
    ),
}
"""How a text is cut into words before its bytes are merged. tiktoken has them in functions that fetch the ranks, too;
a test holds them equal."""


def count_tokens(text: str, encoding: str) -> int:
    """How many tokens a text is; what looks like a special token (`<|endoftext|>`) is text like any other.

    The first call of an encoding loads it (half a second, 80 MB). Raises `LoudStop` where its bytes are not ours.
    """
    encode = _encoding(encoding).encode_ordinary
    return sum(len(encode(text[at : at + PIECE_LENGTH])) for at in range(0, len(text), PIECE_LENGTH))


@cache
def _encoding(name: str) -> tiktoken.Encoding:
    packed = Path(str(distribution(_SHIPPED).locate_file(f"bpe_openai/data/{name}.tiktoken.gz")))
    lines = gzip.decompress(packed.read_bytes())
    found = hashlib.sha256(lines).hexdigest()
    if found != RANKS_SHA256[name]:
        raise LoudStop(
            f"encoding {name}: the ranks of the package {_SHIPPED} must have SHA-256 {RANKS_SHA256[name]}, got {found}:"
            ' install what this release pins with: pip install "gatemeter[processors]"'
        )
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines.splitlines())}
    return tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
