"""A refused event says which field, what is accepted and what it was."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from gatemeter.producers.encoding import EventEncoder, UnknownForm, avro_long
from gatemeter.producers.events import FIELDS, PolicyEvent, new_request_id, now_us
from gatemeter.producers.validation import InvalidEvent, spool_form
from gatemeter.schemas import codec, limits
from support.producers import request, response


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latency_us": -5}, "RESPONSE.latency_us: must be an integer of 0 to 2678400000000 or None, got -5"),
        ({"attempt": 0}, "RESPONSE.attempt: must be an integer of 1 to 65535, got 0"),
        ({"request_id": ""}, "RESPONSE.request_id: must be text of 1 to 256 characters, got ''"),
        ({"request_id": "x" * 257}, "RESPONSE.request_id: must be text of 1 to 256 characters"),
        ({"status": "fine"}, "RESPONSE.status: must be one of cancelled, error, in_progress, ok, timeout, got 'fine'"),
        ({"usage_revision": 128}, "RESPONSE.usage_revision: must be an integer of 0 to 127, got 128"),
        (
            {"status": "in_progress"},
            "RESPONSE.workload_class: must be batch where status is in_progress, got realtime",
        ),
        (
            {"status": "in_progress", "workload_class": "batch", "input_text_uncached": 0},
            "RESPONSE.input_text_uncached: must be None where status is in_progress, got 0",
        ),
        ({"images": 1.5}, "RESPONSE.images: must be an integer of 0 to 10000 or None, got 1.5"),
        ({"stream": 1}, "RESPONSE.stream: must be true or false or None, got 1"),
        ({"input_text_uncached": 50_000_001}, "RESPONSE.input_text_uncached: must be an integer of 0 to 50000000"),
        (
            {"input_text_uncached": 50_000_000, "output_text_visible": 1},
            "RESPONSE: the token buckets must add up to 0 to 50000000, got 50000001",
        ),
        ({"usage_mismatches": "x" * 4097}, "RESPONSE.usage_mismatches: must be text of 0 to 4096 characters"),
        (
            {"usage_mismatches": "a.b: must be 1", "usage_consistency": "consistent"},
            "RESPONSE.usage_consistency: must be mismatch beside usage_mismatches, got 'consistent'",
        ),
        *(
            (
                {"client_network": said},
                "RESPONSE.client_network: must be a network of at most 24 bits (203.0.113.0/24), in IPv6 of at most 48"
                f" (2001:db8:7::/48) or None, got {said!r}",
            )
            for said in (
                "203.0.113.7",
                "203.0.113.7/32",
                "2001:db8:7::1",
                "2001:db8:7::/64",
                "the office",
                "1.2.3.0/24\n",
                "",
            )
        ),
        ({"tenant_id": "\ud800"}, "RESPONSE: cannot be written"),
        ({"latency_us": 2**70}, "RESPONSE: cannot be written"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        spool_form(response(**changed))


def test_the_start_must_not_be_after_the_event_nor_too_long_before_it() -> None:
    now = now_us()
    for started in (now + 1, now - limits.MAX_REQUEST_AGE_US - 1):
        with pytest.raises(InvalidEvent, match="request_started_at: must be 0 to 3024000000000 us before occurred_at"):
            spool_form(request(request_started_at=started, occurred_at=now))
    spool_form(request(request_started_at=now - limits.MAX_REQUEST_AGE_US, occurred_at=now))


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="must be one of REQUEST, RESPONSE, POLICY, got dict"):
        spool_form({})  # type: ignore[arg-type]


def test_every_field_of_the_schema_belongs_to_an_event() -> None:
    assert {name for names in FIELDS.values() for name in names} | {"kind"} == set(codec.EVENT_FIELDS)


def test_the_spool_form_of_a_release_does_not_change() -> None:
    event = PolicyEvent(
        request_id="r", request_started_at=1, occurred_at=2, decision_id="d", policy_id="p", outcome="deny"
    )
    values = msgspec.msgpack.decode(spool_form(event))
    assert values[:4] == ["POLICY", "r", 1, 2]
    assert dict(zip(FIELDS["POLICY"], values[1:], strict=True))["outcome"] == "deny"


def test_events_of_a_later_release_are_not_guessed_at() -> None:
    with pytest.raises(UnknownForm, match="colour"):
        EventEncoder({"REQUEST": ["request_id", "colour"]})
    with pytest.raises(UnknownForm, match="GREETING"):
        EventEncoder({"GREETING": ["request_id"]})


def test_avro_longs_at_the_borders_of_their_lengths() -> None:
    for bits in range(64):
        for value in (1 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) + 1):
            if -(1 << 63) <= value < 1 << 63:
                assert avro_long(value) == codec._long(value)


def test_request_ids_are_random() -> None:
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(entry) == 32 for entry in ids)
