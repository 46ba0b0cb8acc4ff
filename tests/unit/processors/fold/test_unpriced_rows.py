"""What has no price is an exception: one row a record and thing that is lacking, the same in both folds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.processors.partition import Output
from support.logs import PRICES, START_US, Gateway, Log, build, collapse, new_fold, policy, response, run, standard_view

VIEW = build(
    standard_view()
    .rate("openai", "gpt", {"input_text_uncached": 1}, above=1_000)
    .rate("openai", "gpt", PRICES, service_tier="flex", workload_class="batch")
    .rate("openai", "local", PRICES, region="eu")
    .rate("openai", "ended", PRICES, to_us=START_US)
    .policy("scan", 1, 5)
    .policy("tokens", 0, pico_per_scanned_token=5)
    .policy("both", 0, 1, pico_per_scanned_token=5)
    .plan("hits", cache_price_ppm=500_000)
    .tenant("hits", plan_id="hits")
)
VIEWS = {1: VIEW}


class Records:
    """Records of one gateway, folded in both ways."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.control(VIEW)
        self.gateway = Gateway(self.log)

    def send(self, *events: dict[str, Any]) -> int:
        return self.gateway.send(events, 1_000_000).offset

    def rows(self, *, columnar: bool, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        outputs = run(new_fold(VIEWS, columnar=columnar), self.log.records, cuts)
        return list(unpriced(outputs))


def unpriced(outputs: list[Output]) -> Any:
    return collapse(outputs)["exceptions"].values()


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def columnar(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def details(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(row["detail"]) for row in rows]


def test_the_row_says_what_is_lacking_how_often_and_where_it_came_first(columnar: bool) -> None:
    records = Records()
    lost = {"model": "unknown", "tokens": (7, 2), "region": "eu"}
    offset = records.send(response("r0", 0), response("r1", 5, **lost), response("r2", 6, **lost), response("r3", 7))
    (row,) = records.rows(columnar=columnar)
    assert {name: row[name] for name in ("offset", "event_index", "kind", "gateway_id", "request_id", "attempt")} == {
        "offset": offset,
        "event_index": 1,
        "kind": "unpriced",
        "gateway_id": "gw-a",
        "request_id": "r1",
        "attempt": 1,
    }
    assert (row["raw"], row["first_offset"], row["recorded_at"]) == (b"", None, START_US + 1_000_000)
    assert json.loads(row["detail"]) == {
        "event": "RESPONSE",
        "reason": "unknown_model",
        "provider": "openai",
        "model": "unknown",
        "served_model": "",
        "service_tier": "",
        "workload_class": "realtime",
        "region": "eu",
        "missing": [],
        "input_tokens_above": None,
        "events": 2,
        "input_tokens": 14,
        "output_tokens": 4,
        "request_started_at_us": START_US + 5,
    }


@pytest.mark.parametrize(
    ("fields", "reason", "missing", "above"),
    [
        ({"served_model": "unknown"}, "unknown_model", [], None),
        ({"service_tier": "flexx"}, "unknown_tier", [], None),
        ({"service_tier": "flex"}, "unknown_class", [], None),
        ({"model": "local", "region": "us"}, "unknown_region", [], None),
        ({"model": "ended"}, "no_price_then", [], None),
        ({"searches": 1, "images": 2}, "bucket_without_price", ["images", "searches"], 0),
        ({"tokens": (1_001, 1)}, "bucket_without_price", ["output_text_visible"], 1_000),
    ],
)
def test_each_reason_is_named(
    columnar: bool, fields: dict[str, Any], reason: str, missing: list[str], above: int | None
) -> None:
    records = Records()
    records.send(response("r1", 0, **fields))
    (detail,) = details(records.rows(columnar=columnar))
    assert (detail["reason"], detail["missing"], detail["input_tokens_above"]) == (reason, missing, above)


def test_what_differs_in_what_it_lacks_is_a_row_of_its_own(columnar: bool) -> None:
    records = Records()
    records.send(
        response("r1", 0, model="one"),
        response("r2", 0, model="two"),
        response("r3", 0, searches=1),
        response("r4", 0, images=1),
        response("r5", 0, model="one", searches=1),
    )
    rows = records.rows(columnar=columnar)
    found = {
        row["event_index"]: (detail["reason"], detail["events"])
        for row, detail in zip(rows, details(rows), strict=True)
    }
    assert found == {
        0: ("unknown_model", 2),
        1: ("unknown_model", 1),
        2: ("bucket_without_price", 1),
        3: ("bucket_without_price", 1),
    }


def test_exchanges_that_are_not_simple_are_counted_with_the_others_of_their_record(columnar: bool) -> None:
    records = Records()
    records.send(
        response("r1", 0, model="unknown"),
        response("r1", 0, model="unknown", usage_revision=1),
        response("r2", 0, model="unknown"),
        response("r2", 0, model="unknown"),
        response("r3", 0, model="unknown"),
    )
    (row,) = records.rows(columnar=columnar)
    assert row["event_index"] == 0
    assert json.loads(row["detail"])["events"] == 4, "each admitted one: a duplicate is none"


def test_each_record_has_rows_of_its_own_wherever_it_is_cut(columnar: bool) -> None:
    records = Records()
    offsets = [records.send(response(f"r{number}", 0, model="unknown")) for number in range(3)]
    whole = records.rows(columnar=columnar)
    assert [row["offset"] for row in whole] == offsets
    assert records.rows(columnar=columnar, cuts=(offsets[1], offsets[2])) == whole


def test_a_decision_without_a_price_is_one_too(columnar: bool) -> None:
    records = Records()
    records.send(
        policy("r1", 0, "d1"),
        policy("r1", 0, "d2", policy_id="scan", units=None),
        policy("r1", 0, "d3", policy_id="other"),
        policy("r2", 0, "d4", policy_id="other", subject_gateway_id="gw-b"),
        policy("r2", 0, "d5", policy_id="other", evaluator_request_id="e1"),
    )
    rows = records.rows(columnar=columnar)
    assert [(row["event_index"], row["gateway_id"], row["request_id"]) for row in rows] == [
        (1, "gw-a", "r1"),
        (2, "gw-a", "r1"),
    ]
    assert details(rows) == [
        {"event": "POLICY", "reason": "no_units", "policy_id": "scan", "events": 1, "request_started_at_us": START_US},
        {
            "event": "POLICY",
            "reason": "unknown_policy",
            "policy_id": "other",
            "events": 2,
            "request_started_at_us": START_US,
        },
    ]


def test_what_is_free_or_without_usage_is_no_exception(columnar: bool) -> None:
    records = Records()
    records.send(
        response("r1", 0),
        response("r2", 0, gateway_cache="exact"),
        response("r3", 0, model="unknown", tokens=None),
        response("r4", 0, model="unknown", tokens=None, gateway_cache="exact"),
    )
    assert records.rows(columnar=columnar) == []


def test_a_free_hit_that_nobody_can_say_the_saving_of_is_an_exception_of_its_own(columnar: bool) -> None:
    records = Records()
    hit = {"model": "unknown", "gateway_cache": "exact"}
    records.send(response("r1", 0, model="unknown"), response("r2", 0, **hit), response("r3", 0, **hit, tokens=(7, 3)))
    rows = records.rows(columnar=columnar)
    assert [(row["event_index"], row["kind"]) for row in rows] == [(0, "unpriced"), (1, "avoided_unpriced")]
    assert [(each["reason"], each["events"], each["input_tokens"]) for each in details(rows)] == [
        ("unknown_model", 1, 100),
        ("unknown_model", 2, 107),
    ]


def test_a_hit_that_has_a_price_is_unpriced_like_a_call(columnar: bool) -> None:
    records = Records()
    records.send(*(response("r", 0, tenant_id="hits", images=2, attempt=at, gateway_cache="semantic") for at in (1, 2)))
    (row,) = records.rows(columnar=columnar)
    detail = json.loads(row["detail"])
    assert (row["kind"], detail["reason"], detail["missing"]) == ("unpriced", "bucket_without_price", ["images"])
    assert (detail["events"], detail["input_tokens"], detail["output_tokens"]) == (2, 200, 40)


def test_a_decision_lacks_the_first_quantity_that_its_price_needs(columnar: bool) -> None:
    records = Records()
    records.send(
        policy("r1", 0, "d1", policy_id="tokens", units=None, scanned_tokens=5),
        policy("r1", 0, "d2", policy_id="tokens", units=9),
        policy("r1", 0, "d3", policy_id="both", units=None),
    )
    rows = records.rows(columnar=columnar)
    assert [(row["event_index"], each["reason"]) for row, each in zip(rows, details(rows), strict=True)] == [
        (1, "no_scanned_tokens"),
        (2, "no_units"),
    ]


def test_a_replay_writes_none_again_and_a_new_worker_the_same(columnar: bool) -> None:
    records = Records()
    records.send(response("r1", 0, model="unknown"))
    first = new_fold(VIEWS, columnar=columnar)
    checkpoint = run(first, records.log.records)[-1].checkpoint
    records.send(response("r2", 0, model="unknown"))
    resumed = new_fold(VIEWS, columnar=columnar, checkpoint=checkpoint)
    (row,) = unpriced(run(resumed, records.log.records))
    assert row["request_id"] == "r2"
    assert records.rows(columnar=columnar)[1] == row
