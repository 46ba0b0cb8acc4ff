"""A month is closed by one signed record in the topic of seals; what changes later posts to the oldest open month."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gatemeter.processors.corrections.open_points import OpenPoint, month_bounds
from gatemeter.processors.corrections.rows import CorrectionError
from gatemeter.processors.metadata.entries import HOUR_US
from gatemeter.processors.sealing.chain import Chain, ClosedPeriod
from gatemeter.processors.sealing.hours import utc
from gatemeter.processors.sealing.periods import is_period, period_of
from gatemeter.processors.sealing.seals_topic import SealsTopic
from gatemeter.schemas.codec import encode
from gatemeter.schemas.signing import OperatorKey

ATTEMPTS: Final = 20
"""How often a close is written again because a seal came between reading the tip and writing."""


class NotClosed(CorrectionError):
    """A month cannot be closed; one line that says why and what would let it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator lets pass. `limits`: greatest number by kind, none for any; `accepted`: kinds, whatever their
    number."""

    limits: Mapping[str, int]
    accepted: Collection[str]
    reason: str

    def above(self, points: Sequence[OpenPoint]) -> list[OpenPoint]:
        """The points that stand in the way."""
        return [
            point
            for point in points
            if point.kind in self.limits and point.kind not in self.accepted and point.count > self.limits[point.kind]
        ]


def read_chain(topic: SealsTopic, sealers: Mapping[str, str], operators: Mapping[str, str]) -> Chain:
    """The chain as the topic has it now. Raises `SealsUnreachable`."""
    chain = Chain(sealers, operators)
    catch_up(chain, topic)
    return chain


def catch_up(chain: Chain, topic: SealsTopic) -> None:
    """Takes what was appended since."""
    for record in topic.read(chain.next_offset):
        chain.append(record)


def next_to_close(chain: Chain) -> str:
    """The oldest open month. Raises `NotClosed` where nothing is sealed."""
    if not chain.seals:
        raise NotClosed("nothing is sealed by a known sealer: there is no month to close")
    return chain.open_period or period_of(chain.seals[0].posted_hour_us)


def check_closable(chain: Chain, period: str) -> None:
    """Raises `NotClosed` unless the month is the next in order and all of its hours are sealed."""
    if not is_period(period):
        raise NotClosed(f"period must be YYYY-MM, got {period!r}")
    expected = next_to_close(chain)
    if period < expected:
        raise NotClosed(f"{period} is closed; the next month to close is {expected}")
    if period != expected:
        raise NotClosed(f"months are closed in order: the next one is {expected}, got {period}")
    assert chain.tip is not None
    _, end_us = month_bounds(period)
    last_us = end_us - HOUR_US
    if chain.tip.posted_hour_us < last_us:
        raise NotClosed(
            f"{period} has {(last_us - chain.tip.posted_hour_us) // HOUR_US} hours that are not sealed, the first is "
            f"{utc(chain.tip.posted_hour_us + HOUR_US)}: run gatemeter seal --through {utc(last_us)}"
        )


def close_period(
    topic: SealsTopic, chain: Chain, key: OperatorKey, period: str, points: Sequence[OpenPoint], terms: Terms
) -> ClosedPeriod:
    """Closes a month and reads back that it is.

    The record names the tip that it was made for: where a seal comes between, it is without effect and written again.
    A crash after the append leaves a month that is closed. Raises `NotClosed`, `SealsUnreachable`.
    """
    for _ in range(ATTEMPTS):
        check_closable(chain, period)
        above = terms.above(points)
        if above:
            shown = [f"{point.count:,} {point.kind} (at most {terms.limits[point.kind]:,})" for point in above]
            raise NotClosed(f"{period} has open points: {', '.join(shown)}; mend them, or accept a kind with --accept")
        value = close_value(period, chain.tip_number, points, terms, time.time_ns() // 1_000)
        topic.append(period.encode(), value, key.headers(value))
        catch_up(chain, topic)
        if chain.closed and chain.closed[-1].period == period:
            return chain.closed[-1]
    raise NotClosed(f"{period} was not closed: seals came between {ATTEMPTS} times; try again")


def close_value(period: str, after: int, points: Sequence[OpenPoint], terms: Terms, issued_at_us: int) -> bytes:
    """The value of a PeriodClose record."""
    record = {
        "period": period,
        "after": after,
        "open_points": points_json(points, terms.accepted),
        "reason": terms.reason,
        "issued_at": issued_at_us,
    }
    return encode("PeriodClose", record)


def points_json(points: Sequence[OpenPoint], accepted: Collection[str]) -> str:
    """By kind its number, the first few, and whether it was accepted whatever its number."""
    found = {
        point.kind: {"count": point.count, "examples": list(point.examples), "accepted": point.kind in accepted}
        for point in points
    }
    return json.dumps(found, sort_keys=True)
