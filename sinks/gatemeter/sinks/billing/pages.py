"""Pages of the usage and cost APIs of OpenAI and Anthropic: buckets of time, and the results of each.

    {"object": "page", "data": [{"start_time": …, "end_time": …, "results": [{…}]}], "has_more": false}

Anthropic has neither `object` nor seconds: its buckets go from `starting_at` to `ending_at`, in RFC 3339. A file holds
one page or several, one after the other or in an array. A bucket without results says that nothing was used in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any, Final

from gatemeter.sinks.billing.errors import BadRow, NotThisFormat
from gatemeter.sinks.billing.rows import Row, documents
from gatemeter.sinks.billing.secrets import scrubbed
from gatemeter.sinks.billing.values import Values, check_text

_BOUNDS: Final = (("start_time", "end_time"), ("starting_at", "ending_at"))


@dataclass(frozen=True, slots=True)
class Bucket:
    """From `start` to `end`, as the page writes them; its results follow."""

    start: Any
    end: Any


@dataclass(slots=True)
class Pages:
    """`unfinished`: the last page says that there are more."""

    unfinished: bool = False

    def read(self, name: str, text: TextIOWrapper) -> Iterator[Bucket | Row]:
        """Buckets, and their results as rows numbered from 1 through the file. Raises `FileBroken`, `NotThisFormat`."""
        number = 0
        for line, page in documents(name, text):
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                names = scrubbed(", ".join(sorted(page)[:6]))[:200] if isinstance(page, dict) else type(page).__name__
                raise NotThisFormat(f"{name}: expected pages with a list 'data' of buckets; at {line} is: {names}")
            self.unfinished = page.get("has_more") is True
            for bucket in page["data"]:
                for found_one in _bucket(bucket, number):
                    number += isinstance(found_one, Row)
                    yield found_one


def columns_of(document: Values) -> frozenset[str]:
    """The columns of a row of JSON; of a page those of its first result."""
    data = document.get("data")
    if isinstance(data, list):
        for bucket in data:
            for found in _bucket(bucket, 0):
                if isinstance(found, Row) and found.bad is None:
                    return frozenset(found.values)
    return frozenset(document)


def _bucket(bucket: Any, number: int) -> Iterator[Bucket | Row]:
    results = bucket.get("results") if isinstance(bucket, dict) else None
    if not isinstance(results, list):
        yield Row(number + 1, {}, BadRow("data", "a bucket must be an object with a list 'results'"))
        return
    bounds = {name: bucket.get(name) for pair in _BOUNDS for name in pair if name in bucket}
    for start, end in _BOUNDS:
        if start in bounds:
            yield Bucket(bounds[start], bounds.get(end))
    for offset, result in enumerate(results, number + 1):
        if not isinstance(result, dict):
            yield Row(offset, {}, BadRow("results", f"must be objects, got {type(result).__name__}"))
            continue
        try:
            check_text(result)
        except BadRow as error:
            yield Row(offset, {}, error)
            continue
        yield Row(offset, {**bounds, **result})
