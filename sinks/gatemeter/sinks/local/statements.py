"""Finds where an INSERT statement ends and its data begins, so that the data can go to the engine as a file.

ClickHouse reads `INSERT INTO t (…) [SETTINGS …] FORMAT name` and takes what follows as data. Words inside strings,
quoted identifiers, comments and parentheses are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    rb"""
      (?P<blank>\s+ | --[^\n]*(?:\n|\Z) | \#[\ !][^\n]*(?:\n|\Z) | /\*.*?\*/)
    | (?P<quoted>'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`)
    | (?P<word>[A-Za-z_0-9]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DATA_START: Final = re.compile(rb"[ \t\f]*(?:;[ \t\f]*)?(?:\r?\n)?")


@dataclass(frozen=True, slots=True)
class DataInsert:
    """`INSERT … FORMAT format` whose data begins at byte `data_start` of the text."""

    before_settings: bytes  # INSERT INTO t (…)
    settings: bytes  # SETTINGS …, or nothing
    format: str
    data_start: int

    def from_file(self, path: str) -> str:
        """The same statement with its data in a local file of the server's own (`path` holds no quotes)."""
        head, settings = self.before_settings.decode(), self.settings.decode()
        return f"{head} FROM INFILE '{path}' COMPRESSION 'none' {settings} FORMAT {self.format}"


def _top_level_words(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, upper-case word) of every word outside of parentheses, quotes and comments."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "other":
            depth += {b"(": 1, b")": -1}.get(token.group(), 0)
        elif token.lastgroup == "word" and depth == 0:
            yield token.start(), token.end(), token.group().upper()


def data_insert(text: bytes) -> DataInsert | None:
    """The INSERT at the beginning of `text` if its data follows a FORMAT clause; None for every other statement.

    `INSERT … VALUES`, `INSERT … SELECT` and `FROM INFILE` are left to the engine.
    """
    settings_at: int | None = None
    format_at: int | None = None
    for index, (start, end, word) in enumerate(_top_level_words(text)):
        if index == 0 and word != b"INSERT":
            return None
        if format_at is not None:
            head_end = format_at if settings_at is None else settings_at
            settings = b"" if settings_at is None else text[settings_at:format_at]
            data = _DATA_START.match(text, end)
            data_start = data.end() if data else end
            return DataInsert(text[:head_end], settings, text[start:end].decode(), data_start)
        if word in (b"VALUES", b"SELECT", b"WITH", b"INFILE", b"WATCH"):
            return None
        if word == b"SETTINGS":
            settings_at = start
        elif word == b"FORMAT":
            format_at = start
    return None
