"""Estimates of what a provider did not report, for one event and for many at once: the same function counts both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from gatemeter.processors.estimating.counting import count_tokens
from gatemeter.processors.estimating.encodings import encoding_of
from gatemeter.schemas.uncounted import CONSULTED, SIDES, TEXT_FIELDS, uncounted_sides

ESTIMATED: Final = "estimated"
WITH: Final = "estimated_with"
_MODELS: Final = ("served_model", "model")
_CHANGED: Final = (*(side.bucket for side in SIDES), "usage_source")
_NO_ESTIMATE: Final = pl.lit("").alias(WITH)
Rows = npt.NDArray[np.int64]


def estimated(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with its uncounted sides counted; the event itself where it has no text that counts.

    `estimated_with` of the result says which sides and by which encoding: `output o200k_base`.
    """
    if all(event[name] is None for name in TEXT_FIELDS):
        return event
    sides = uncounted_sides(event)
    if not sides:
        return event
    encoding = encoding_of(event["served_model"] or event["model"] or "")
    counts = {side.bucket: count_tokens(event[side.text], encoding) for side in sides}
    said = f"{'+'.join(side.name for side in sides)} {encoding}"
    return {**event, **counts, "usage_source": ESTIMATED, WITH: said}


def with_estimates(events: pl.DataFrame) -> pl.DataFrame:
    """`estimated` of many RESPONSEs, with the column `estimated_with`, '' where nothing was counted.

    Where no event has a text, and that is nearly always, no event is looked at.
    """
    if all(events[name].null_count() == events.height for name in TEXT_FIELDS):
        return events.with_columns(_NO_ESTIMATE)
    has_text = events.select(pl.any_horizontal(pl.col(*TEXT_FIELDS).is_not_null())).to_series()
    rows = np.flatnonzero(has_text.to_numpy())
    made = [estimated(event) for event in events[rows].select(*CONSULTED, *_MODELS).iter_rows(named=True)]
    events = events.with_columns(_NO_ESTIMATE)
    changed = (_replaced(events[name], rows, [event.get(name, "") for event in made]) for name in (WITH, *_CHANGED))
    return events.with_columns(*changed)


def _replaced(column: pl.Series, rows: Rows, values: list[Any]) -> pl.Series:
    return column.clone().scatter(rows, pl.Series(values, dtype=column.dtype))
