"""An amount of a line over the rows that it is shown in, exact to 10⁻¹²."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gatemeter.sinks.reports.dividing import divide as divide_by_weight


def divide(whole: int, weights: Sequence[int | Fraction]) -> list[int]:
    """Parts by weight that add up to `whole`, ties to the earlier row; where all weights are 0 the first row has it.

    `weights` must be ≥ 0 and not empty. 10 by 1, 1, 1 is 4, 3, 3.
    """
    if not any(weights):
        return [whole, *[0] * (len(weights) - 1)]
    return list(divide_by_weight(whole, {row: Fraction(weight) for row, weight in enumerate(weights)}).values())
