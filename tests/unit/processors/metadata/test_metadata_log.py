"""The metadata log: signatures, refusals that do not stop it, views and digests below any offset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from gatemeter.processors.metadata.hashing import card_content_hash
from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused, NeedsMetadata
from gatemeter.schemas.codec import encode
from gatemeter.schemas.signing import OperatorKey

KEY = OperatorKey.generate("op-1")
TENANT: dict[str, Any] = {
    "tenant_id": "acme",
    "effective_from": 10,
    "effective_to": None,
    "name": "Acme",
    "cost_centre": "CC-1",
    "business_unit": None,
    "organisation": None,
    "plan_id": "standard",
    "apps": [],
}
PLAN: dict[str, Any] = {
    "plan_id": "standard",
    "effective_from": 0,
    "effective_to": None,
    "markup_ppm": 80_000,
    "retry_rule": "final_only",
    "retry_cost_centre": "retries",
    "cache_rule": "free",
    "cache_price_ppm": 0,
    "accept_claimed_identity": True,
}
RATE: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt",
    "service_tier": None,
    "workload_class": "any",
    "region": None,
    "effective_from": 0,
    "effective_to": None,
    "input_tokens_above": 0,
    "list_pico": {"input_text_uncached": 5},
    "provider_pico": {"input_text_uncached": 4},
    "text_prices_all": False,
}


def card(*rates: Mapping[str, Any]) -> dict[str, Any]:
    datum = {
        "card_id": "c",
        "effective_from": 0,
        "effective_to": None,
        "currency": "USD",
        "source": "test",
        "rates": list(rates),
    }
    return {**datum, "content_hash": card_content_hash(datum)}


def new_log() -> MetadataLog:
    return MetadataLog({KEY.kid: KEY.public_hex})


def append(log: MetadataLog, name: str, datum: Mapping[str, Any], key: OperatorKey = KEY) -> bytes:
    value = encode(name, datum)
    log.append(log.loaded_to, value, dict(key.headers(value)))
    return value


def test_a_view_holds_the_records_below_its_offset() -> None:
    log = new_log()
    append(log, "ChargePlan", PLAN)
    append(log, "Tenant", TENANT)
    assert log.view(1).attribution("acme", "", 10).attribution == "unattributed"
    assert log.view(2).attribution("acme", "", 10).plan.markup_ppm == 80_000
    assert log.view(2) is log.view(2)
    assert (log.view(0).offset, log.view(2).offset) == (0, 2)


def test_what_is_not_loaded_yet_is_asked_for_by_offset() -> None:
    log = new_log()
    append(log, "ChargePlan", PLAN)
    for ask in (log.view, log.digest):
        with pytest.raises(NeedsMetadata) as needed:
            ask(2)
        assert needed.value.offset == 2


def test_the_digest_is_over_offset_length_and_value_of_each_record() -> None:
    log = new_log()
    value = append(log, "ChargePlan", PLAN)
    expected = hashlib.blake2b(bytes(8) + len(value).to_bytes(8, "big") + value, digest_size=32).digest()
    assert log.digest(0) == hashlib.blake2b(digest_size=32).digest()
    assert log.digest(1) == expected == log.view(1).digest


def test_a_signature_of_a_stranger_or_of_another_value_is_refused() -> None:
    log = new_log()
    with pytest.raises(MetadataRefused, match=r"offset 0 refused: not signed by a known operator \(key id 'op-2'\)"):
        append(log, "ChargePlan", PLAN, OperatorKey.generate("op-2"))
    with pytest.raises(MetadataRefused, match="not signed by a known operator"):
        append(log, "ChargePlan", PLAN, OperatorKey.generate("op-1"))
    with pytest.raises(MetadataRefused, match="not signed by a known operator"):
        log.append(2, encode("ChargePlan", PLAN), dict(KEY.headers(b"something else")))


@pytest.mark.parametrize("signature", [None, b"", b"short", bytes(64)])
def test_headers_that_are_no_signature_are_refused(signature: bytes | None) -> None:
    with pytest.raises(MetadataRefused, match="not signed by a known operator"):
        new_log().append(0, encode("ChargePlan", PLAN), {"gm-kid": KEY.kid.encode(), "gm-sig": signature})
    with pytest.raises(MetadataRefused, match="not signed by a known operator"):
        new_log().append(0, encode("ChargePlan", PLAN), {"gm-kid": None})


def test_a_refused_record_counts_as_read_and_is_part_of_the_digest() -> None:
    with_junk, without = new_log(), new_log()
    with pytest.raises(MetadataRefused):
        with_junk.append(0, b"junk", {})
    append(with_junk, "ChargePlan", PLAN)
    append(without, "ChargePlan", PLAN)
    assert with_junk.loaded_to == 2
    assert with_junk.view(2).plans.keys() == without.view(1).plans.keys()
    assert with_junk.digest(2) != without.digest(1)


@pytest.mark.parametrize(
    ("name", "datum", "reason"),
    [
        ("ChargePlan", {**PLAN, "markup_ppm": 10_000_001}, "markup_ppm must be 0 to 10000000, got 10000001"),
        (
            "ChargePlan",
            {**PLAN, "retry_rule": "sometimes"},
            "retry_rule must be one of all_provider_charged, final_only",
        ),
        ("Tenant", {**TENANT, "tenant_id": ""}, "tenant_id must be 1 to 256 characters"),
        ("Tenant", {**TENANT, "effective_to": 10}, "effective_to must be after effective_from, got from 10 to 10"),
        ("RateCard", card({**RATE, "provider_pico": {}}), "must have the same keys; only one of them has input_text"),
        (
            "RateCard",
            card({**RATE, "list_pico": {"input_text_uncached": 5_000_000_001}}),
            "provider 'openai' model 'gpt': price of input_text_uncached must be 0 to 5000000000 pico a token",
        ),
        ("RateCard", card({**RATE, "list_pico": {"x": 1}, "provider_pico": {"x": 1}}), "no such bucket or fee"),
        ("RateCard", card({**RATE, "region": ""}), "region must be null for any region, got ''"),
        ("RateCard", card(RATE, RATE), "two lines above 0 overlap in time"),
        ("RateCard", {**card(RATE), "content_hash": "0" * 64}, "content_hash must be"),
        (
            "Control",
            {"topic": "t", "partition": 0, "metadata_offset": 0, "view_digest": bytes(32), "issued_at": 0},
            "kind",
        ),
    ],
)
def test_a_signed_record_out_of_range_is_refused_with_field_and_range(
    name: str, datum: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MetadataRefused) as refused:
        append(new_log(), name, datum)
    assert reason in str(refused.value)


def test_a_key_id_that_another_gateway_has_is_refused_and_the_log_goes_on() -> None:
    log = new_log()
    keys = [{"kid": "k", "valid_from": 0, "valid_to": None}]
    append(log, "Gateway", {"gateway_id": "one", "gateway_kind": "api_gateway", "keys": keys})
    with pytest.raises(MetadataRefused, match="belongs to gateway 'one' already"):
        append(log, "Gateway", {"gateway_id": "two", "gateway_kind": "api_gateway", "keys": keys})
    assert log.view(2).keys["k"].gateway_id == "one"
    append(log, "Gateway", {"gateway_id": "one", "gateway_kind": "api_gateway", "keys": []})
    append(log, "Gateway", {"gateway_id": "two", "gateway_kind": "api_gateway", "keys": keys})
    assert log.view(4).keys["k"].gateway_id == "two"


def test_an_offset_is_read_once() -> None:
    log = new_log()
    append(log, "ChargePlan", PLAN)
    with pytest.raises(ValueError, match="metadata offset 0 was read before; next is 1"):
        log.append(0, b"", {})


def test_the_hash_of_a_card_does_not_depend_on_the_order_of_keys() -> None:
    datum = card(RATE)
    assert card_content_hash(dict(reversed(datum.items()))) == datum["content_hash"]
    assert card_content_hash({**datum, "card_id": "d"}) != datum["content_hash"]
