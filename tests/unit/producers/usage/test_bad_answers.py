"""Bad answers: each bad field is refused by name and range, nothing good beside it is lost, and nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatemeter.producers import ResponseEvent
from gatemeter.producers.usage import SHAPES, UsageStream, normalise, usage_of_raw
from gatemeter.producers.validation import spool_form
from gatemeter.schemas import limits

COUNT = f"must be an integer of 0 to {limits.MAX_TOKENS_PER_EVENT}"
GARBAGE: tuple[Any, ...] = (
    None,
    7,
    "text",
    b"\x00\xff",
    [],
    {"usage": None},
    {"usage": 5},
    {"usage": [1]},
    {"usage": {"input_tokens": {}}},
    {"choices": {"a": 1}, "usage": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")}},
    {"choices": [None, 3], "usage": {"prompt_tokens": 10**5000}},
    "[" * 100_000,
    '{"usage":' * 5_000,
    '{"usage":{"prompt_tokens":' + "9" * 5_000 + "}}",
    '{"usage":{"prompt_tokens":NaN}}',
)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_garbage_gives_an_empty_usage_and_no_exception(shape: str) -> None:
    for garbage in GARBAGE:
        for usage in (normalise(shape, garbage), usage_of_raw(shape, garbage)):
            assert all(quantity in (None, 0) for quantity in usage.quantities.values())
        if SHAPES[shape].follow is not None:
            stream = UsageStream(shape)
            stream.feed(garbage)
            assert not stream.usage().is_known


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (-1, "-1"),
        (1.5, "1.5"),
        (True, "True"),
        ("12", "'12'"),
        ([5], "list"),
        ({"a": 1}, "dict"),
        (limits.MAX_TOKENS_PER_EVENT + 1, str(limits.MAX_TOKENS_PER_EVENT + 1)),
        (10**400, "an integer of 1329 bits"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("x" * 500, "'" + "x" * 60 + "…'"),
    ],
)
def test_a_bad_count_is_refused_with_its_name_and_range(value: Any, told: str) -> None:
    usage = normalise("anthropic_messages", {"id": "m", "usage": {"input_tokens": value, "output_tokens": 7}})
    no_json = ("usage: must be JSON, got ValueError",) if told in ("nan", "inf") else ()
    assert usage.complaints == (*no_json, f"usage.input_tokens: {COUNT}, got {told}")
    assert (usage.input_text_uncached, usage.output_text_visible) == (None, 7)
    assert (usage.provider_request_id, usage.consistency) == ("m", "mismatch")


def test_a_float_that_is_a_whole_number_is_a_count() -> None:
    usage = normalise("cohere_chat", {"usage": {"billed_units": {"input_tokens": 5.0, "output_tokens": 0.0}}})
    assert (usage.input_text_uncached, usage.output_text_visible, usage.complaints) == (5, 0, ())


@pytest.mark.parametrize(
    ("seconds", "media_ms"), [(9, 9_000), (8.47, 8_470), (8.470000267028809, 8_470), (0, 0), (0.0005, 0), (0.0015, 2)]
)
def test_seconds_become_whole_milliseconds(seconds: float, media_ms: int) -> None:
    usage = normalise("openai_transcription", {"usage": {"type": "duration", "seconds": seconds}})
    assert (usage.media_ms, usage.complaints) == (media_ms, ())


@pytest.mark.parametrize("seconds", [-1, True, "9", float("nan"), float("inf"), 10**9, 1e300, [9]])
def test_bad_seconds_are_refused(seconds: Any) -> None:
    usage = normalise("openai_transcription", {"usage": {"type": "duration", "seconds": seconds}})
    assert usage.media_ms is None
    assert usage.complaints[-1].startswith("usage.seconds: must be a number of 0 to 1000000 seconds, got ")


def test_leaves_that_are_too_many_together_are_dropped_so_that_the_event_is_not_refused() -> None:
    most = limits.MAX_TOKENS_PER_EVENT
    usage = normalise("anthropic_messages", {"usage": {"input_tokens": most, "output_tokens": 1}})
    assert not usage.is_known
    assert usage.complaints == (f"sum of token buckets: must be 0 to {most}, got {most + 1}",)
    assert usage.consistency == "mismatch"
    assert usage.usage_raw == '{"input_tokens":50000000,"output_tokens":1}'
    spool_form(ResponseEvent(request_id="r", request_started_at=0, occurred_at=0, status="ok", **usage.event_fields()))


def test_texts_that_are_no_texts_or_too_long_are_refused_and_do_not_spoil_the_counts() -> None:
    answer = {"id": 7, "model": "m" * 257, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    usage = normalise("openai_chat", answer)
    assert (usage.provider_request_id, usage.served_model) == (None, None)
    assert usage.complaints == (
        "id: must be text of 0 to 256 characters, got 7",
        f"model: must be text of 0 to 256 characters, got '{'m' * 60}…'",
    )
    assert usage.consistency == "consistent"


def test_a_usage_object_beyond_any_size_is_not_kept_but_read() -> None:
    answer = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "note": "n" * 70_000}}
    usage = normalise("openai_chat", answer)
    assert usage.usage_raw is None
    assert usage.complaints == (f"usage: must be 0 to 65536 characters of JSON, got {len(_text(answer['usage']))}",)
    assert (usage.input_text_uncached, usage.consistency) == (1, "consistent")


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def test_unknown_modalities_and_lifetimes_are_named() -> None:
    details = [{"modality": "SMELL", "tokenCount": 5}, {"modality": "TEXT", "tokenCount": 5}]
    usage = normalise("gemini", {"usageMetadata": {"promptTokenCount": 10, "promptTokensDetails": details}})
    assert usage.complaints == (
        "usageMetadata.promptTokensDetails[0].modality: must be one of TEXT, AUDIO, IMAGE, VIDEO, DOCUMENT,"
        " got 'SMELL'",
    )
    cache = {"inputTokens": 1, "cacheWriteInputTokens": 5, "cacheDetails": [{"ttl": "1d", "inputTokens": 5}]}
    converse = normalise("bedrock_converse", {"usage": cache})
    assert converse.complaints == ("usage.cacheDetails[0].ttl: must be 5m or 1h, got '1d'",)
    assert (usage.consistency, converse.consistency) == ("mismatch", "mismatch")


def test_iterations_that_say_nothing_leave_the_top_level_as_it_is() -> None:
    usage = normalise(
        "anthropic_messages", {"usage": {"input_tokens": 5, "output_tokens": 6, "iterations": [{"type": "message"}]}}
    )
    assert (usage.input_text_uncached, usage.output_text_visible) == (5, 6)


def test_numbers_of_a_body_in_bytes_are_kept_to_the_letter() -> None:
    raw = '{"prompt_tokens":1e1, "completion_tokens":2.00,"total_tokens":12,"cost":0.10000000000000000001}'
    usage = normalise("openai_chat", f'{{"usage":{raw},"id":"x"}}'.encode())
    assert usage.usage_raw == raw
    assert (usage.input_text_uncached, usage.output_text_visible, usage.consistency) == (10, 2, "consistent")
