"""Usage as providers report it, in disjoint buckets: a reader a shape of answer, whole or streamed (docs/usage.md)."""

from __future__ import annotations

from gatemeter.producers.usage.normalising import normalise, usage_of_raw
from gatemeter.producers.usage.result import Usage
from gatemeter.producers.usage.shapes import FAMILIES, SHAPES, UnknownShape, shape_of
from gatemeter.producers.usage.streaming import UsageStream

__all__ = ["FAMILIES", "SHAPES", "UnknownShape", "Usage", "UsageStream", "normalise", "shape_of", "usage_of_raw"]
