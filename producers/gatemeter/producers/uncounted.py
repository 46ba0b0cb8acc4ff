"""Text of requests and answers: it leaves the gateway only where the operator asks for it and it will be counted.

All else is dropped here, before the spool. See docs/usage.md, 'Estimates'.
"""

from __future__ import annotations

import msgspec

from gatemeter.producers.events import ResponseEvent
from gatemeter.schemas.uncounted import TEXT_FIELDS, uncounted_sides


def has_text(event: ResponseEvent) -> bool:
    """Whether the event carries a text."""
    return event.uncounted_prompt is not None or event.uncounted_completion is not None


def with_counted_text(event: ResponseEvent, *, allowed: bool) -> ResponseEvent:
    """The event with those of its texts alone that the processors will count; without any where none is `allowed`.

    What UTF-8 cannot write (half of a surrogate pair, where a stream was cut) becomes '?': the event is not lost by it.
    """
    sides = uncounted_sides(msgspec.structs.asdict(event)) if allowed else ()
    kept = {side.text: _writable(getattr(event, side.text)) for side in sides}
    return msgspec.structs.replace(event, **{**dict.fromkeys(TEXT_FIELDS), **kept})


def without_longest_text(event: ResponseEvent) -> ResponseEvent:
    """The event without the longer of its texts: whole, since a part of it would be counted as if it were all."""
    longest = max(TEXT_FIELDS, key=lambda name: len(getattr(event, name) or ""))
    if getattr(event, longest) is None:
        longest = next(name for name in TEXT_FIELDS if name != longest)
    return msgspec.structs.replace(event, **{longest: None})


def _writable(text: object) -> object:
    if not isinstance(text, str):
        return text  # refused by name, with all else that is out of range
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
