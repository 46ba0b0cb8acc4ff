"""All or nothing of a request, and a disk that fails in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gatemeter.producers.collector.intake import MARGIN_BYTES, Intake, SpoolFull, SpoolTooSmall
from gatemeter.producers.events import Event, RequestEvent


class Reader:
    """A REQUEST an item; an item without a number breaks it."""

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        return [RequestEvent(request_id=str(item["n"]), request_started_at=1, occurred_at=1, model="m" * 200)]


class Spool:
    def __init__(self, free: int, writable: int = 1 << 30) -> None:
        self.free, self.writable = free, writable
        self.events: list[Event] = []

    def free_bytes(self) -> int:
        return self.free

    def emit(self, event: Event) -> bool:
        if len(self.events) < self.writable:
            self.events.append(event)
            return True
        return False


ITEMS = [{"n": number} for number in range(10)]


def test_a_request_that_does_not_fit_leaves_nothing_behind() -> None:
    spool = Spool(free=MARGIN_BYTES + 2000)
    with pytest.raises(SpoolFull):
        Intake(spool, 1 << 20).take(Reader(), ITEMS, "sender")
    assert spool.events == []
    assert Intake(spool, 1 << 20).take(Reader(), ITEMS[:2], "sender").accepted == 2


def test_what_would_never_fit_is_told_apart() -> None:
    with pytest.raises(SpoolTooSmall):
        Intake(Spool(free=1 << 30), MARGIN_BYTES + 100).take(Reader(), ITEMS, "sender")


def test_a_disk_that_fails_in_the_middle_is_not_acknowledged() -> None:
    spool = Spool(free=1 << 30, writable=3)
    with pytest.raises(SpoolFull):
        Intake(spool, 1 << 20).take(Reader(), ITEMS, "sender")
    assert len(spool.events) == 3  # the sender comes again with the same ones


def test_an_item_that_breaks_its_reader_costs_itself_only() -> None:
    taken = Intake(Spool(free=1 << 30), 1 << 20).take(Reader(), [{"n": 1}, {"secret": 2}, {"n": 3}], "sender")
    assert (taken.accepted, [(refusal.item, refusal.error) for refusal in taken.refused]) == (
        2,
        [(1, "could not be read: KeyError")],
    )
