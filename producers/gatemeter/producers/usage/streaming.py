"""The usage of a streamed answer, one chunk at a time, in constant memory: the newest usage object and no text."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.glancing import GLANCES, NEWEST, READ
from gatemeter.producers.usage.normalising import Answer, raw_of, read_answer
from gatemeter.producers.usage.parts import Notes
from gatemeter.producers.usage.result import Usage
from gatemeter.producers.usage.shapes import SHAPES, UnknownShape, shape_named
from gatemeter.producers.usage.verbatim import Document

END_MARK: Final = "[DONE]"
MAX_COMPLAINTS: Final = 20


class UsageStream:
    """Feed it every chunk of one streamed answer, in order; ask for `usage()` at the end, or where the stream was cut.

    Usage is never added up over chunks: what comes later replaces what came before. Not for several threads.
    """

    def __init__(self, shape: str) -> None:
        """Raises `UnknownShape` for a name that is none, or whose answers are not streamed."""
        known = shape_named(shape)
        if known.follow is None:
            names = ", ".join(name for name, other in SHAPES.items() if other.follow is not None)
            raise UnknownShape(f"shape of a stream: must be one of {names}, got {shape!r}")
        self._shape, self._follow, self._glance = known, known.follow, GLANCES[known.follow]
        self._newest: bytes | None = None
        self._texts: dict[str, str] = {}
        self._complaints: list[str] = []
        self.answer: dict[str, Any] = {}
        self.final = False
        self.open_choices: set[object] = set()

    def feed(self, chunk: Answer) -> None:
        """Takes one chunk: the data of a server-sent event as bytes or text (then `usage_raw` is exact), or parsed.

        The closing `[DONE]` and empty lines are passed over. Never raises; what is no JSON object is complained about.
        """
        if type(chunk) is bytes:
            try:
                verdict = self._glance(self, chunk)
            except msgspec.MsgspecError:
                verdict = READ
            if verdict != READ:
                if verdict == NEWEST:
                    self._newest = chunk
                return
        if isinstance(chunk, (bytes, str)) and chunk.strip() in (END_MARK, END_MARK.encode(), "", b""):
            return
        self._read_newest()
        self._read(chunk)

    def _read_newest(self) -> None:
        """What was put off because it might not have been the last."""
        newest, self._newest = self._newest, None
        if newest is not None:
            self._read(newest)

    def _read(self, chunk: Answer) -> None:
        complaints: list[str] = []
        document = Document(chunk, complaints)
        if document.value:
            self._follow(self, document)
        for complaint in complaints:
            if len(self._complaints) < MAX_COMPLAINTS and complaint not in self._complaints:
                self._complaints.append(complaint)

    def keep(self, name: str, chunk: Document, *path: str) -> bool:
        """Stores the value at `path` of a chunk, and its text, as the newest `name`; False where there is none."""
        value = chunk.get(*path)
        if value is None:
            return False
        self.answer[name] = value
        self._texts.pop(name, None)
        text = chunk.text(*path)
        if text is not None:
            self._texts[name] = text
        return True

    def usage(self) -> Usage:
        """What is known so far. `final` is False until the provider's last word on usage has come."""
        self._read_newest()
        draft = Draft()
        draft.notes = Notes(list(self._complaints))
        usage = read_answer(self._shape, self.answer, raw_of(self._shape, self._texts), draft)
        return msgspec.structs.replace(usage, final=usage.final and self.final)
