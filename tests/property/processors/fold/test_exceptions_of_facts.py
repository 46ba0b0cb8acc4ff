"""Whatever the log: each admitted event without a price, or that does not add up, is counted in one exception, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.partition import Output
from support.generated_logs import Step, build_log, examples, programs
from support.logs import collapse, new_fold, run, to_rows

CUTS = st.lists(st.integers(1, 60), max_size=4)


def facts_with(outputs: Sequence[Output], column: str, value: str, *tables: str) -> Counter[int]:
    """By offset, how many admitted events have a fact that says so."""
    places = {
        (row["offset"], row["event_index"])
        for output in outputs
        for table in tables
        if table in output.tables
        for row in to_rows(table, output.tables[table])
        if row[column] == value
    }
    return Counter(offset for offset, _ in places)


def counted(outputs: Sequence[Output], kind: str) -> Counter[int]:
    """By offset, how many events its exceptions of a kind count."""
    found: Counter[int] = Counter()
    for row in collapse(outputs)["exceptions"].values():
        if row["kind"] == kind:
            found[row["offset"]] += json.loads(row["detail"])["events"]
    return found


@given(programs(50, 10), CUTS, st.booleans())
@examples(40)
def test_every_such_event_is_counted_once(program: list[Step], cuts: list[int], columnar: bool) -> None:
    log, views = build_log(program)
    cuts = [cut for cut in cuts if cut < len(log.records)]
    outputs = run(new_fold(views, columnar=columnar), log.records, cuts)
    unpriced = facts_with(outputs, "price_status", "unpriced", "usage_facts", "policy_facts")
    assert counted(outputs, "unpriced") == unpriced
    assert counted(outputs, "usage_inconsistent") == facts_with(outputs, "usage_consistency", "mismatch", "usage_facts")
