"""The exact text of a part of a JSON document, so that `usage_raw` keeps the provider's own numbers and spelling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gatemeter.producers.usage.parts import shown

MAX_RAW_LENGTH: Final = 65_536
"""Longest `usage_raw` kept; an event must fit into one record."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError, TypeError, OverflowError)


class Document:
    """A JSON object, parsed, with the text of each of its parts. Anything else reads as empty, with a complaint."""

    def __init__(self, given: object, complaints: list[str]) -> None:
        self._source: bytes | None = None
        self._complaints = complaints
        self.value: dict[str, Any] = {}
        parsed = given
        if isinstance(given, (bytes, bytearray, memoryview, str)):
            try:
                self._source = given.encode() if isinstance(given, str) else bytes(given)
                parsed = json.loads(self._source)
            except _UNREADABLE as error:
                complaints.append(f"answer: must be a JSON object, got {type(error).__name__}: {str(error)[:80]}")
                return
        if isinstance(parsed, Mapping):
            self.value = dict(parsed)
        else:
            complaints.append(f"answer: must be a JSON object, got {shown(parsed)}")

    def get(self, *path: str) -> Any:
        """The value at a path of keys; None where there is none."""
        found: Any = self.value
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def text(self, *path: str) -> str | None:
        """The text of the value at a path: the source's own where there is one, else its JSON. None for null."""
        value = self.get(*path)
        if value is None:
            return None
        try:
            text = _cut(self._source, path) if self._source is not None else _encoded(value)
        except _UNREADABLE as error:
            self._complaints.append(f"{'.'.join(path)}: must be JSON, got {type(error).__name__}")
            return None
        if len(text) > MAX_RAW_LENGTH:
            where = ".".join(path)
            self._complaints.append(f"{where}: must be 0 to {MAX_RAW_LENGTH} characters of JSON, got {len(text)}")
            return None
        return text


def _cut(source: bytes, path: tuple[str, ...]) -> str:
    rest = source
    for key in path:
        rest = bytes(_OBJECT.decode(rest)[key])
    return rest.decode()


def _encoded(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
