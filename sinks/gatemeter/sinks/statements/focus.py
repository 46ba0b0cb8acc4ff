"""A statement as FOCUS 1.2 rows, one a day, workload, model and type of token; their BilledCost adds up to the bill.

What is stored of a line is its token cost as a whole. It is divided over the types of its tokens by quantity × price of
its rate card, so it is that product wherever one price holds, and adds up exactly where several did (context tiers,
service tiers). Mark-up and what was absorbed are in BilledCost and EffectiveCost, never in ContractedCost or ListCost.
Reversals within the month are netted; what is booked for a month that was closed before is ChargeClass `Correction`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

from gatemeter.schemas.tables import BUCKETS
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.statements.dividing import divide
from gatemeter.sinks.statements.lines import LINE_AMOUNTS, LINE_COUNTS, BilledLine
from gatemeter.sinks.statements.whole import Section, Statement
from gatemeter.sinks.terms.months import utc_text

VERSION: Final = "1.2"
ISSUER: Final = "gatemeter"
"""Who provides and invoices, for its tenants: the platform. Whose model it is stands in PublisherName."""

NO_CURRENCY: Final = "XXX"
"""The code of ISO 4217 for none: lines without any price, among those of several currencies."""

Price = tuple[Fraction, Fraction]
Prices = Mapping[tuple[str, str, str, str], Price]
"""(list, contract) price of a token in 10⁻¹² by (rate card, provider, model, bucket)."""

_SAME: Final = (
    *("day", "usage_period", "kind", "app_id", "workload_id", "cost_centre", "provider", "model", "purpose"),
    *("policy_id", "currency", "rate_card_id", "plan_id", "price_status"),
)
_UNIT_DIGITS: Final = Context(prec=60)
COLUMNS: Final = (
    *("BillingAccountId", "BillingAccountName", "BillingAccountType", "SubAccountId", "SubAccountName"),
    *("SubAccountType", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart"),
    *(
        "ChargePeriodEnd",
        "ChargeCategory",
        "ChargeClass",
        "ChargeDescription",
        "ChargeFrequency",
        "CommitmentDiscountStatus",
    ),
    *(
        "InvoiceId",
        "InvoiceIssuerName",
        "ProviderName",
        "PublisherName",
        "ServiceCategory",
        "ServiceSubcategory",
        "ServiceName",
    ),
    *("ResourceId", "ResourceName", "ResourceType", "RegionId", "RegionName", "SkuId", "SkuMeter", "SkuPriceId"),
    *("SkuPriceDetails", "PricingCategory", "PricingQuantity", "PricingUnit", "ListUnitPrice", "ContractedUnitPrice"),
    *("ConsumedQuantity", "ConsumedUnit", "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "Tags"),
    *(
        "x_gatemeter_StatementId",
        "x_gatemeter_UsagePeriod",
        "x_gatemeter_CostCentre",
        "x_gatemeter_Model",
        "x_gatemeter_TokenType",
    ),
    *("x_gatemeter_Purpose", "x_gatemeter_RateCardId", "x_gatemeter_PlanId", "x_gatemeter_PriceStatus"),
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A row of a line: what was used, and how much of the line's cost it weighs at contract and at list price."""

    meter: str
    quantity: int
    unit: str
    contract: Fraction
    listed: Fraction


def focus_rows(statement: Statement, prices: Prices) -> Iterator[dict[str, str]]:
    """Rows by `COLUMNS`, '' for null, in the order of day and key."""
    for section in statement.sections:
        for line in _netted(section):
            yield from _rows(statement, section.currency, line, prices)


def _netted(section: Section) -> list[BilledLine]:
    """Lines without reversals: what took back and what was taken back are one sum; what is nothing has no row."""
    groups: dict[tuple[Any, ...], list[BilledLine]] = {}
    for line in section.lines:
        groups.setdefault(tuple(getattr(line, name) for name in _SAME), []).append(line)
    sums = (_sum(key, lines) for key, lines in groups.items())
    return [line for line in sums if any(line.pico.values()) or any(line.tokens.values()) or any(line.counts.values())]


