"""Sets of sequence numbers as sorted, disjoint, half-open intervals: what an epoch has settled, in a few integers."""

from __future__ import annotations

from bisect import bisect_right

Intervals = tuple[tuple[int, int], ...]
"""`((first, next), …)`, sorted, disjoint and not touching."""


def contains(intervals: Intervals, number: int) -> bool:
    """Whether `number` is in one of the intervals."""
    index = bisect_right(intervals, (number, 1 << 63)) - 1
    return index >= 0 and intervals[index][0] <= number < intervals[index][1]


def overlaps(intervals: Intervals, first: int, after: int) -> bool:
    """Whether any number of [first, after) is in one of the intervals."""
    index = bisect_right(intervals, (first, 1 << 63)) - 1
    if index >= 0 and intervals[index][1] > first:
        return True
    return index + 1 < len(intervals) and intervals[index + 1][0] < after


def add(intervals: Intervals, first: int, after: int) -> Intervals:
    """The union with [first, after). Where it extends the last interval, the usual case, this is constant time."""
    if after <= first:
        return intervals
    if not intervals or first > intervals[-1][1]:
        return (*intervals, (first, after))
    if first == intervals[-1][1]:
        return (*intervals[:-1], (intervals[-1][0], after))
    merged: list[tuple[int, int]] = []
    for low, high in sorted((*intervals, (first, after))):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def remove(intervals: Intervals, first: int, after: int) -> Intervals:
    """What is left without [first, after)."""
    left: list[tuple[int, int]] = []
    for low, high in intervals:
        left += [(a, b) for a, b in ((low, min(high, first)), (max(low, after), high)) if a < b]
    return tuple(left) if first < after else intervals


def covers(intervals: Intervals, first: int, after: int) -> bool:
    """Whether all numbers of [first, after) are in the intervals."""
    index = bisect_right(intervals, (first, 1 << 63)) - 1
    return index >= 0 and intervals[index][1] >= after
