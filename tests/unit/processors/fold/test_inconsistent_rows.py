"""Usage that does not add up is an exception: one row a record and model, the same in both folds; nothing is moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.logs import START_US, Gateway, Log, build, collapse, new_fold, request, response, run, standard_view, truth

VIEW = build(standard_view())
VIEWS = {1: VIEW}
SAID = "usage.total_tokens: must be 120, the sum of its leaves, got 130\nusage.b: must be 1, got 2"
MARKED = {"usage_consistency": "mismatch", "usage_mismatches": SAID}


class Records:
    """Records of one gateway."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.control(VIEW)
        self.gateway = Gateway(self.log)

    def send(self, *events: dict[str, Any]) -> int:
        return self.gateway.send(events, 1_000_000).offset

    def tables(self, *, columnar: bool, cuts: tuple[int, ...] = ()) -> dict[str, Any]:
        return collapse(run(new_fold(VIEWS, columnar=columnar), self.log.records, cuts))

    def rows(self, *, columnar: bool, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        rows = self.tables(columnar=columnar, cuts=cuts)["exceptions"].values()
        return [row for row in rows if row["kind"] == "usage_inconsistent"]


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def columnar(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_row_says_which_totals_disagree_how_often_and_where_it_came_first(columnar: bool) -> None:
    records = Records()
    other = MARKED | {"usage_mismatches": "usage.c: must be 1", "tokens": (7, 2)}
    offset = records.send(response("r0", 0), response("r1", 5, **MARKED), response("r2", 6, **other))
    (row,) = records.rows(columnar=columnar)
    assert {name: row[name] for name in ("offset", "event_index", "gateway_id", "request_id", "attempt")} == {
        "offset": offset,
        "event_index": 1,
        "gateway_id": "gw-a",
        "request_id": "r1",
        "attempt": 1,
    }
    assert (row["raw"], row["first_offset"], row["recorded_at"]) == (b"", None, START_US + 1_000_000)
    assert json.loads(row["detail"]) == {
        "event": "RESPONSE",
        "provider": "openai",
        "model": "gpt",
        "served_model": "",
        "operation": "",
        "mismatches": SAID.splitlines(),
        "events": 2,
        "input_tokens": 107,
        "output_tokens": 22,
        "request_started_at_us": START_US + 5,
    }


def test_the_fact_is_marked_and_priced_as_its_buckets_say(columnar: bool) -> None:
    records = Records()
    records.send(
        response("plain", 0), response("marked", 0, **MARKED), response("agreed", 0, usage_consistency="consistent")
    )
    facts = truth(records.tables(columnar=columnar))
    by_request = {key[1]: fact for key, fact in facts.items()}
    assert {name: fact["usage_consistency"] for name, fact in by_request.items()} == {
        "plain": "",
        "marked": "mismatch",
        "agreed": "consistent",
    }
    same = ("input_text_uncached", "output_text_visible", "provider_cost", "charge", "price_status", "usage_source")
    assert [by_request["marked"][name] for name in same] == [by_request["plain"][name] for name in same]


def test_models_have_rows_of_their_own_and_records_too(columnar: bool) -> None:
    records = Records()
    first = records.send(response("r1", 0, **MARKED), response("r2", 0, model="unknown", **MARKED))
    second = records.send(response("r3", 0, **MARKED))
    places = {(row["offset"], row["event_index"]) for row in records.rows(columnar=columnar)}
    assert places == {(first, 0), (first, 1), (second, 0)}


def test_a_mark_without_words_is_a_row_and_words_without_a_mark_are_none(columnar: bool) -> None:
    records = Records()
    records.send(response("r1", 0, usage_consistency="mismatch"), response("r2", 0, usage_mismatches="beside nothing"))
    (row,) = records.rows(columnar=columnar)
    assert (row["request_id"], json.loads(row["detail"])["mismatches"]) == ("r1", [])


def test_a_request_cannot_be_marked(columnar: bool) -> None:
    records = Records()
    records.send(request("r", 0, **MARKED))
    records.gateway.send([], 11 * 60_000_000)
    tables = records.tables(columnar=columnar)
    (orphan,) = tables["usage_facts"].values()
    assert (orphan["status"], orphan["usage_consistency"], len(tables["exceptions"])) == ("orphan", "", 0)


def test_a_conflict_is_not_counted_and_a_later_revision_is(columnar: bool) -> None:
    records = Records()
    records.send(response("r", 0), response("r", 0, tokens=(1, 1), **MARKED))
    offset = records.send(response("r", 0, usage_revision=1, **MARKED))
    (row,) = records.rows(columnar=columnar)
    assert (row["offset"], json.loads(row["detail"])["events"]) == (offset, 1)


def test_both_folds_and_all_cuts_write_the_same_rows() -> None:
    records = Records()
    for number in range(4):
        records.send(
            response(f"a{number}", number, **MARKED),
            response("again", 0, usage_revision=number, **MARKED),
            response(f"b{number}", number, model="other", **MARKED),
        )
    expected = records.rows(columnar=False)
    assert len(expected) == 8
    for cuts in ((), (1,), (2, 4), (1, 2, 3, 4)):
        assert records.rows(columnar=True, cuts=cuts) == records.rows(columnar=False, cuts=cuts) == expected