def _sum(key: tuple[Any, ...], lines: Sequence[BilledLine]) -> BilledLine:
    return BilledLine(
        **dict(zip(_SAME, key, strict=True)),
        cause="",
        reversal=False,
        counts={name: sum(line.counts[name] for line in lines) for name in LINE_COUNTS},
        tokens={name: sum(line.tokens[name] for line in lines) for name in lines[0].tokens},
        pico={name: sum(line.pico[name] for line in lines) for name in LINE_AMOUNTS},
    )


def _pieces(line: BilledLine, prices: Prices) -> list[_Piece]:
    found = list(_tokens(line, prices)) if line.kind == "usage" else []
    others = (
        ("model fee", line.counts["attempts"], "Requests", "model_cost"),
        ("cache hit", line.counts["cache_hits"], "Requests", "cache_price"),
        ("policy evaluation", line.counts["evaluations"], "Requests", "policy_cost"),
        ("policy decision", line.counts["decisions"], "Requests", "policy_cost"),
    )
    for meter, quantity, unit, amount in others:
        cost = line.pico[amount]
        if quantity and (cost or meter.startswith("policy")):
            found.append(_Piece(meter, quantity, unit, Fraction(max(cost, 0)), Fraction(max(cost, 0))))
    if not found:
        called = line.counts["attempts"] or line.counts["evaluations"]
        found.append(_Piece("request", called, "Requests", Fraction(0), Fraction(0)))
    return found


def _tokens(line: BilledLine, prices: Prices) -> Iterator[_Piece]:
    buckets = {name: line.tokens[name] for name in BUCKETS if line.tokens[name]}
    nothing = (Fraction(0), Fraction(0))
    priced = {name: prices.get((line.rate_card_id, line.provider, line.model, name), nothing) for name in buckets}
    listed = {name: max(0, count) * priced[name][0] for name, count in buckets.items()}
    contract = {name: max(0, count) * priced[name][1] for name, count in buckets.items()}
    contract_sum, listed_sum = sum(contract.values(), Fraction(0)), sum(listed.values(), Fraction(0))
    for name, count in buckets.items():
        by_count = Fraction(max(0, count), max(1, sum(map(abs, buckets.values()))))
        share = contract[name] / contract_sum if contract_sum else by_count
        list_share = listed[name] / listed_sum if listed_sum else by_count
        cost = Fraction(abs(line.pico["token_cost"]))
        yield _Piece(name, count, "Tokens", cost * share, (cost or Fraction(1)) * list_share)


def _rows(statement: Statement, currency: str, line: BilledLine, prices: Prices) -> Iterator[dict[str, str]]:
    pieces = _pieces(line, prices)
    contracted = sum(line.pico[name] for name in ("token_cost", "model_cost", "policy_cost", "cache_price"))
    weights = [piece.contract for piece in pieces]
    by_quantity = [max(0, piece.quantity) for piece in pieces]
    chosen = weights if any(weights) else by_quantity
    billed, agreed = divide(line.total, chosen), divide(contracted, chosen)
    listed = divide(line.pico["list_cost"], [piece.listed for piece in pieces] if any(weights) else by_quantity)
    for piece, *costs in zip(pieces, billed, agreed, listed, strict=True):
        yield _row(statement, currency, line, piece, *costs)


