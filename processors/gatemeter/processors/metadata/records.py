"""Metadata records as entries: what a decoded record of each kind must satisfy before it may have an effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from gatemeter.processors.metadata.allocations import METHODS, Allocation, Receiver
from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION, RateLine, make_card
from gatemeter.processors.metadata.entries import (
    CHARGING,
    CORROBORATING,
    TELEMETRY,
    UNATTRIBUTED_PLAN,
    AttestationKey,
    Authority,
    DatedPlan,
    Gateway,
    GatewayKey,
    LatencyThresholds,
    MetadataError,
    Parameters,
    Plan,
    PolicyPrice,
    PolicyPrices,
    Tenant,
    authority_name,
    check_range,
)
from gatemeter.processors.metadata.hashing import card_content_hash
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, KINDS, LIFE, Identity, key_of
from gatemeter.processors.metadata.modalities import spread
from gatemeter.processors.metadata.termrecords import TERM_BUILDERS, TERM_IDS
from gatemeter.processors.metadata.views import Entry, RateCard
from gatemeter.schemas import limits
from gatemeter.schemas.codec import Decoded
from gatemeter.schemas.tables import BUCKETS, METERS

GATEWAY_KINDS: Final = ("api_gateway", "inference_proxy", "agent_runtime", "policy_point", TELEMETRY)
GATEWAY_ROLES: Final = (CHARGING, CORROBORATING)
RETRY_RULES: Final = ("all_provider_charged", "final_only")
CACHE_RULES: Final = ("free", "percent_of_avoided")
WORKLOAD_CLASSES: Final = ("realtime", "batch", ANY_CLASS)
REQUEST_FEE: Final = "request"
_POLICY_PICO: Final = {
    "pico_per_decision": limits.MAX_POLICY_PICO_PER_DECISION,
    "pico_per_unit": limits.MAX_POLICY_PICO_PER_UNIT,
    "pico_per_scanned_token": limits.MAX_RATE_PICO_PER_TOKEN,
}


def entry_of(decoded: Decoded) -> Entry:
    """The entry of a decoded metadata record. Raises `MetadataError`, naming the field and the range."""
    build = _BUILDERS.get(decoded.name)
    if build is None:
        raise MetadataError(f"{decoded.name} is no kind of metadata; known are {', '.join(sorted(_BUILDERS))}")
    return build(decoded.datum)


_ID_FIELDS: Final = {
    "Tenant": "tenant_id",
    "ChargePlan": "plan_id",
    "PolicyPrices": "prices_id",
    "RateCard": "card_id",
    "Gateway": "gateway_id",
    **TERM_IDS,
    "Allocation": "allocation_id",
}


def id_of(decoded: Decoded) -> str:
    """What a metadata record is about: its tenant, plan, list, card, gateway…; '' of the parameters.

    Of an authority its gateway and route, of an identity its kind and id.
    """
    if decoded.name == "Authority":
        return authority_name(decoded.datum["gateway_id"], decoded.datum["route"])
    if decoded.name == "Identity":
        return key_of(*(str(decoded.datum[name]) for name in ("kind", "identity_id", "tenant_id")))
    field = _ID_FIELDS.get(decoded.name)
    return str(decoded.datum[field]) if field else ""


def check_text(name: str, value: str) -> str:
    """Raises `MetadataError` unless `value` is 1 to 256 characters without surrounding blanks."""
    if not 0 < len(value) <= 256 or value != value.strip():
        raise MetadataError(f"{name} must be 1 to 256 characters without blanks around them, got {value!r}")
    return value


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Raises `MetadataError` unless `value` is one of `choices`."""
    if value not in choices:
        raise MetadataError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def check_currency(value: str) -> str:
    """Raises `MetadataError` unless `value` looks like an ISO 4217 code."""
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise MetadataError(f"currency must be an ISO 4217 code such as USD, got {value!r}")
    return value


def check_price(name: str, pico: int) -> int:
    """A price of one unit of a bucket, a meter or `request`. Raises `MetadataError` above its limit or below 0."""
    if name in BUCKETS:
        high, unit = limits.MAX_RATE_PICO_PER_TOKEN, "pico a token"
    elif name in METERS or name == REQUEST_FEE:
        high, unit = limits.MAX_FEE_PICO[name], "pico a unit"
    else:
        known = ", ".join((*BUCKETS, *METERS, REQUEST_FEE))
        raise MetadataError(f"price of {name!r}: no such bucket or fee; known are {known}")
    check_range(f"price of {name}", pico, 0, high, f"0 to {high} {unit}")
    return pico


