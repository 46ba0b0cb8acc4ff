"""AWS CUR 2.0 with Bedrock's usage types, as Data Exports writes it: Parquet, amounts as doubles, tags as a map.

Source: Amazon Bedrock user guide, Understanding your CUR data; AWS Data Exports, table COST_AND_USAGE_REPORT, 2026-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.exports.lines import Line, next_day, one_month, refuse, start_of

NAMES: Final = {
    "anthropic.claude-3-haiku-20240307-v1:0": "Claude3Haiku",
    "anthropic.claude-3-5-haiku-20241022-v1:0": "Claude3.5Haiku",
    "anthropic.claude-3-7-sonnet-20250219-v1:0": "Claude3.7Sonnet",
    "anthropic.claude-sonnet-4-20250514-v1:0": "Claude4Sonnet",
    "anthropic.claude-opus-4-20250514-v1:0": "Claude4Opus",
    "anthropic.claude-sonnet-4-5-20250929-v1:0": "Claude4.5Sonnet",
    "anthropic.claude-haiku-4-5-20251001-v1:0": "Claude4.5Haiku",
    "amazon.nova-micro-v1:0": "NovaMicro",
    "amazon.nova-lite-v1:0": "NovaLite",
    "amazon.nova-pro-v1:0": "NovaPro",
}
"""Models as requests name them and usage types do; a model that is not here is written as it is."""

_TOKENS: Final = {
    "input_text_uncached": "input-tokens",
    "input_text_cache_read": "cache-read-input-token-count",
    "input_text_cache_write_5m": "cache-write-input-token-count",
    "output_total": "output-tokens",
}
_TYPES: Final = {
    "usage": "Usage",
    "tax": "Tax",
    "credit": "Credit",
    "fee": "Fee",
    "commitment": "SavingsPlanRecurringFee",
}
_REGIONS: Final = {"us-east-1": "USE1", "us-west-2": "USW2", "eu-west-1": "EUW1", "eu-central-1": "EUC1"}
_TIME: Final = pa.timestamp("ms")
_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("bill_bill_type", "bill_billing_entity", "bill_payer_account_id")),
        ("bill_billing_period_start_date", _TIME),
        ("bill_billing_period_end_date", _TIME),
        ("line_item_usage_account_id", pa.string()),
        ("line_item_usage_start_date", _TIME),
        ("line_item_usage_end_date", _TIME),
        *((f"line_item_{name}", pa.string()) for name in ("line_item_type", "line_item_description", "product_code")),
        *((f"line_item_{name}", pa.string()) for name in ("usage_type", "operation", "resource_id", "iam_principal")),
        ("line_item_usage_amount", pa.float64()),
        ("line_item_unblended_cost", pa.float64()),
        ("line_item_currency_code", pa.string()),
        ("pricing_public_on_demand_cost", pa.float64()),
        ("pricing_unit", pa.string()),
        ("product_region_code", pa.string()),
        ("product", pa.map_(pa.string(), pa.string())),
        ("resource_tags", pa.map_(pa.string(), pa.string())),
    ]
)


def write_aws_cur(path: Path, lines: Sequence[Line]) -> None:
    """The report of one billing period; each line is a line item. `account` is the payer, `project` the account that
    used it, `key_id` the IAM principal. Amounts are doubles, so at most 15 digits of each are kept."""
    first, after = (start_of(day).replace(tzinfo=None) for day in one_month(lines))
    period = {"bill_billing_period_start_date": first, "bill_billing_period_end_date": after}
    rows = [_row(line) | period for line in lines]
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), path, compression="snappy")


def _row(line: Line) -> dict[str, Any]:
    if line.amount is None:
        raise refuse("aws-cur", line, "amount")
    refund = line.charge_class == "correction"
    if line.charge_category not in _TYPES or (refund and line.charge_category != "credit"):
        raise refuse("aws-cur", line, "charge_category")
    usage_type = _usage_type(line)
    return {
        "bill_bill_type": "Anniversary",
        "bill_billing_entity": "AWS",
        "bill_payer_account_id": line.account,
        "line_item_usage_account_id": line.project,
        "line_item_usage_start_date": start_of(line.day).replace(tzinfo=None),
        "line_item_usage_end_date": start_of(next_day(line.day)).replace(tzinfo=None),
        "line_item_line_item_type": "Refund" if refund else _TYPES[line.charge_category],
        "line_item_line_item_description": line.line_item or f"Amazon Bedrock {usage_type}",
        "line_item_product_code": "AmazonBedrock",
        "line_item_usage_type": usage_type,
        "line_item_operation": "InvokeModelInference" if line.token_type else None,
        "line_item_iam_principal": line.key_id or None,
        "line_item_usage_amount": None if line.quantity is None else float(line.quantity) / 1000,
        "line_item_unblended_cost": float(line.amount),
        "line_item_currency_code": line.currency,
        "pricing_public_on_demand_cost": None if line.list_amount is None else float(line.list_amount),
        "pricing_unit": "1K tokens" if line.token_type else None,
        "product_region_code": line.region or None,
        "product": [("product_name", "Amazon Bedrock")],
        "resource_tags": [],
    }


def _usage_type(line: Line) -> str | None:
    if not line.token_type:
        return line.line_item or None
    if line.token_type not in _TOKENS:
        raise refuse("aws-cur", line, "token_type")
    name = NAMES.get(line.model, line.model)
    tail = "-batch" if line.workload_class == "batch" else f"-{line.service_tier}" if line.service_tier else ""
    return f"{_REGIONS.get(line.region, 'USE1')}-{name}-{_TOKENS[line.token_type]}{tail}"
