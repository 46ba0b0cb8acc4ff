"""Which encoding counts the text of a model, as data: the longest prefix of its name, else the default.

It belongs to the fold release, as the versions of tiktoken and of the encodings do: another map, or other encodings,
would count otherwise what was folded already.
"""

from __future__ import annotations

from typing import Final

DEFAULT: Final = "o200k_base"
"""Of models that have none of their own, those of other providers too: their own tokenizers are not public."""

BY_PREFIX: Final = {
    "gpt-4o": "o200k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4.5": "o200k_base",
    "gpt-4": "cl100k_base",
    "gpt-3.5": "cl100k_base",
    "gpt-35": "cl100k_base",  # as Azure spells it
    "text-embedding-": "cl100k_base",
    "davinci-002": "cl100k_base",
    "babbage-002": "cl100k_base",
}
"""Source: `tiktoken.model` of tiktoken 0.14.0, to which a test compares."""

ENCODINGS: Final = frozenset({DEFAULT, *BY_PREFIX.values()})


def encoding_of(model: str) -> str:
    """The encoding of a model: `gpt-4-0613`, `openai/gpt-4` and `ft:gpt-4:acme` are counted as `gpt-4` is."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:")
    prefix = max((prefix for prefix in BY_PREFIX if name.startswith(prefix)), key=len, default="")
    return BY_PREFIX.get(prefix, DEFAULT)