def _dates(datum: Mapping[str, Any]) -> dict[str, int | None]:
    return {"effective_from_us": datum["effective_from"], "effective_to_us": datum["effective_to"]}


def _tenant(datum: Mapping[str, Any]) -> Tenant:
    return Tenant(
        check_text("tenant_id", datum["tenant_id"]),
        check_text("plan_id", datum["plan_id"]),
        datum["name"],
        datum["cost_centre"],
        datum["business_unit"] or "",
        datum["organisation"] or "",
        frozenset(check_text("apps", app) for app in datum["apps"]),
        **_dates(datum),  # type: ignore[arg-type]
    )


def _plan(datum: Mapping[str, Any]) -> DatedPlan:
    check_range("markup_ppm", datum["markup_ppm"], 0, limits.MAX_MARKUP_PPM, f"0 to {limits.MAX_MARKUP_PPM}")
    if datum["plan_id"] == UNATTRIBUTED_PLAN.plan_id:
        raise MetadataError(f"plan_id must not be {datum['plan_id']!r}: that is what is charged to nobody")
    plan = Plan(
        check_text("plan_id", datum["plan_id"]),
        datum["markup_ppm"],
        check_choice("retry_rule", datum["retry_rule"], RETRY_RULES),
        check_choice("cache_rule", datum["cache_rule"], CACHE_RULES),
        datum["accept_claimed_identity"],
        _cache_price(datum["cache_rule"], datum["cache_price_ppm"]),
        check_text("retry_cost_centre", datum["retry_cost_centre"]),
    )
    return DatedPlan(plan, **_dates(datum))  # type: ignore[arg-type]


def _cache_price(rule: str, ppm: int) -> int:
    high = 0 if rule == "free" else limits.MAX_CACHE_PRICE_PPM
    return check_range("cache_price_ppm", ppm, 0, high, f"0 to {high} where cache_rule is {rule}")


def _identity(datum: Mapping[str, Any]) -> Identity:
    kind = check_choice("kind", datum["kind"], KINDS)
    parents: dict[str, Any] = {name: datum[name] or "" for name in ("app_id", "workload_id")}
    if kind == APP and any(parents.values()):
        raise MetadataError("an app must belong to its tenant only: app_id and workload_id must be null")
    if kind != CREDENTIAL and parents["workload_id"]:
        raise MetadataError(f"workload_id must be null for a {kind}: only credentials belong to a workload")
    life: dict[str, Any] = {f"{name}_us": datum[name] for name in LIFE}
    return Identity(
        kind,
        check_text("identity_id", datum["identity_id"]),
        check_text("tenant_id", datum["tenant_id"]),
        check_text("owner", datum["owner"]),
        **parents,
        **life,
        **_dates(datum),  # type: ignore[arg-type]
    )


def _allocation(datum: Mapping[str, Any]) -> Allocation:
    receivers = [
        Receiver(each["tenant_id"] or "", each["cost_centre"] or "", each["share_ppm"]) for each in datum["receivers"]
    ]
    shared: dict[str, Any] = {name: datum[name] or "" for name in ("tenant_id", "app_id", "provider", "model")}
    return Allocation(
        check_text("allocation_id", datum["allocation_id"]),
        check_choice("method", datum["method"], METHODS),
        tuple(receivers),
        **shared,
        **_dates(datum),  # type: ignore[arg-type]
    )


def _policy_prices(datum: Mapping[str, Any]) -> PolicyPrices:
    prices_id, currency = check_text("prices_id", datum["prices_id"]), check_currency(datum["currency"])
    prices: dict[str, PolicyPrice] = {}
    for line in datum["prices"]:
        policy_id = check_text("policy_id", line["policy_id"])
        if policy_id in prices:
            raise MetadataError(f"policy {policy_id!r} has two prices")
        picos = {
            name: check_range(f"policy {policy_id!r}: {name}", line[name], 0, high, f"0 to {high}")
            for name, high in _POLICY_PICO.items()
        }
        billed_by = check_text(f"policy {policy_id!r}: billed_by", line["billed_by"])
        prices[policy_id] = PolicyPrice(prices_id, currency, **picos, billed_by=billed_by)
    return PolicyPrices(prices_id, prices, **_dates(datum))  # type: ignore[arg-type]


def _parameters(datum: Mapping[str, Any]) -> Parameters:
    thresholds = LatencyThresholds(**datum["latency_thresholds"])
    times = ("horizon_us", "future_bound_us", "orphan_timer_us", "grace_us", "fold_release")
    return Parameters(latency=thresholds, **{name: datum[name] for name in times})


