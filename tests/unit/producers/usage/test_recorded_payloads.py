"""Every recorded payload gives the buckets and the cost that its file works out by hand, to the last digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from gatemeter.processors.estimating.estimates import estimated
from gatemeter.processors.pricing.components import price_usage
from gatemeter.producers import RequestEvent, ResponseEvent, new_request_id, now_us
from gatemeter.producers.usage import SHAPES, Usage, usage_of_raw
from gatemeter.producers.validation import spool_form
from gatemeter.schemas.tables import BUCKETS, METERS
from support.payloads import FOLDER, TENANT, amounts_of, rate_of, recorded, usage_of

PICO = 10**12
CONSISTENT = {"consistent": True, "mismatch": False, "unverified": None}
EVERY = pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.json")))

MISTAKES = {
    "cached tokens priced nearly double": "openai_chat_cached_tokens_are_inside_the_prompt_and_not_priced_twice",
    "streamed Anthropic usage 20 to 60 % short": "anthropic_stream_output_comes_with_the_last_delta",
    "an explicit zero replaced by an estimate": "openai_chat_explicit_zero_stays_zero",
    "cancelled streams cost nothing": "openai_chat_cancelled_stream_is_not_free",
    "what was said before the cut is lost": "anthropic_cancelled_stream_keeps_the_input_and_leaves_the_output_unknown",
    "three times too high": "gemini_stream_repeats_cumulative_usage",
    "repeated usage added up": "vllm_stream_usage_repeated_in_every_chunk_is_not_added_up",
    "thoughts left out": "gemini_thoughts_are_on_top_of_the_candidates",
    "reasoning counted twice": "openai_chat_reasoning_is_inside_the_completion",
    "reasoning left out": "xai_reasoning_is_on_top_of_the_completion",
    "cache taken out of an input that excludes it": "bedrock_converse_cache_is_outside_the_input",
    "compaction left out": "anthropic_compaction_iterations_are_billed",
    "another model's tokens at this model's price": "anthropic_advisor_is_billed_at_its_own_model",
    "unknown taken for zero": "openai_chat_without_usage_is_unknown_not_zero",
}
"""Known ways of getting the cost of AI wrong, each with the record that shows it right."""


def test_there_are_enough_records_whole_and_streamed_of_every_shape() -> None:
    records = recorded().values()
    assert len(records) >= 60
    assert sum("chunks" in record for record in records) >= 20
    assert {record["shape"] for record in records} == set(SHAPES)


def test_every_known_mistake_has_a_record() -> None:
    assert set(MISTAKES.values()) <= set(recorded())


@EVERY
def test_buckets_are_those_worked_out_by_hand(name: str) -> None:
    expected, usage = recorded()[name]["expected"], usage_of(recorded()[name])
    every = dict.fromkeys((*BUCKETS, *METERS)) | expected["quantities"]
    assert usage.quantities == every
    assert CONSISTENT[usage.consistency] is expected["consistent"]
    assert usage.final is expected["final"]
    assert [_other(other) for other in usage.other_models] == expected.get("other_models", [])


def _other(usage: Usage) -> dict[str, Any]:
    known = {name: quantity for name, quantity in usage.quantities.items() if quantity is not None}
    return {"model": usage.served_model, "quantities": known}


@EVERY
def test_cost_is_that_worked_out_by_hand(name: str) -> None:
    record = recorded()[name]
    amounts = amounts_of(usage_of(record), record["rate"])
    cost = record["expected"]["cost"]
    assert amounts.price_status == ("no_usage" if cost is None else "priced")
    assert (None if amounts.provider_cost is None else Decimal(amounts.provider_cost) / PICO) == (
        None if cost is None else Decimal(cost)
    )


@EVERY
def test_who_served_it_and_what_is_wrong_are_told(name: str) -> None:
    expected, usage = recorded()[name]["expected"], usage_of(recorded()[name])
    assert {key: getattr(usage, key) for key in expected.get("texts", {})} == expected.get("texts", {})
    assert usage.usage_source == expected.get("usage_source", usage.usage_source)
    for told, wanted in (
        (usage.complaints, expected.get("complaints", [])),
        (usage.mismatches, expected.get("mismatches", [])),
    ):
        assert all(any(text.startswith(start) for text in told) for start in wanted), told
    assert bool(usage.complaints) == bool(expected.get("complaints"))
    if usage.consistency != "mismatch":
        assert not usage.mismatches


@EVERY
def test_bytes_and_parsed_answers_read_alike_and_bytes_stay_verbatim(name: str) -> None:
    record = recorded()[name]
    parsed, exact = usage_of(record), usage_of(record, as_bytes=True)
    assert exact.quantities == parsed.quantities
    assert (exact.consistency, exact.final, exact.complaints) == (parsed.consistency, parsed.final, parsed.complaints)
    assert (exact.usage_raw is None) == (parsed.usage_raw is None)
    if exact.usage_raw is not None and parsed.usage_raw is not None:
        assert json.loads(exact.usage_raw) == json.loads(parsed.usage_raw)


@EVERY
def test_the_emitter_accepts_what_comes_of_it(name: str) -> None:
    usage, now = usage_of(recorded()[name]), now_us()
    event = ResponseEvent(
        request_id=new_request_id(), request_started_at=now, occurred_at=now, status="ok", **usage.event_fields()
    )
    spool_form(event)
    assert {bucket: getattr(event, bucket) for bucket in BUCKETS} == {
        bucket: usage.quantities[bucket] for bucket in BUCKETS
    }


@EVERY
def test_the_leaves_can_be_found_again_from_the_raw_usage_alone(name: str) -> None:
    record, usage = recorded()[name], usage_of(recorded()[name])
    if usage.usage_raw is None:
        assert all(usage.quantities[bucket] is None for bucket in BUCKETS)
        return
    again = usage_of_raw(record["shape"], usage.usage_raw)
    assert {bucket: again.quantities[bucket] for bucket in BUCKETS} == {
        bucket: usage.quantities[bucket] for bucket in BUCKETS
    }
    assert again.consistency == usage.consistency


@pytest.mark.parametrize("name", sorted(name for name, record in recorded().items() if "estimate" in record))
def test_what_was_cut_or_not_reported_is_counted_from_text_and_costs_what_was_worked_out(name: str) -> None:
    record, usage = recorded()[name], usage_of(recorded()[name])
    expected = record["estimate"]
    texts = {"uncounted_prompt": expected["prompt"], "uncounted_completion": expected["completion"]}
    served = {"served_model": usage.served_model, "model": None, "usage_source": usage.usage_source}
    event = estimated({**usage.quantities, **texts, **served, "status": "cancelled", "gateway_cache": "none"})
    known = {bucket: event[bucket] for bucket in BUCKETS if event[bucket] is not None}
    assert (known, event["usage_source"], event["estimated_with"]) == (
        expected["quantities"],
        "estimated",
        expected["with"],
    )
    amounts = price_usage({**event, "purpose": "workload"}, rate_of(record["rate"]), TENANT, "A")
    assert amounts.provider_cost is not None
    assert Decimal(amounts.provider_cost) / PICO == Decimal(expected["cost"])


def test_fields_of_a_usage_are_fields_of_the_events() -> None:
    usage = usage_of(recorded()["anthropic_batch_is_a_workload_class"])
    fields = usage.event_fields()
    assert set(fields) <= set(ResponseEvent.__struct_fields__)
    assert {"workload_class", "region"} <= set(RequestEvent.__struct_fields__)
