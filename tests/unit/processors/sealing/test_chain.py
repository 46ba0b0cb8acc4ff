"""What is canonical among the records of the topic of seals, and why the others are not."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.sealing.chain import Chain, ClosedPeriod, Ignored, Seal, SealsRecord
from gatemeter.schemas.seals import HOUR_US, NO_SEAL
from gatemeter.schemas.signing import KID_HEADER, SIGNATURE_HEADER, OperatorKey
from support.facts import NOON_US
from support.seals import OPERATOR, SEALER, close_datum, record, seal_datum


class Topic:
    """Appends records to a chain, offset by offset."""

    def __init__(self) -> None:
        self.chain = Chain({SEALER.kid: SEALER.public_hex}, {OPERATOR.kid: OPERATOR.public_hex})

    def seal(
        self, key: OperatorKey = SEALER, number: int | None = None, **changes: Any
    ) -> Seal | ClosedPeriod | Ignored:
        number = self.chain.tip_number + 1 if number is None else number
        defaults = {"previous": self.chain.tip_id, "open_period": self.chain.open_period}
        datum = seal_datum(number, **{**defaults, **changes})
        return self.chain.append(record(self.chain.next_offset, "Seal", datum, key))

    def close(
        self, period: str, after: int | None = None, key: OperatorKey = OPERATOR
    ) -> Seal | ClosedPeriod | Ignored:
        datum = close_datum(period, self.chain.tip_number if after is None else after)
        return self.chain.append(record(self.chain.next_offset, "PeriodClose", datum, key))


@pytest.fixture
def topic() -> Topic:
    return Topic()


def reason(effect: Seal | ClosedPeriod | Ignored) -> str:
    assert isinstance(effect, Ignored)
    return effect.reason


def test_each_seal_extends_the_one_before(topic: Topic) -> None:
    first, second = topic.seal(), topic.seal()
    assert isinstance(first, Seal)
    assert isinstance(second, Seal)
    assert (first.previous, second.previous) == (NO_SEAL, first.seal_id)
    assert topic.chain.tip is second
    assert (second.kid, second.offset, second.posted_hour_us) == ("sealer-1", 1, NOON_US + HOUR_US)


def test_of_two_seals_on_one_tip_the_first_is_canonical_and_a_copy_of_it_has_no_effect(topic: Topic) -> None:
    first = topic.seal()
    rival = topic.seal(number=0, previous=NO_SEAL, leaves_root=b"r" * 32)
    assert reason(rival) == "seal 0: number must be 1"
    assert isinstance(first, Seal)
    copy = SealsRecord(2, first.value, {KID_HEADER: first.kid.encode(), SIGNATURE_HEADER: first.signature})
    assert isinstance(topic.chain.append(copy), Ignored)
    assert topic.chain.seals == [first]


def test_a_seal_by_an_unknown_key_or_with_other_bytes_is_ignored(topic: Topic) -> None:
    assert "not signed by a known sealer" in reason(topic.seal(OperatorKey.generate("sealer-1")))
    assert "not signed by a known sealer (key id 'ops')" in reason(topic.seal(OPERATOR))
    good = record(5, "Seal", seal_datum(0), SEALER)
    tampered = SealsRecord(5, good.value[:-1] + bytes([good.value[-1] ^ 2]), good.headers)
    assert isinstance(topic.chain.append(tampered), Ignored)
    assert isinstance(topic.chain.append(SealsRecord(6, good.value, {KID_HEADER: None})), Ignored)
    assert topic.chain.tip is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"previous": b"x" * 32}, "previous must be"),
        ({"seal_id": b"x" * 32}, "seal_id must be"),
        ({"posted_hour": NOON_US + 2 * HOUR_US}, "must be the hour after"),
        ({"posted_hour": NOON_US + 1}, "must be a full hour"),
        ({"open_period": "2026-03"}, "open_period must be ''"),
        ({"number": 2}, "number must be 1"),
    ],
)
def test_a_seal_that_does_not_fit_the_tip_is_ignored_by_its_reason(
    topic: Topic, changes: dict[str, Any], expected: str
) -> None:
    topic.seal()
    assert expected in reason(topic.seal(**changes))
    assert isinstance(topic.seal(), Seal)


def test_months_close_in_order_after_the_tip(topic: Topic) -> None:
    assert "after must be the number of the last seal" in reason(topic.close("2026-03"))
    topic.seal()
    assert "period must be YYYY-MM" in reason(topic.close("2026-13"))
    assert "not signed by a known operator" in reason(topic.close("2026-03", key=SEALER))
    assert isinstance(topic.close("2026-11"), ClosedPeriod)
    assert topic.chain.open_period == "2026-12"
    assert reason(topic.close("2026-11")) == "close of 2026-11: the next month to close is 2026-12"
    assert isinstance(topic.close("2026-12"), ClosedPeriod)
    assert topic.chain.open_period == "2027-01"


def test_a_seal_made_before_a_close_and_a_close_made_before_a_seal_have_no_effect(topic: Topic) -> None:
    topic.seal()
    topic.close("2026-03")
    assert "open_period must be '2026-04', got ''" in reason(topic.seal(open_period=""))
    assert isinstance(topic.seal(), Seal)
    assert "after must be the number of the last seal, 1" in reason(topic.close("2026-04", after=0))


def test_foreign_records_are_ignored(topic: Topic) -> None:
    assert reason(topic.chain.append(SealsRecord(0, b"junk", {}))).startswith("not_avro")
    commit = {"topic": "t", "partition": 0, "run_id": "r", "rows_digest": bytes(32), "entries": 0}
    commit |= {"cause": "manual", "reason": "x", "issued_at": 0}
    assert "a Commit has no place" in reason(topic.chain.append(record(1, "Commit", commit, OPERATOR)))


def test_an_offset_is_read_once(topic: Topic) -> None:
    topic.seal()
    with pytest.raises(ValueError, match="offset 0 was read before; next is 1"):
        topic.chain.append(SealsRecord(0, b"", {}))
