"""A month is closed when all of its hours are sealed, in order, and with nothing open that was not let pass."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from gatemeter.processors.corrections.closing import (
    NotClosed,
    Terms,
    check_closable,
    close_period,
    next_to_close,
    read_chain,
)
from gatemeter.processors.corrections.open_points import OpenPoint, month_bounds
from gatemeter.processors.sealing.chain import Chain, Seal, SealsRecord
from gatemeter.schemas.seals import HOUR_US
from support.seals import OPERATOR, SEALER, record, seal_datum

KEYS = ({SEALER.kid: SEALER.public_hex}, {OPERATOR.kid: OPERATOR.public_hex})
END_OF_MARCH = month_bounds("2026-03")[1]
NOTHING = [OpenPoint("unpriced", 0), OpenPoint("carried_over", 9)]
STRICT = Terms({"unpriced": 0, "orphans": 2}, (), "month end")


class Topic:
    """A topic of seals in memory. `races`: so many seals come just before what is appended next."""

    def __init__(self, seals: int, first_us: int = END_OF_MARCH - 2 * HOUR_US) -> None:
        self.records: list[SealsRecord] = []
        self.first_us, self.races = first_us, 0
        for _ in range(seals):
            self.seal()

    def seal(self) -> None:
        chain = self.chain()
        number, hour = chain.tip_number + 1, self.first_us + (chain.tip_number + 1) * HOUR_US
        datum = seal_datum(number, chain.tip_id, posted_hour=hour, open_period=chain.open_period)
        self.records.append(record(len(self.records), "Seal", datum, SEALER))

    def chain(self) -> Chain:
        return read_chain(self, *KEYS)

    def read(self, offset: int) -> list[SealsRecord]:
        return self.records[offset:]

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        if self.races:
            self.races -= 1
            self.seal()
        self.records.append(SealsRecord(len(self.records), value, dict(headers)))

    def places(self) -> list[tuple[str, int]]:
        return [("gatemeter.events", 0)]


def close(topic: Topic, period: str = "2026-03", points: list[OpenPoint] = NOTHING, terms: Terms = STRICT) -> None:
    close_period(topic, topic.chain(), OPERATOR, period, points, terms)


def test_a_month_whose_hours_are_sealed_is_closed_once() -> None:
    topic = Topic(2)
    assert next_to_close(topic.chain()) == "2026-03"
    close(topic)
    (closed,) = topic.chain().closed
    assert (closed.period, closed.after, closed.reason, closed.kid) == ("2026-03", 1, "month end", "ops")
    assert json.loads(closed.open_points)["carried_over"] == {"count": 9, "examples": [], "accepted": False}
    with pytest.raises(NotClosed, match="2026-03 is closed; the next month to close is 2026-04"):
        close(topic)
    topic.seal()
    last = topic.chain().tip
    assert isinstance(last, Seal) and last.open_period == "2026-04"


@pytest.mark.parametrize(
    ("seals", "period", "says"),
    [
        (0, "2026-03", "nothing is sealed by a known sealer: there is no month to close"),
        (2, "2026-3", "period must be YYYY-MM, got '2026-3'"),
        (2, "2026-04", "months are closed in order: the next one is 2026-03, got 2026-04"),
        (2, "2026-02", "2026-02 is closed; the next month to close is 2026-03"),
        (
            1,
            "2026-03",
            "2026-03 has 1 hours that are not sealed, the first is 2026-03-31T23:00:00Z: "
            "run gatemeter seal --through 2026-03-31T23:00:00Z",
        ),
    ],
)
def test_what_cannot_be_closed_says_why(seals: int, period: str, says: str) -> None:
    with pytest.raises(NotClosed) as refused:
        check_closable(Topic(seals).chain(), period)
    assert str(refused.value) == says


def test_open_points_above_their_limits_stand_in_the_way() -> None:
    topic = Topic(3)
    points = [OpenPoint("unpriced", 1, ("gw/r/1",)), OpenPoint("orphans", 2), OpenPoint("carried_over", 7)]
    with pytest.raises(NotClosed) as refused:
        close(topic, points=points)
    says = "2026-03 has open points: 1 unpriced (at most 0); mend them, or accept a kind with --accept"
    assert str(refused.value) == says
    assert len(topic.records) == 3
    close(topic, points=points, terms=Terms(STRICT.limits, ("unpriced",), "price list came late"))
    (closed,) = topic.chain().closed
    listed = json.loads(closed.open_points)
    assert listed["unpriced"] == {"count": 1, "examples": ["gw/r/1"], "accepted": True}
    assert listed["orphans"]["accepted"] is False


def test_a_seal_that_comes_between_makes_the_close_come_again() -> None:
    topic = Topic(2)
    topic.races = 3
    close(topic)
    chain = topic.chain()
    assert [closed.after for closed in chain.closed] == [4]
    assert len(chain.ignored) == 3


def test_a_close_that_never_gets_its_place_is_given_up() -> None:
    topic = Topic(2)
    topic.races = 1_000
    with pytest.raises(NotClosed, match="2026-03 was not closed: seals came between 20 times; try again"):
        close(topic)


def test_a_close_whose_reply_was_lost_is_found_closed() -> None:
    topic = Topic(2)
    chain = topic.chain()
    close(topic)
    with pytest.raises(NotClosed, match="2026-03 is closed"):
        close_period(topic, topic.chain(), OPERATOR, "2026-03", NOTHING, STRICT)
    close_period(topic, chain, OPERATOR, "2026-03", NOTHING, STRICT)
    assert len(topic.chain().closed) == 1
