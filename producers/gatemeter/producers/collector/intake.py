"""From items to the spool, all or nothing of a request: what is answered by 2xx is durable, what is not was not taken.

1. Every item is read and every event checked.    A bad item is named and costs itself alone.
2. The spool must have room for all good ones.    Else nothing is taken: the sender is told to come back.
3. They are spooled.                              A crash here: no answer, the sender sends all again, and what was
                                                  spooled is the same bytes twice, which workers drop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from gatemeter.producers.collector.sources.port import Reader
from gatemeter.producers.complaints import Complaints
from gatemeter.producers.emitter import MAX_SPOOLED_BYTES
from gatemeter.producers.events import Event
from gatemeter.producers.foreign import BadItem, kind_of
from gatemeter.producers.validation import InvalidEvent, spool_form

_log: Final = logging.getLogger(__name__)
FRAME_BYTES: Final = 64
"""What the spool adds to an event, at most."""
MARGIN_BYTES: Final = 64 * 1024
"""Kept free beside what a request needs, for the headers of segments."""


class SpoolFull(Exception):
    """No room now; there will be when Kafka has taken what waits."""


class SpoolTooSmall(Exception):
    """No room ever: a request holds more than the whole spool."""


class Spools(Protocol):
    """What the intake needs of an `Emitter`."""

    def emit(self, event: Event) -> bool:
        """False where it was refused."""
        ...

    def free_bytes(self) -> int:
        """Room in the spool."""
        ...


class Refusal(msgspec.Struct, frozen=True):
    """An item that was not taken: `item` is its number in the request, from 0."""

    item: int
    error: str


class Taken(msgspec.Struct, frozen=True):
    """`accepted` items are in the spool as `events`; `ignored` ones are none that is metered."""

    accepted: int
    ignored: int
    events: int
    refused: tuple[Refusal, ...]


class Intake:
    """Of one gateway: all its senders share one spool, and its batches. Not for several threads at once."""

    def __init__(self, emitter: Spools, max_spool_bytes: int) -> None:
        self._emitter, self._max_spool_bytes = emitter, max_spool_bytes
        self._complaints = Complaints()

    def take(self, reader: Reader, items: Sequence[Any], sender: str) -> Taken:
        """Raises `SpoolFull` and `SpoolTooSmall`; then nothing of it counts as taken."""
        events: list[Event] = []
        refused: list[Refusal] = []
        accepted = ignored = needed = 0
        for index, item in enumerate(items):
            try:
                said, size = _checked(reader, item)
            except (BadItem, InvalidEvent) as error:
                refused.append(Refusal(index, str(error)))
                continue
            except Exception as error:  # noqa: BLE001  its text may hold what a caller sent; one item costs itself only
                refused.append(Refusal(index, f"could not be read: {type(error).__name__}"))
                continue
            accepted, ignored = accepted + bool(said), ignored + (not said)
            events += said
            needed += size
        if refused:
            self._complaints.say(_log, "items of sender %s were refused, the first: %s", sender, refused[0].error)
        self._spool(events, needed)
        return Taken(accepted, ignored, len(events), tuple(refused))

    def _spool(self, events: Sequence[Event], needed: int) -> None:
        if needed + MARGIN_BYTES > self._max_spool_bytes:
            raise SpoolTooSmall
        if events and needed + MARGIN_BYTES > self._emitter.free_bytes():
            raise SpoolFull
        for event in events:
            if not self._emitter.emit(event):
                raise SpoolFull  # the disk is full although the spool is not


def _checked(reader: Reader, item: Any) -> tuple[Sequence[Event], int]:
    """The events of an item, all of them good, and their bytes."""
    if not isinstance(item, Mapping):
        raise BadItem(f"must be a JSON object, got {kind_of(item)}")
    events = reader.events(item)
    size = 0
    for event in events:
        length = len(spool_form(event))
        if length > MAX_SPOOLED_BYTES:
            raise InvalidEvent(f"an event must have at most {MAX_SPOOLED_BYTES} bytes, got {length}")
        size += length + FRAME_BYTES
    return events, size