def _gateway(datum: Mapping[str, Any]) -> Gateway:
    gateway_id = check_text("gateway_id", datum["gateway_id"])
    kind = check_choice("gateway_kind", datum["gateway_kind"], GATEWAY_KINDS)
    keys: dict[str, GatewayKey] = {}
    for key in datum["keys"]:
        kid = check_text("kid", key["kid"])
        if kid in keys:
            raise MetadataError(f"key id {kid!r} is there twice")
        keys[kid] = GatewayKey(gateway_id, kind, *_validity(kid, key))
    attestation_keys: dict[str, AttestationKey] = {}
    for key in datum["attestation_keys"]:
        kid = check_text("kid", key["kid"])
        if kid in attestation_keys or kid in keys:
            raise MetadataError(f"key id {kid!r} is there twice")
        if not re.fullmatch(r"[0-9a-f]{64}", key["public_key"]):
            raise MetadataError(f"key id {kid!r}: public_key must be 64 lower-case hex digits")
        attestation_keys[kid] = AttestationKey(key["public_key"], *_validity(kid, key))
    role = check_choice("role", datum["role"], GATEWAY_ROLES)
    if kind == TELEMETRY and role != CORROBORATING:
        raise MetadataError(f"role must be {CORROBORATING} where gateway_kind is {TELEMETRY}, got {role!r}")
    return Gateway(gateway_id, keys, attestation_keys, role)


def _authority(datum: Mapping[str, Any]) -> Authority:
    return Authority(
        check_text("gateway_id", datum["gateway_id"]),
        check_text("route", datum["route"]),
        check_text("authority_gateway_id", datum["authority_gateway_id"]),
        **_dates(datum),  # type: ignore[arg-type]
    )


def _validity(kid: str, key: Mapping[str, Any]) -> tuple[int, int | None]:
    if key["valid_to"] is not None and key["valid_to"] <= key["valid_from"]:
        raise MetadataError(f"key id {kid!r}: valid_to must be after valid_from")
    return key["valid_from"], key["valid_to"]


def line_of(rate: Mapping[str, Any]) -> RateLine:
    """One line of a card. Raises `MetadataError`, naming provider and model."""
    try:
        return _checked_line(rate)
    except MetadataError as error:
        raise MetadataError(f"provider {rate['provider']!r} model {rate['model']!r}: {error}") from error


def _checked_line(rate: Mapping[str, Any]) -> RateLine:
    prices = rate["list_pico"], rate["provider_pico"]
    if set(prices[0]) != set(prices[1]):
        only = ", ".join(sorted(set(prices[0]) ^ set(prices[1])))
        raise MetadataError(f"list_pico and provider_pico must have the same keys; only one of them has {only}")
    for side in prices:
        for name, pico in side.items():
            check_price(name, pico)
    if rate["text_prices_all"]:
        prices = spread(prices[0]), spread(prices[1])
    above = rate["input_tokens_above"]
    high = limits.MAX_TOKENS_PER_EVENT
    check_range("input_tokens_above", above, 0, high, f"0 to {high}")
    if rate["service_tier"] == "":
        raise MetadataError("service_tier must be null for the standard tier, got ''")
    if rate["region"] == ANY_REGION:
        raise MetadataError("region must be null for any region, got ''")
    return RateLine(
        check_text("provider", rate["provider"]),
        check_text("model", rate["model"]),
        *prices,
        rate["service_tier"] or "",
        check_choice("workload_class", rate["workload_class"], WORKLOAD_CLASSES),
        above,
        rate["region"] or ANY_REGION,
        **_dates(rate),  # type: ignore[arg-type]
    )


def _rate_card(datum: Mapping[str, Any]) -> RateCard:
    card_id = check_text("card_id", datum["card_id"])
    currency = check_currency(datum["currency"])
    computed = card_content_hash(datum)
    if datum["content_hash"] != computed:
        raise MetadataError(f"content_hash must be {computed}, got {datum['content_hash']!r}")
    lines = [line_of(rate) for rate in datum["rates"]]
    dates: dict[str, Any] = _dates(datum)
    return make_card(card_id, lines, content_hash=datum["content_hash"], currency=currency, **dates)


_BUILDERS: Final[dict[str, Callable[[Mapping[str, Any]], Entry]]] = {
    "Tenant": _tenant,
    "ChargePlan": _plan,
    "PolicyPrices": _policy_prices,
    "Parameters": _parameters,
    "Gateway": _gateway,
    "Authority": _authority,
    "RateCard": _rate_card,
    **TERM_BUILDERS,
    "Identity": _identity,
    "Allocation": _allocation,
}
