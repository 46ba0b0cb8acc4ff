"""A whole amount over the rows that it is of, exact to 10⁻¹²: by weight, the rest by largest remainder."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def divide(whole: int, weights: Sequence[int | Fraction]) -> list[int]:
    """Parts by weight that add up to `whole`, ties to the earlier row; where all weights are 0 the first row has it.

    `weights` must be ≥ 0 and not empty. 10 by 1, 1, 1 is 4, 3, 3.
    """
    total = sum(weights, Fraction(0))
    if not total:
        return [whole, *[0] * (len(weights) - 1)]
    exact = [whole * Fraction(weight) / total for weight in weights]
    parts = [share.numerator // share.denominator for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (parts[place] - exact[place], place))
    for place in by_remainder[: whole - sum(parts)]:
        parts[place] += 1
    return parts
