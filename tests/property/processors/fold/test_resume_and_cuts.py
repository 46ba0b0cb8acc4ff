"""No cut between fold calls, no crash and no resume changes what ends up in the tables; totals are always conserved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.fold.state import Totals
from gatemeter.processors.fold.windows import DIMENSIONS, MEASURES
from gatemeter.processors.partition import Output
from support.generated_logs import Step, build_log, examples, programs
from support.logs import assert_conserved, collapse, new_fold, received, run

CUTS = st.lists(st.integers(1, 60), max_size=8)


def totals(output: Output) -> dict[str, int]:
    assert output.checkpoint is not None
    return {name: output.checkpoint[name] for name in Totals.__dataclass_fields__}


@pytest.mark.parametrize("columnar", [False, True], ids=["plain", "columnar"])
@given(programs(min_size=10), CUTS, CUTS, st.integers(0, 60), st.booleans())
@examples(25)
def test_a_crash_anywhere_and_other_cuts_afterwards_change_nothing(
    columnar: bool, program: list[Step], cuts: list[int], later_cuts: list[int], crash: int, lost_rows: bool
) -> None:
    log, views = build_log(program)
    within = len(log.records)
    expected = run(new_fold(views, columnar=columnar), log.records)
    first = run(new_fold(views, columnar=columnar), log.records, [cut for cut in cuts if cut < within])
    for output in first:
        assert_conserved(output.checkpoint)
    saved = first[crash % len(first)]
    resumed = new_fold(views, columnar=columnar, checkpoint=saved.checkpoint)
    again = run(resumed, log.records, [cut for cut in later_cuts if cut < within])
    kept = first[: crash % len(first) + 1] if lost_rows else first
    assert collapse([*kept, *again]) == collapse(expected)
    assert received([*kept, *again]) == received(expected)
    assert totals(again[-1] if again[-1].checkpoint else saved) == totals(expected[-1])


@given(programs(min_size=10))
@examples(25)
def test_windows_are_the_sum_of_what_all_facts_state(program: list[Step]) -> None:
    log, views = build_log(program)
    tables = collapse(run(new_fold(views, columnar=True), log.records))
    windows, usage, decisions = (
        list(tables[name].values()) for name in ("usage_windows", "usage_facts", "policy_facts")
    )

    def total(rows: list[dict[str, Any]], *names: str) -> int:
        return sum(row[name] or 0 for row in rows for name in names)

    assert total(windows, "input_tokens", "output_tokens") == total(usage, "window_tokens")
    assert total(windows, "charge") == total(usage, "window_cost") + total(decisions, "window_cost")
    assert total(windows, "decisions") == sum(row["fresh"] for row in decisions)
    components = ("token_cost", "model_cost", "policy_cost")
    internal = sum(row["policy_cost"] or 0 for row in decisions if row["billed_by"] == "internal" and row["fresh"])
    assert total(windows, *components) == total(windows, "provider_cost") + internal
    for row in (*usage, *({**dict.fromkeys(MEASURES, 0), **row} for row in decisions)):
        if row["price_status"] in ("priced", "free"):
            own = row["policy_cost"] if row.get("billed_by") == "internal" else 0
            assert total([row], *components) == row["provider_cost"] + own
            margin = row["markup"] + own + row["cache_price"] - row["absorbed"]
            assert row["charge"] - row["provider_cost"] == margin
            assert row["charge"] == total([row], *components, "markup", "cache_price") - row["absorbed"]
    over_slices: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in windows:
        sums = over_slices.setdefault(tuple(row[name] for name in DIMENSIONS), dict.fromkeys(MEASURES, 0))
        for name in MEASURES:
            sums[name] += row[name]
    assert not [sums for sums in over_slices.values() if min(sums.values()) < 0]


@given(programs(min_size=10))
@examples(25)
def test_of_each_attempt_the_best_information_is_the_truth_once(program: list[Step]) -> None:
    """Of all rows that were written for an attempt: a RESPONSE, the highest revision, then the first record."""
    log, views = build_log(program)
    outputs = run(new_fold(views, columnar=False), log.records)
    best: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in (row for output in outputs for row in _rows(output)):
        key = (row["gateway_id"], row["request_id"], row["attempt"])
        rank = (row["has_response"], row["usage_revision"], -row["offset"], row["paired"])
        best[key] = max(best.get(key, rank), rank)
    chosen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in collapse(outputs)["usage_facts"].values():
        key = (row["gateway_id"], row["request_id"], row["attempt"])
        if key not in chosen or row["version"] > chosen[key]["version"]:
            chosen[key] = row
    assert set(chosen) == set(best)
    for key, row in chosen.items():
        assert (row["has_response"], row["usage_revision"], -row["offset"], row["paired"]) == best[key]


def _rows(output: Output) -> list[dict[str, Any]]:
    return output.tables["usage_facts"].to_pylist() if "usage_facts" in output.tables else []
