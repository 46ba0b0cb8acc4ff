"""Whatever the log: each admitted event without a price is counted in one exception of its record, and no other is.

So is each with a registered identity that should not be in use, or not there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.metadata.attributing import ODDITIES
from gatemeter.processors.partition import Output
from support.generated_logs import Step, build_log, examples, programs
from support.logs import collapse, new_fold, run, to_rows

CUTS = st.lists(st.integers(1, 60), max_size=4)


def excepted(kind: str, outputs: Sequence[Output]) -> Counter[int]:
    """By offset, how many events the exceptions of a kind count."""
    found: Counter[int] = Counter()
    for row in collapse(outputs)["exceptions"].values():
        if row["kind"] == kind:
            found[row["offset"]] += json.loads(row["detail"])["events"]
    return found


def events_with(column: str, values: Sequence[str], outputs: Sequence[Output]) -> Counter[int]:
    """By offset, how many admitted events that are no lone REQUEST have a fact with one of the values."""
    places = {
        (row["offset"], row["event_index"])
        for output in outputs
        for table in ("usage_facts", "policy_facts")
        if table in output.tables
        for row in to_rows(table, output.tables[table])
        if row[column] in values and row.get("has_response", True)
    }
    return Counter(offset for offset, _ in places)


@given(programs(50, 10), CUTS, st.booleans())
@examples(40)
def test_every_event_that_is_unpriced_or_odd_is_counted_once(
    program: list[Step], cuts: list[int], columnar: bool
) -> None:
    log, views = build_log(program)
    cuts = [cut for cut in cuts if cut < len(log.records)]
    outputs = run(new_fold(views, columnar=columnar), log.records, cuts)
    assert excepted("unpriced", outputs) == events_with("price_status", ["unpriced"], outputs)
    assert excepted("identity", outputs) == events_with("attribution_note", ODDITIES, outputs)
