"""FOCUS as Azure (1.2, UTC days) and Google Cloud (1.0, Pacific days) export it: CSV with their own x_ columns.

Source: FOCUS 1.3 column library; Azure Cost Management's cost and usage details (FOCUS); meters of Azure's retail
prices; Google's SKUs of Vertex AI, 2026-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks.exports.lines import Line, next_day, one_month, refuse, rfc3339, start_of, write_csv

AZURE_NAMES: Final = {
    "gpt-4o-2024-08-06": "gpt 4o 0806",
    "gpt-4o-2024-11-20": "gpt 4o 1120",
    "gpt-4o-mini-2024-07-18": "gpt 4o mini 0718",
    "o3-2025-04-16": "o3 0416",
    "o4-mini-2025-04-16": "o4 mini 0416",
}
"""Models as requests name them and meters do; a model that is not here has spaces for its hyphens."""

_AZURE: Final = {
    "input_text_uncached": "{batch}Inp glbl Tokens",
    "input_text_cache_read": "{batch}cached Inp glbl Tokens",
    "output_total": "{batch}Outp glbl Tokens",
    "input_audio_uncached": "{batch}aud Inp glbl Tokens",
    "output_audio_visible": "{batch}aud Outp glbl Tokens",
}
_GOOGLE: Final = {
    "input_text_uncached": "{batch}Text Input - Predictions",
    "input_text_cache_read": "{batch}Text Input Caching",
    "output_total": "{batch}Text Output - Predictions",
    "input_audio_uncached": "{batch}Audio Input - Predictions",
    "output_audio_visible": "{batch}Audio Output - Predictions",
    "input_image_uncached": "{batch}Image Input - Predictions",
    "output_image_visible": "{batch}Image Output - Predictions",
}
_CATEGORIES: Final = {
    "usage": ("Usage", ""),
    "tax": ("Tax", "Tax"),
    "credit": ("Credit", "Promotional credit"),
    "adjustment": ("Adjustment", "Adjustment"),
    "rounding": ("Adjustment", "Rounding"),
    "fee": ("Purchase", "Support plan"),
    "commitment": ("Purchase", "Provisioned throughput"),
}
_COLUMNS: Final = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd"),
    *("ChargePeriodStart", "CommitmentDiscountId", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *("EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName"),
    *("PublisherName", "RegionId", "ResourceId", "ServiceCategory", "ServiceName", "SkuId", "SkuMeter"),
    *("SubAccountId", "Tags"),
)


def write_focus_azure(path: Path, lines: Sequence[Line]) -> None:
    """A month, each line a row. `account` is the billing account, `project` the subscription, `key_id` the resource."""
    columns = (*_COLUMNS, "x_PricingBlockSize", "x_SkuMeterCategory", "x_SkuMeterName", "x_SkuMeterSubcategory")
    write_csv(path, columns, [_azure(line, one_month(lines)) for line in lines])


def _azure(line: Line, period: tuple[date, date]) -> dict[str, Any]:
    name = AZURE_NAMES.get(line.model, line.model.replace("-", " "))
    meter = _meter("focus (Azure)", line, name, _AZURE)
    return _row(line, period, "UTC", meter) | {
        "ProviderName": "Microsoft",
        "PublisherName": "Microsoft",
        "InvoiceIssuerName": "Microsoft",
        "ServiceName": "Azure OpenAI" if line.token_type else "Cognitive Services",
        "PricingUnit": "1K Tokens" if line.quantity is not None else "",
        "PricingQuantity": "" if line.quantity is None else f"{line.quantity / 1000}",
        "x_PricingBlockSize": "1000" if line.quantity is not None else "",
        "x_SkuMeterCategory": "Foundry Models",
        "x_SkuMeterName": meter,
        "x_SkuMeterSubcategory": "Azure OpenAI",
    }


def write_focus_google(path: Path, lines: Sequence[Line]) -> None:
    """A month, each line a row. `account` is the billing account, `project` the project, `key_id` the resource."""
    columns = (*_COLUMNS, "x_Credits", "x_CostType", "x_ServiceId", "x_Location", "x_ExportTime")
    write_csv(path, columns, [_google(line, one_month(lines)) for line in lines])


def _google(line: Line, period: tuple[date, date]) -> dict[str, Any]:
    name = " ".join(part if part[:1].isdigit() else part.capitalize() for part in line.model.split("-"))
    meter = _meter("focus (Google)", line, name, _GOOGLE)
    return _row(line, period, "America/Los_Angeles", meter) | {
        "ProviderName": "Google Cloud",
        "PublisherName": "Google Cloud",
        "InvoiceIssuerName": "Google Cloud",
        "ServiceName": "Vertex AI",
        "PricingUnit": "count" if line.quantity is not None else "",
        "PricingQuantity": "" if line.quantity is None else f"{line.quantity}",
        "x_Credits": "[]",
        "x_CostType": "regular",
        "x_ServiceId": "C7E2-9256-1C43",
    }


def _meter(format_name: str, line: Line, name: str, meters: dict[str, str]) -> str:
    if not line.token_type:
        return ""
    if line.token_type not in meters:
        raise refuse(format_name, line, "token_type")
    if line.service_tier:
        raise refuse(format_name, line, "service_tier")
    return f"{name} " + meters[line.token_type].format(batch="Batch " if line.workload_class == "batch" else "")


def _row(line: Line, period: tuple[date, date], zone: str, meter: str) -> dict[str, Any]:
    if line.amount is None:
        raise refuse("focus", line, "amount")
    category, description = _CATEGORIES[line.charge_category]
    cost = f"{line.amount:f}"
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ListCost": "" if line.list_amount is None else f"{line.list_amount:f}",
        "BillingAccountId": line.account,
        "BillingCurrency": line.currency,
        "BillingPeriodStart": rfc3339(start_of(period[0])),
        "BillingPeriodEnd": rfc3339(start_of(period[1])),
        "ChargeCategory": category,
        "ChargeClass": "Correction" if line.charge_class else "",
        "ChargeDescription": line.line_item or description or meter,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": rfc3339(start_of(line.day, zone)),
        "ChargePeriodEnd": rfc3339(start_of(next_day(line.day), zone)),
        "CommitmentDiscountId": "ptu-1" if line.charge_category == "commitment" else "",
        "ConsumedQuantity": "" if line.quantity is None else f"{line.quantity}",
        "ConsumedUnit": "" if line.quantity is None else "Units" if zone == "UTC" else "count",
        "RegionId": line.region,
        "ResourceId": line.key_id,
        "ServiceCategory": "AI and Machine Learning",
        "SkuId": f"sku-{meter or category}".replace(" ", "-").lower(),
        "SkuMeter": meter,
        "SubAccountId": line.project,
        "Tags": "{}",
    }
