"""A whole amount in parts by weight that add up to it: the rest by largest remainder, ties to the smaller key."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)


def divide(whole: int, weights: Mapping[K, int] | Mapping[K, Fraction]) -> dict[K, int]:
    """`whole` in parts by weight that add up to it; `weights` must be ≥ 0 and not all 0, keys of one kind. The rest
    goes one by one to the largest remainders, ties to the smaller key: 10 by 1, 1, 1 is 4, 3, 3."""
    total = sum(weights.values())
    parts = {key: whole * weight // total for key, weight in weights.items()}
    left = whole - sum(parts.values())

    def rank(key: Any) -> Any:
        return -(whole * weights[key] % total), key

    for key in sorted(weights, key=rank)[:left]:
        parts[key] += 1
    return parts
