"""From a provider's answer to a `Usage`: pure, and never raises for what a provider sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.outlines import OUTLINES
from gatemeter.producers.usage.result import Usage
from gatemeter.producers.usage.shapes import Shape, shape_named
from gatemeter.producers.usage.verbatim import Document

Answer = Mapping[str, Any] | bytes | str


def normalise(shape: str, answer: Answer) -> Usage:
    """The usage of a whole answer: its JSON body as bytes or text (then `usage_raw` is exact), or parsed.

    For `bedrock_invoke_headers` the answer is the response headers, names in any case. Raises `UnknownShape` for a name
    that is none; whatever the answer holds, the result is a `Usage`, with complaints where a field was refused.
    """
    known, draft = shape_named(shape), Draft()
    outline = OUTLINES.get(known.read) if type(answer) is bytes else None
    if outline is not None:
        try:
            outlined = outline(answer)  # type: ignore[arg-type]
        except (ValueError, RecursionError):
            outlined = None
        if outlined is not None:
            return read_answer(known, outlined.answer, outlined.usage_raw, draft)
    document = Document(answer, draft.notes.complaints)
    if known.name == "bedrock_invoke_headers":
        lowered = {str(name).lower(): value for name, value in document.value.items()}
        document = Document(lowered, draft.notes.complaints)
    texts = {path[-1]: text for path in known.raw if (text := document.text(*path)) is not None}
    return read_answer(known, document.value, raw_of(known, texts), draft)


def usage_of_raw(shape: str, usage_raw: Answer) -> Usage:
    """The usage of a `usage_raw` alone, as a fact keeps it: the same leaves, and whether they add up.

    Who served the answer, and what is counted outside the usage object (images, searches of the Responses API), is not
    in it. Raises `UnknownShape`.
    """
    known, draft = shape_named(shape), Draft()
    value = Document(usage_raw, draft.notes.complaints).value
    answer: dict[str, Any] = value
    if len(known.raw) == 1:
        for key in reversed(known.raw[0]):
            answer = {key: answer}
    return read_answer(known, answer, None, draft)


def read_answer(shape: Shape, answer: dict[str, Any], usage_raw: str | None, draft: Draft) -> Usage:
    """Reads an answer, or the skeleton of one, into the draft and finishes it."""
    shape.read(draft.open(answer), draft)
    return draft.usage(shape.name, usage_raw)


def raw_of(shape: Shape, texts: Mapping[str, str]) -> str | None:
    """The verbatim usage: the one text of a shape with one usage object, else an object of all texts by name."""
    if len(shape.raw) == 1 and list(texts) == [shape.raw[0][-1]]:
        return texts[shape.raw[0][-1]]
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}" if texts else None
