"""Who makes the fact where two gateways see one call, and why nobody else does."""

from __future__ import annotations

from typing import Any

import pytest

from gatemeter.processors.metadata.circles import check_no_circle
from gatemeter.processors.metadata.entries import Authority, MetadataError
from gatemeter.processors.metadata.log import MetadataLog, MetadataRefused
from gatemeter.schemas.codec import encode
from gatemeter.schemas.signing import OperatorKey
from support.views import ViewBuilder

KEY = OperatorKey.generate("ops")


def gateways() -> ViewBuilder:
    return ViewBuilder().gateway("envoy").gateway("litellm").gateway("agent", role="corroborating")


def test_a_gateway_without_an_entry_makes_its_own_facts() -> None:
    view = gateways().authority("envoy", "litellm", route="/chat").view()
    assert view.authority("envoy", "/other", 0) == ""
    assert view.authority("litellm", "/chat", 0) == ""
    assert view.authority("nobody", "/chat", 0) == ""
    assert view.authority("envoy", "/chat", 0) == "litellm"


def test_the_route_itself_goes_before_any_route_and_only_while_it_is_in_force() -> None:
    builder = gateways().gateway("kong").authority("envoy", "litellm")
    view = builder.authority("envoy", "kong", route="/chat", from_us=10, to_us=20).view()
    assert [view.authority("envoy", "/chat", at_us) for at_us in (9, 10, 19, 20)] == [
        "litellm",
        "kong",
        "kong",
        "litellm",
    ]
    assert view.boundaries == (0, 10, 20)


def test_an_authority_that_makes_no_facts_is_none() -> None:
    view = gateways().authority("envoy", "agent").authority("litellm", "gone").view()
    assert view.authority("envoy", "", 0) == view.authority("litellm", "", 0) == ""


def test_a_view_without_roles_and_authorities_has_nothing_to_tell_apart() -> None:
    assert not ViewBuilder().gateway("envoy").view().makes_evidence
    assert gateways().view().makes_evidence
    assert ViewBuilder().gateway("a").gateway("b").authority("a", "b").view().makes_evidence


def entry(gateway_id: str, authority_id: str, route: str = "*", span: tuple[int, int | None] = (0, None)) -> Authority:
    return Authority(gateway_id, route, authority_id, effective_from_us=span[0], effective_to_us=span[1])


@pytest.mark.parametrize(
    ("others", "circle"),
    [
        ([entry("b", "a")], "a → b → a"),
        ([entry("b", "a", "/chat")], "a → b → a"),
        ([entry("b", "c"), entry("c", "a", "/chat")], "a → b → c → a"),
        ([entry("b", "c", "/chat"), entry("c", "b", "/chat"), entry("c", "a")], "a → b → c → a"),
        ([entry("b", "a", span=(5, 6))], "a → b → a"),
    ],
)
def test_a_circle_is_refused(others: list[Authority], circle: str) -> None:
    with pytest.raises(MetadataError, match=f"gateway 'a' on route '/chat': {circle} is a circle"):
        check_no_circle(entry("a", "b", "/chat", (0, 10)), others)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [entry("b", "c")],
        [entry("b", "b", "/chat"), entry("a", "a")],
        [entry("b", "a", "/other")],
        [entry("b", "a", span=(10, None))],
        [entry("b", "c", "/x"), entry("c", "a", "/chat")],
        [entry("b", "c", span=(0, 5)), entry("c", "a", span=(5, 9))],
    ],
)
def test_what_leads_elsewhere_or_to_another_time_is_none(others: list[Authority]) -> None:
    check_no_circle(entry("a", "b", "/chat", (0, 10)), others)


def test_the_log_refuses_a_circle_until_one_of_its_authorities_is_ended() -> None:
    log = MetadataLog({KEY.kid: KEY.public_hex})

    def append(gateway_id: str, authority: str, from_us: int, to_us: int | None = None) -> None:
        dates: dict[str, Any] = {"effective_from": from_us, "effective_to": to_us}
        who = {"gateway_id": gateway_id, "route": "*", "authority_gateway_id": authority}
        value = encode("Authority", {**who, **dates})
        log.append(log.loaded_to, value, dict(KEY.headers(value)))

    append("envoy", "litellm", 0)
    with pytest.raises(MetadataRefused, match="litellm → envoy → litellm is a circle"):
        append("litellm", "envoy", 50)
    append("envoy", "litellm", 0, 50)
    append("litellm", "envoy", 50)
    assert sorted(log.view(4).authorities) == ["envoy", "litellm"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"route": ""}, "route must be 1 to 256 characters"),
        ({"authority_gateway_id": " b"}, "authority_gateway_id must be 1 to 256 characters without blanks"),
        ({"effective_to": 0}, "effective_to must be after effective_from"),
    ],
)
def test_a_record_out_of_range_is_refused_with_its_field(changed: dict[str, Any], reason: str) -> None:
    good = {"gateway_id": "a", "route": "*", "authority_gateway_id": "b", "effective_from": 0, "effective_to": None}
    value = encode("Authority", {**good, **changed})
    with pytest.raises(MetadataRefused, match=reason):
        MetadataLog({KEY.kid: KEY.public_hex}).append(0, value, dict(KEY.headers(value)))


def test_a_role_that_is_none_is_refused() -> None:
    datum = {"gateway_id": "a", "gateway_kind": "api_gateway", "keys": [], "attestation_keys": [], "role": "boss"}
    value = encode("Gateway", datum)
    with pytest.raises(MetadataRefused, match="role must be one of charging, corroborating, got 'boss'"):
        MetadataLog({KEY.kid: KEY.public_hex}).append(0, value, dict(KEY.headers(value)))


def test_a_gateway_of_kind_telemetry_that_charges_is_refused() -> None:
    datum = {"gateway_id": "a", "gateway_kind": "telemetry", "keys": [], "attestation_keys": []}
    charging, corroborating = (encode("Gateway", {**datum, "role": role}) for role in ("charging", "corroborating"))
    log = MetadataLog({KEY.kid: KEY.public_hex})
    with pytest.raises(MetadataRefused, match="role must be corroborating where gateway_kind is telemetry"):
        log.append(0, charging, dict(KEY.headers(charging)))
    log.append(1, corroborating, dict(KEY.headers(corroborating)))
    assert log.view(2).corroborating == {"a"}
