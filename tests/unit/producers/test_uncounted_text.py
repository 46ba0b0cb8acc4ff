"""Text leaves the gateway only where the operator asks for it and it will be counted; it never costs an event."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatemeter.processors.estimating.estimates import WITH, estimated
from gatemeter.producers import Emitter, EmitterSettings, SettingsError
from gatemeter.producers.emitter import MAX_SPOOLED_BYTES
from gatemeter.producers.uncounted import has_text, with_counted_text
from gatemeter.schemas.uncounted import TEXT_FIELDS
from support.producers import SECRET, FakeTransport, response, settings

TEXTS = {"uncounted_prompt": "what is asked", "uncounted_completion": "what is ans"}


def sent(*events: Any, folder: Path | None = None, **changed: Any) -> list[dict[str, Any]]:
    """The events as they reach Kafka, and nothing else of them stays in the spool."""
    transport = FakeTransport(partitions=1)
    emitter = Emitter(settings(folder, **changed), connect=transport)
    for event in events:
        assert emitter.response(event)
    assert emitter.close(10).undelivered == 0
    return [event for record in transport.sent for event in record.batch["events"]]


def texts(event: dict[str, Any]) -> dict[str, str]:
    return {name: event[name] for name in TEXT_FIELDS if event[name] is not None}


def test_without_the_operators_word_no_text_leaves_the_gateway() -> None:
    event = response(status="cancelled", usage_source="missing", **TEXTS)
    assert [texts(each) for each in sent(event)] == [{}]
    assert has_text(event), "the caller's event is as it was"
    assert [texts(each) for each in sent(event, uncounted_text=True)] == [TEXTS]


def test_no_text_is_written_to_the_spool_either(tmp_path: Path) -> None:
    transport = FakeTransport(partitions=1)
    transport.up = False
    emitter = Emitter(settings(tmp_path), connect=transport)
    assert emitter.response(response(status="cancelled", **TEXTS))
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"cancelled" in written and b"what is" not in written
    emitter.close(0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"usage_source": "reported", "input_text_uncached": 4, "output_text_visible": 2},
        {"input_text_uncached": 4},
        {"status": "error"},
        {"gateway_cache": "exact"},
    ],
)
def test_what_would_not_be_counted_stays_even_where_text_is_allowed(fields: dict[str, Any]) -> None:
    assert [texts(each) for each in sent(response(**TEXTS, **fields), uncounted_text=True)] == [{}]


def test_the_side_that_was_reported_keeps_its_text_at_home() -> None:
    event = response(status="cancelled", usage_source="missing", input_text_uncached=4, **TEXTS)
    (only,) = sent(event, uncounted_text=True)
    assert texts(only) == {"uncounted_completion": "what is ans"}


def test_a_text_that_does_not_fit_is_left_out_whole_and_the_event_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    long = response(status="cancelled", uncounted_prompt="x" * MAX_SPOOLED_BYTES, uncounted_completion="short")
    both = response(status="cancelled", uncounted_prompt="é" * 250_000, uncounted_completion="ü" * 240_000)
    with caplog.at_level(logging.WARNING):
        first, second = sent(long, both, uncounted_text=True)
    assert texts(first) == {"uncounted_completion": "short"}
    assert texts(second) == {"uncounted_completion": both.uncounted_completion}
    assert "a text to be counted was left out" in caplog.text


def test_half_a_surrogate_pair_costs_a_character_and_not_the_event() -> None:
    (event,) = sent(response(status="cancelled", uncounted_completion="cut \ud83d"), uncounted_text=True)
    assert texts(event) == {"uncounted_completion": "cut ?"}


def test_a_text_that_is_none_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter(settings(None, uncounted_text=True), connect=FakeTransport())
    with caplog.at_level(logging.WARNING):
        assert not emitter.response(response(status="cancelled", uncounted_prompt=["not", "text"]))
    assert "RESPONSE.uncounted_prompt: must be text or None" in caplog.text
    emitter.close(10)


@pytest.mark.parametrize(("given", "expected"), [("on", True), ("off", False), (None, False)])
def test_the_operator_says_it_in_the_environment(
    given: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv("GATEMETER_UNCOUNTED_TEXT", given)
    assert from_environment().uncounted_text is expected


def test_another_word_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEMETER_UNCOUNTED_TEXT", "yes")
    with pytest.raises(SettingsError, match="GATEMETER_UNCOUNTED_TEXT: must be on or off, got 'yes'"):
        from_environment()
    with pytest.raises(SettingsError, match="uncounted_text: must be True or False, got 1"):
        settings(None, uncounted_text=1)


def from_environment() -> EmitterSettings:
    known = {"bootstrap": "x:1", "gateway_id": "gw", "gateway_kind": "api_gateway", "kid": "k", "secret": SECRET}
    return EmitterSettings.from_environment(**known, spool_mode="memory")


@given(
    st.fixed_dictionaries(
        {name: st.sampled_from([None, "", "some text"]) for name in TEXT_FIELDS},
        optional={
            "status": st.sampled_from(["ok", "error", "cancelled", "timeout"]),
            "usage_source": st.sampled_from([None, "reported", "estimated", "missing"]),
            "gateway_cache": st.sampled_from(["none", "miss", "exact", "semantic"]),
            "input_audio_uncached": st.sampled_from([None, 0, 5]),
            "output_text_reasoning": st.sampled_from([None, 0, 5]),
            "searches": st.sampled_from([None, 1]),
        },
    )
)
def test_what_leaves_the_gateway_is_exactly_what_is_counted(fields: dict[str, Any]) -> None:
    event = response(**fields)
    kept = with_counted_text(event, allowed=True)
    counted = estimated({**msgspec.structs.asdict(event)}).get(WITH, "").split(" ")[0]
    sides = {"uncounted_prompt": "input", "uncounted_completion": "output"}
    assert [sides[name] for name in TEXT_FIELDS if getattr(kept, name) is not None] == counted.split("+") * bool(
        counted
    )
    assert estimated(msgspec.structs.asdict(kept)) == {
        **estimated(msgspec.structs.asdict(event)),
        **{name: getattr(kept, name) for name in TEXT_FIELDS},
    }
    assert not has_text(with_counted_text(event, allowed=False))
