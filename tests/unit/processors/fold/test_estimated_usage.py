"""Usage that no provider reported is counted from text, in both folds alike, and never in place of a number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.processors.estimating.counting import count_tokens
from gatemeter.schemas.tables import BUCKETS
from support.logs import (
    PRICES,
    Gateway,
    Log,
    build,
    collapse,
    new_fold,
    response,
    run,
    standard_view,
    truth,
    window_total,
)

PROMPT = "Summarise the minutes of the board meeting, please. <|endoftext|>"
ANSWER = "The board approved"
BOTH_TEXTS = {"uncounted_prompt": PROMPT, "uncounted_completion": ANSWER, "usage_source": "missing"}
IN, OUT = count_tokens(PROMPT, "o200k_base"), count_tokens(ANSWER, "o200k_base")
VIEW = build(standard_view().rate("openai", "gpt-4", PRICES))


@pytest.fixture(params=[False, True], ids=["plain", "columnar"])
def columnar(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def tables_of(*records: list[dict[str, Any]], columnar: bool) -> dict[str, Any]:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    for number, events in enumerate(records):
        gateway.send(events, number * 1_000_000)
    return collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records))


def fact_of(*, columnar: bool, tokens: tuple[int, int] | None = None, **fields: Any) -> dict[str, Any]:
    event = response("r", 0, tokens=tokens, **{"status": "cancelled", **fields})
    (fact,) = truth(tables_of([event], columnar=columnar)).values()
    return fact


def known(fact: dict[str, Any]) -> dict[str, int]:
    return {name: fact[name] for name in BUCKETS if fact[name] is not None}


def test_a_cancelled_stream_is_counted_priced_and_called_an_estimate(columnar: bool) -> None:
    fact = fact_of(columnar=columnar, **BOTH_TEXTS)
    assert known(fact) == {"input_text_uncached": IN, "output_text_visible": OUT}
    assert (fact["usage_source"], fact["estimated_with"]) == ("estimated", "input+output o200k_base")
    assert (fact["price_status"], fact["status"]) == ("priced", "cancelled")
    assert fact["provider_cost"] == IN * PRICES["input_text_uncached"] + OUT * PRICES["output_text_visible"]


@pytest.mark.parametrize("source", [None, "missing", "reported"])
def test_a_server_that_reports_nothing_is_counted(columnar: bool, source: str | None) -> None:
    fact = fact_of(columnar=columnar, **{**BOTH_TEXTS, "status": "ok", "usage_source": source})
    assert (known(fact), fact["usage_source"]) == (
        {"input_text_uncached": IN, "output_text_visible": OUT},
        "estimated",
    )


@pytest.mark.parametrize("asked", ["model", "served_model"])
def test_the_served_model_says_the_encoding(columnar: bool, asked: str) -> None:
    fact = fact_of(columnar=columnar, **{**BOTH_TEXTS, asked: "gpt-4"})
    assert fact["estimated_with"] == "input+output cl100k_base"
    assert fact["input_text_uncached"] == count_tokens(PROMPT, "cl100k_base")


def test_the_missing_side_alone_is_counted_beside_a_lower_bound(columnar: bool) -> None:
    fact = fact_of(columnar=columnar, **BOTH_TEXTS, input_text_uncached=900, input_text_cache_read=0)
    assert known(fact) == {"input_text_uncached": 900, "input_text_cache_read": 0, "output_text_visible": OUT}
    assert (fact["usage_source"], fact["estimated_with"]) == ("estimated", "output o200k_base")


@pytest.mark.parametrize("bucket", ["output_text_visible", "output_text_reasoning", "output_audio_visible"])
def test_an_explicit_zero_is_never_replaced(columnar: bool, bucket: str) -> None:
    fact = fact_of(columnar=columnar, **BOTH_TEXTS, **{bucket: 0})
    assert known(fact) == {"input_text_uncached": IN, bucket: 0}


@pytest.mark.parametrize(
    "fields",
    [
        {"usage_source": "reported", "input_text_uncached": 8},
        {"usage_source": None, "input_text_uncached": 0},
        {"usage_source": "reported", "images": 1},
    ],
)
def test_nothing_is_counted_beside_the_providers_last_word(columnar: bool, fields: dict[str, Any]) -> None:
    fact = fact_of(columnar=columnar, **{**BOTH_TEXTS, **fields})
    assert known(fact) == {name: count for name, count in fields.items() if name in BUCKETS}
    assert (fact["usage_source"], fact["estimated_with"]) == ("reported", "")


@pytest.mark.parametrize("fields", [{"status": "error"}, {"gateway_cache": "exact"}, {"gateway_cache": "semantic"}])
def test_what_no_provider_bills_is_not_estimated(columnar: bool, fields: dict[str, Any]) -> None:
    fact = fact_of(columnar=columnar, **{**BOTH_TEXTS, **fields})
    assert (known(fact), fact["usage_source"], fact["estimated_with"]) == ({}, "missing", "")


def test_no_text_is_no_estimate_and_an_empty_text_is_no_token(columnar: bool) -> None:
    fact = fact_of(columnar=columnar, usage_source="missing")
    assert (known(fact), fact["usage_source"], fact["charge"]) == ({}, "missing", None)
    fact = fact_of(columnar=columnar, usage_source="missing", uncounted_completion="")
    assert (known(fact), fact["usage_source"]) == ({"output_text_visible": 0}, "estimated")


def test_a_gateways_own_estimate_is_told_apart_from_ours(columnar: bool) -> None:
    fact = fact_of(columnar=columnar, tokens=(9, 9), usage_source="estimated")
    assert (fact["usage_source"], fact["estimated_with"]) == ("estimated", "")


def test_a_reported_value_that_comes_later_replaces_the_estimate(columnar: bool) -> None:
    estimate = response("r", 0, tokens=None, status="cancelled", **BOTH_TEXTS)
    reported = response("r", 5, started_us=0, status="cancelled", tokens=(7, 3), usage_revision=1)
    tables = tables_of([estimate], [reported], columnar=columnar)
    (fact,) = truth(tables).values()
    assert (known(fact), fact["usage_source"], fact["estimated_with"]) == (
        {"input_text_uncached": 7, "output_text_visible": 3},
        "reported",
        "",
    )
    assert window_total(tables, "input_tokens", "output_tokens") == 10
    by_source = {row["usage_source"]: row["charge"] for row in tables["usage_windows"].values()}
    assert by_source == {"estimated": 0, "reported": fact["charge"]}


def test_no_text_reaches_a_table_but_as_the_bytes_of_a_record_in_question(columnar: bool) -> None:
    estimate = response("r", 0, tokens=None, status="cancelled", **BOTH_TEXTS)
    other = {**estimate, "uncounted_completion": ANSWER + " it"}
    tables = tables_of([estimate], [other], [response("s", 0, tokens=None, **BOTH_TEXTS)], columnar=columnar)
    for table, rows in tables.items():
        for row in rows.values():
            shown = repr({name: value for name, value in row.items() if name not in ("raw", "first_raw")})
            assert PROMPT[:20] not in shown and ANSWER not in shown, table
    (conflict,) = tables["exceptions"].values()
    assert json.loads(conflict["detail"])["differs"] == [
        {
            "field": "uncounted_completion",
            "first": f"text of {len(ANSWER)} characters",
            "second": f"text of {len(ANSWER) + 3} characters",
        }
    ]


def test_many_events_of_which_some_have_texts_fold_alike() -> None:
    events = [
        response(f"r{number}", number, tokens=None if number % 3 else (5, 6), **(BOTH_TEXTS if number % 2 else {}))
        for number in range(40)
    ]
    plain, columns = (tables_of(events, columnar=columnar) for columnar in (False, True))
    assert plain == columns
    assert {fact["usage_source"] for fact in truth(plain).values()} == {"estimated", "missing", "reported"}
