"""One correction by hand: an entry of its own, or other amounts or another attribution for one named row.

The total is never given, it follows: charge = token + model + policy + markup + cache price - absorbed. Amounts are
decimal text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import (
    AMOUNTS,
    ATTRIBUTION,
    AVOIDED,
    MAX_AMOUNT,
    CorrectionError,
    CorrectionRow,
)
from gatemeter.processors.corrections.truths import Truth, truth_of
from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.records import check_currency

GIVEN: Final = ("list_cost", "token_cost", "model_cost", "policy_cost", "markup", "cache_price", "absorbed")
"""The amounts that an operator gives; the others follow."""

_DECIMALS: Final = 12


@dataclass(frozen=True, slots=True)
class Manual:
    """What an operator gave. `amounts`: 10⁻¹² units by `GIVEN`; `attribution` by `ATTRIBUTION`; '' is not given.

    `internal`: whether the platform bills the policy cost itself, so that no provider cost goes with it; None: as the
    row has it, and of an entry of its own no.
    """

    reason: str
    amounts: Mapping[str, int]
    attribution: Mapping[str, str]
    currency: str = ""
    absorbed_to: str = ""
    internal: bool | None = None


def amount_of(option: str, text: str) -> int:
    """Decimal text as an int of 10⁻¹² units: '-12.5' → −12,500,000,000,000. Raises `CorrectionError`."""
    accepted = "a decimal number within ±9223372.036854775807 with at most 12 decimals"
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise CorrectionError(f"{option} must be {accepted}, got {text!r}") from None
    if not number.is_finite() or number.adjusted() > 6 or int(number.as_tuple().exponent) < -100:
        raise CorrectionError(f"{option} must be {accepted}, got {text!r}")
    sign, digits, exponent = number.as_tuple()
    shift = int(exponent) + _DECIMALS
    whole = int("".join(map(str, digits)))
    up, down = int(10 ** max(shift, 0)), int(10 ** max(-shift, 0))
    pico, rest = divmod(whole * up, down)
    if rest or pico > MAX_AMOUNT:
        raise CorrectionError(f"{option} must be {accepted}, got {text!r}")
    return -pico if sign else pico


def free_entry(run_id: str, usage_hour_us: int, manual: Manual, evidence_place: str = "") -> CorrectionRow:
    """An entry of its own in an hour of usage, for the evidence at a place where one is named.

    Raises `CorrectionError`.
    """
    if not manual.attribution.get("tenant_id"):
        raise CorrectionError("--tenant must be given for an entry of its own")
    if not manual.amounts:
        raise CorrectionError(f"at least one amount must be given: {_options()}")
    _check_currency(manual.currency)
    given = {**dict.fromkeys(GIVEN, 0), **manual.amounts}
    amounts = _complete(given, "list_cost" in manual.amounts, internal=bool(manual.internal))
    who: dict[str, Any] = {name: manual.attribution.get(name) or None for name in ATTRIBUTION}
    return CorrectionRow(
        run_id=run_id,
        entry=0,
        kind="free",
        target="",
        gateway_id="",
        request_id="",
        attempt=0,
        response_hash="",
        usage_hour=usage_hour_us,
        currency=manual.currency,
        rate_card_id="",
        plan_id="",
        absorbed_to=_absorbed_to(manual.absorbed_to, amounts),
        price_status="priced",
        cause="manual",
        reason=manual.reason,
        evidence_place=evidence_place,
        **who,
        **amounts,
    )


def find_row(client: Client, target: str, request_id: str, attempt: int, gateway_id: str) -> Truth:
    """The true row that is named. Raises `CorrectionError` where there is none, or one of several gateways."""
    found = truth_of(client, target, request_id, attempt, gateway_id)
    shown = f"decision {request_id!r}" if target == "decision" else f"attempt {attempt} of request {request_id!r}"
    if not found:
        raise CorrectionError(f"there is no {shown}{f' of gateway {gateway_id!r}' if gateway_id else ''}")
    if len(found) > 1:
        gateways = ", ".join(sorted(truth.key.gateway_id for truth in found))
        raise CorrectionError(f"{shown} is of several gateways ({gateways}): name one with --gateway")
    return found[0]


def replacing_row(run_id: str, truth: Truth, manual: Manual) -> CorrectionRow:
    """Other amounts or another attribution for a row; amounts that are not given stay. Raises `CorrectionError`."""
    if not manual.amounts and not any(manual.attribution.values()):
        raise CorrectionError(f"at least one amount or attribution must be given: {_options()}, --tenant …")
    attribution = {name: value for name, value in manual.attribution.items() if value}
    if not manual.amounts:
        return truth.replaced(run_id, 0, "manual", manual.reason, attribution=attribution)
    now = truth.amounts
    currency = manual.currency or truth.terms["currency"]
    _check_currency(currency)
    changes = currency != truth.terms["currency"]
    if changes and now["charge"] is not None and _needed(now) - set(manual.amounts):
        raise CorrectionError(f"--currency: all amounts must be given where it changes from {truth.terms['currency']}")
    given = {name: now[name] or 0 for name in GIVEN} | dict(manual.amounts)
    internal = truth.fact.get("billed_by") == INTERNAL if manual.internal is None else manual.internal
    amounts = _complete(given, "list_cost" in manual.amounts or now["list_cost"] is not None, internal=internal)
    amounts |= {name: None if changes else now[name] for name in AVOIDED}
    terms = {"currency": currency, "price_status": "priced"}
    terms["absorbed_to"] = _absorbed_to(manual.absorbed_to or truth.terms["absorbed_to"], amounts)
    return truth.replaced(run_id, 0, "manual", manual.reason, attribution=attribution, amounts=amounts, terms=terms)


def _needed(now: Mapping[str, int | None]) -> set[str]:
    """Amounts that must be given anew in another currency; a cache price only where there is one."""
    return {name for name in GIVEN[1:] if name != "cache_price" or now[name]}


def _complete(given: Mapping[str, int], has_list_cost: bool, *, internal: bool) -> dict[str, Any]:
    """All amounts; of a policy cost that the platform bills itself no provider has a part."""
    models = given["token_cost"] + given["model_cost"]
    provider = models if internal else models + given["policy_cost"]
    charge = models + given["policy_cost"] + given["markup"] + given["cache_price"] - given["absorbed"]
    all_of: dict[str, Any] = {**given, **dict.fromkeys(AVOIDED), "provider_cost": provider, "charge": charge}
    if not has_list_cost:
        all_of["list_cost"] = provider
    return {name: all_of[name] for name in AMOUNTS}


def _absorbed_to(name: str, amounts: Mapping[str, Any]) -> str:
    if amounts["absorbed"] and not name:
        raise CorrectionError("--absorbed-to must name the cost centre of what is absorbed")
    return name if amounts["absorbed"] else ""


def _check_currency(currency: str) -> None:
    try:
        check_currency(currency)
    except ValueError as error:
        raise CorrectionError(f"--{error}") from error


def _options() -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in GIVEN)
