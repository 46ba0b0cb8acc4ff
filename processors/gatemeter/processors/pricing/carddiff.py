"""What two rate cards say differently: lines added, removed and changed, with the dates from and to which.

Cards are compared while both hold; where they never hold together, the earlier one as it ends with the later one as it
begins. Prices are ints of 10⁻¹² currency units a token or unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any, Final

from gatemeter.processors.metadata.cards import RateKey
from gatemeter.processors.metadata.records import line_of

HEAD_FIELDS: Final = ("currency", "effective_from", "effective_to")
"""Fields of a card beside its lines that make it price otherwise; its id, source and hash do not."""

PERCENT: Final = Decimal("0.0001")
Prices = Mapping[str, tuple[int, int]]
"""By bucket or fee name: list and provider price."""

LineKey = tuple[RateKey, int]
"""What a line is looked up by, and its `input_tokens_above`."""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One price of a line: (list, provider) before and after; None where it was not, or is no longer."""

    name: str
    before: tuple[int, int] | None
    after: tuple[int, int] | None

    @property
    def percent(self) -> tuple[Decimal | None, Decimal | None]:
        """By how many per cent list and provider price changed; None where there is nothing to compare with."""
        if self.before is None or self.after is None:
            return None, None
        return percent(self.before[0], self.after[0]), percent(self.before[1], self.after[1])


@dataclass(frozen=True, slots=True)
class LineChange:
    """A line that differs in [from_us, to_us), None: as far as the cards hold. `how`: added, removed, changed."""

    key: LineKey
    how: str
    from_us: int | None
    to_us: int | None
    prices: tuple[PriceChange, ...]


@dataclass(frozen=True, slots=True)
class CardDiff:
    """`head`: (field, before, after) of `HEAD_FIELDS` that differ."""

    head: tuple[tuple[str, Any, Any], ...]
    lines: tuple[LineChange, ...]

    @property
    def equal(self) -> bool:
        """Whether both cards price everything alike at any time."""
        return not self.head and not self.lines


def percent(before: int, after: int) -> Decimal | None:
    """The change in per cent of `before`, to four decimals half-even; None where `before` is 0. 200 → 220 is 10."""
    if before == 0:
        return None
    return (Decimal(after - before) * 100 / before).quantize(PERCENT, ROUND_HALF_EVEN)


def diff_cards(before: Mapping[str, Any], after: Mapping[str, Any], *, provider: str = "", model: str = "") -> CardDiff:
    """What differs between two RateCard records; '' for all providers and models.

    Raises `MetadataError` where a line is out of range.
    """
    head = tuple((name, before[name], after[name]) for name in HEAD_FIELDS if before[name] != after[name])
    spans = _compared(before, after)
    then, now = (_timelines(card, span, provider, model) for card, span in zip((before, after), spans, strict=True))
    changes = [change for key in sorted({*then, *now}) for change in _changes(key, then.get(key, {}), now.get(key, {}))]
    return CardDiff(head, tuple(changes))


Timeline = dict[tuple[int | None, int | None], Prices]
"""By [from, to) the prices; None is the edge of what is compared."""

_Span = tuple[int, int | None]


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[_Span, _Span]:
    """Of each card the time in which it is compared with the other."""
    (first, first_end), (second, second_end) = (
        (card["effective_from"], card["effective_to"]) for card in (before, after)
    )
    ends = [end for end in (first_end, second_end) if end is not None]
    start, end = max(first, second), min(ends, default=None)
    if end is None or start < end:
        return (start, end), (start, end)
    if first < second:
        return (first_end - 1, first_end), (second, second + 1)
    return (first, first + 1), (second_end - 1, second_end)


def _timelines(card: Mapping[str, Any], span: _Span, provider: str, model: str) -> dict[LineKey, Timeline]:
    start, end = span
    timelines: dict[LineKey, Timeline] = {}
    for rate in card["rates"]:
        line = line_of(rate)
        if provider not in ("", line.provider) or model not in ("", line.model):
            continue
        line_end = line.effective_to_us
        if (line_end is not None and line_end <= start) or (end is not None and line.effective_from_us >= end):
            continue
        begins = None if line.effective_from_us <= start else line.effective_from_us
        ends = None if line_end is None or (end is not None and line_end >= end) else line_end
        prices = {name: (line.list_pico[name], line.provider_pico[name]) for name in line.list_pico}
        timelines.setdefault((line.key, line.input_tokens_above), {})[begins, ends] = prices
    return timelines


def _changes(key: LineKey, then: Timeline, now: Timeline) -> Iterator[LineChange]:
    """The changes of one line in order of time; neighbouring times with the same change are one."""
    inner = {at for timeline in (then, now) for span in timeline for at in span if at is not None}
    edges: list[int | None] = [None, *sorted(inner), None]
    last: LineChange | None = None
    for start, end in pairwise(edges):
        change = _change(key, start, end, _at(then, start), _at(now, start))
        if change is not None and last is not None and last.to_us == start and _same(last, change):
            last = LineChange(key, last.how, last.from_us, end, last.prices)
            continue
        if last is not None:
            yield last
        last = change
    if last is not None:
        yield last


def _same(one: LineChange, other: LineChange) -> bool:
    return one.how == other.how and one.prices == other.prices


def _at(timeline: Timeline, at_us: int | None) -> Prices | None:
    """The prices at an instant; None is the beginning."""
    for (start, end), prices in timeline.items():
        if (start is None or (at_us is not None and start <= at_us)) and (end is None or at_us is None or at_us < end):
            return prices
    return None


def _change(
    key: LineKey, start: int | None, end: int | None, then: Prices | None, now: Prices | None
) -> LineChange | None:
    if then == now:
        return None
    how = "added" if then is None else "removed" if now is None else "changed"
    before, after = then or {}, now or {}
    prices = tuple(
        PriceChange(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
    return LineChange(key, how, start, end, prices)