def _row(
    statement: Statement, currency: str, line: BilledLine, piece: _Piece, billed: int, contracted: int, listed: int
) -> dict[str, str]:
    month, tenant = statement.month, statement.tenant
    is_correction = line.usage_period < month.period
    is_usage = line.kind != "correction" and piece.quantity > 0 and min(billed, contracted, listed) >= 0
    service = line.model or line.policy_id or "Adjustment"
    row = dict.fromkeys(COLUMNS, "") | {
        "BillingAccountId": tenant.tenant_id,
        "BillingAccountName": tenant.name or tenant.tenant_id,
        "BillingAccountType": "Tenant",
        "BillingCurrency": currency or NO_CURRENCY,
        "BillingPeriodStart": utc_text(month.start_us),
        "BillingPeriodEnd": utc_text(month.end_us),
        "ChargePeriodStart": _midnight(line.day),
        "ChargePeriodEnd": _midnight(line.day + timedelta(days=1)),
        "ChargeCategory": "Usage" if is_usage else "Adjustment",
        "ChargeClass": "Correction" if is_correction else "",
        "ChargeDescription": _description(line, piece, service),
        "ChargeFrequency": "Usage-Based" if is_usage else "One-Time",
        "InvoiceId": statement.statement_id,
        "InvoiceIssuerName": ISSUER,
        "ProviderName": ISSUER,
        "PublisherName": line.provider or ISSUER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": service,
        "BilledCost": text_of(billed),
        "EffectiveCost": text_of(billed),
        "ContractedCost": text_of(contracted),
        "ListCost": text_of(listed),
        "Tags": _tags(line),
        "x_gatemeter_UsagePeriod": line.usage_period,
        "x_gatemeter_CostCentre": line.cost_centre,
        "x_gatemeter_Model": line.model,
        "x_gatemeter_TokenType": piece.meter if piece.unit == "Tokens" else "",
        "x_gatemeter_Purpose": line.purpose,
        "x_gatemeter_RateCardId": line.rate_card_id,
        "x_gatemeter_PlanId": line.plan_id,
        "x_gatemeter_PriceStatus": line.price_status,
    }
    if line.app_id:
        row |= {"SubAccountId": line.app_id, "SubAccountName": line.app_id, "SubAccountType": "Application"}
    if line.workload_id:
        row |= {"ResourceId": line.workload_id, "ResourceName": line.workload_id, "ResourceType": "Workload"}
    return row | (_priced(line, piece, contracted, listed) if is_usage else {})


def _priced(line: BilledLine, piece: _Piece, contracted: int, listed: int) -> dict[str, str]:
    """What only usage has: quantities, units, prices and the SKU."""
    sku = "/".join(each for each in (line.provider or ISSUER, line.model or line.policy_id, piece.meter) if each)
    details = {"x_rate_card": line.rate_card_id, "x_plan": line.plan_id}
    return {
        "SkuId": sku,
        "SkuMeter": piece.meter,
        "SkuPriceId": f"{sku}@{line.rate_card_id or 'none'}",
        "SkuPriceDetails": json.dumps({name: value for name, value in details.items() if value}, sort_keys=True),
        "PricingCategory": "Standard",
        "PricingQuantity": f"{piece.quantity}.0",
        "PricingUnit": piece.unit,
        "ListUnitPrice": _unit_price(listed, piece.quantity),
        "ContractedUnitPrice": _unit_price(contracted, piece.quantity),
        "ConsumedQuantity": f"{piece.quantity}.0",
        "ConsumedUnit": piece.unit,
    }


def _unit_price(pico: int, quantity: int) -> str:
    """Cost ÷ quantity to 24 decimals: times the quantity it is the cost again."""
    price = _UNIT_DIGITS.divide(Decimal(f"{pico}e-12"), Decimal(quantity))
    text = f"{price.quantize(Decimal('1e-24'), context=_UNIT_DIGITS):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _description(line: BilledLine, piece: _Piece, service: str) -> str:
    if line.kind == "correction":
        return "Correction of no single request"
    if piece.unit == "Tokens":
        return f"{service}: {piece.meter.replace('_', ' ')} tokens"
    return f"{service}: {piece.meter}"


def _tags(line: BilledLine) -> str:
    said = {"app": line.app_id, "workload": line.workload_id, "cost_centre": line.cost_centre, "purpose": line.purpose}
    return json.dumps({f"gatemeter/{name}": value for name, value in said.items() if value}, sort_keys=True)


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
