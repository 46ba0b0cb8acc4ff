"""Examples as the providers' own pages show them: which model, tokens, tier and amount each line is for."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gatemeter.sinks.billing import BillingLine
from support.billing import focus_csv, focus_row, imported, openai_cost, openai_page, wrote


def one(form: str, path: Path, **said: Any) -> BillingLine:
    found = imported(form, path, **said)
    assert found.rejected == []
    (line,) = found.lines
    return line


@pytest.mark.parametrize(
    ("item", "model", "token_type", "tier", "workload", "category"),
    [
        ("gpt-5.5-2026-04-23, input", "gpt-5.5-2026-04-23", "input_text_uncached", "", "", "usage"),
        ("gpt-5.5-2026-04-23, cached input", "gpt-5.5-2026-04-23", "input_text_cache_read", "", "", "usage"),
        ("gpt-4.1-2025-04-14, output", "gpt-4.1-2025-04-14", "output_total", "", "", "usage"),
        ("priority | gpt-5.6-sol, output, long context", "gpt-5.6-sol", "output_total", "priority", "", "usage"),
        ("batch | gpt-5.6-sol, cache write", "gpt-5.6-sol", "input_text_cache_write_5m", "", "batch", "usage"),
        (
            "gpt-audio-mini-2025-12-15 audio, input",
            "gpt-audio-mini-2025-12-15",
            "input_audio_uncached",
            "",
            "",
            "usage",
        ),
        ("gpt-image-1 image, output", "gpt-image-1", "output_image_visible", "", "", "usage"),
        ("gpt-image-2.5 text, cached input", "gpt-image-2.5", "input_text_cache_read", "", "", "usage"),
        ("web search tool calls", "", "searches", "", "", "usage"),
        ("Promotional credit", "", "", "", "", "credit"),
        ("Vector storage", "", "", "", "", "usage"),
        (None, "", "", "", "", "usage"),
    ],
)
def test_line_items_of_openai(
    tmp_path: Path, item: str | None, model: str, token_type: str, tier: str, workload: str, category: str
) -> None:
    line = one("openai-costs", wrote(tmp_path / "c.json", openai_page(openai_cost(line_item=item))))
    found = (line.model, line.token_type, line.service_tier, line.workload_class, line.charge_category)
    assert found == (model, token_type, tier, workload, category)
    assert (line.amount, line.currency, line.content) == (Decimal("1.25"), "USD", "cost")


def test_a_dashboards_day_without_costs_is_a_day_and_no_bad_row(tmp_path: Path) -> None:
    text = (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,organization_id\n"
        "1759881600,1759968000,2025-10-08T00:00:00+00:00,2025-10-09T00:00:00+00:00,0.5455665000000000,usd,,,org-1\n"
        "1759968000,1760054400,2025-10-09T00:00:00+00:00,2025-10-10T00:00:00+00:00,,,,,\n"
        "1760054400,1760140800,2025-10-10T00:00:00+00:00,2025-10-11T00:00:00+00:00,,usd,,,org-1\n"
    )
    found = imported("openai-csv", wrote(tmp_path / "cost.csv", text))
    assert [(line.amount, line.account) for line in found.lines] == [(Decimal("0.5455665"), "org-1")]
    assert found.outcome.rounded == 0
    assert [str(covered.billing_day) for covered in found.outcome.covered] == ["2025-10-08", "2025-10-09"]
    assert [(bad.line, bad.field) for bad in found.rejected] == [(4, "amount")]
    usage = (
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens\n"
        "1759881600,1759968000,2025-10-08T00:00:00+00:00,2025-10-09T00:00:00+00:00,p,3,gpt-5-mini,100,7\n"
    )
    found = imported("openai-csv", wrote(tmp_path / "usage.csv", usage))
    assert [(line.content, line.token_type, line.quantity) for line in found.lines] == [
        ("usage", "input_text_uncached", 100),
        ("usage", "output_total", 7),
    ]


def test_counters_of_openai_are_made_disjoint(tmp_path: Path) -> None:
    old = {"input_tokens": 1000, "input_cached_tokens": 800, "output_tokens": 500, "num_model_requests": 5}
    new = {
        **{"input_tokens": 1000, "input_cached_tokens": 100, "input_cache_write_tokens": 100, "output_tokens": 500},
        **{"input_uncached_tokens": 800, "input_text_tokens": 730, "input_image_tokens": 70, "input_audio_tokens": 0},
        **{"input_cached_text_tokens": 50, "input_cached_audio_tokens": 20, "input_cached_image_tokens": 30},
        **{"output_text_tokens": 460, "output_image_tokens": 40, "num_model_requests": 5, "batch": True},
    }
    some = {"input_tokens": 1000, "input_uncached_tokens": 900, "input_audio_tokens": 100, "num_model_requests": 1}
    found = [
        {line.token_type: line.quantity for line in imported("openai-usage", path).lines}
        for path in (wrote(tmp_path / f"{at}.json", openai_page(result)) for at, result in enumerate((old, new, some)))
    ]
    assert found[0] == {"input_text_uncached": 200, "input_text_cache_read": 800, "output_total": 500}
    assert found[1] == {
        **{"input_text_uncached": 730, "input_image_uncached": 70, "input_text_cache_read": 50},
        **{"input_audio_cache_read": 20, "input_image_cache_read": 30, "input_text_cache_write_5m": 100},
        **{"output_total": 460, "output_image_visible": 40},
    }
    assert sum(found[1].values()) == 1500
    assert found[2] == {"input_text_uncached": 800, "input_audio_uncached": 100}


def test_parts_that_are_more_than_their_whole_are_a_bad_row(tmp_path: Path) -> None:
    wrong = {"input_tokens": 10, "input_cached_tokens": 11, "output_tokens": 1, "num_model_requests": 1}
    found = imported("openai-usage", wrote(tmp_path / "u.json", openai_page(wrong)))
    (bad,) = found.rejected
    assert bad.field == "input_tokens"
    assert "must not be less than its parts" in bad.reason


def test_amounts_of_anthropic_are_cents(tmp_path: Path) -> None:
    result = {
        **{"currency": "USD", "amount": "123.78912", "workspace_id": "wrkspc_01", "cost_type": "tokens"},
        **{"description": "Claude Sonnet 4 Usage - Input Tokens", "context_window": "0-200k", "service_tier": "batch"},
        **{"model": "claude-sonnet-4-20250514", "token_type": "cache_creation.ephemeral_1h_input_tokens"},
    }
    bucket = {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [result]}
    path = wrote(tmp_path / "c.json", {"data": [bucket], "has_more": False, "next_page": None})
    line = one("anthropic-cost", path, account="org")
    assert line.amount == Decimal("1.2378912")
    assert (line.model, line.token_type) == ("claude-sonnet-4-20250514", "input_text_cache_write_1h")
    assert (line.service_tier, line.workload_class, line.account, line.project) == ("", "batch", "org", "wrkspc_01")
    assert json.loads(line.tags) == {"context_window": "0-200k"}


@pytest.mark.parametrize(
    ("usage_type", "model", "token_type", "tier", "workload"),
    [
        ("USE1-Claude4Sonnet-input-tokens", "anthropic.claude-sonnet-4-20250514-v1:0", "input_text_uncached", "", ""),
        ("USE1-Claude4.6Opus-output-tokens", "Claude4.6Opus", "output_total", "", ""),
        (
            "USW2-Claude4Sonnet-cache-read-input-token-count-cross-region-global",
            *("anthropic.claude-sonnet-4-20250514-v1:0", "input_text_cache_read", "", ""),
        ),
        ("EUC1-NovaPro-cache-write-input-token-count", "amazon.nova-pro-v1:0", "input_text_cache_write_5m", "", ""),
        ("USE1-Llama3-1-405B-output-tokens-batch", "Llama3-1-405B", "output_total", "", "batch"),
        (
            "USE1-openai.gpt-oss-120b-mantle-input-tokens-flex",
            *("openai.gpt-oss-120b", "input_text_uncached", "flex", ""),
        ),
        (
            "USE1-openai.gpt-5.6-luna-mantle-cache-write-tokens-1h-long-ctx-priority",
            *("openai.gpt-5.6-luna", "input_text_cache_write_1h", "priority", ""),
        ),
    ],
)
def test_usage_types_of_bedrock(
    tmp_path: Path, usage_type: str, model: str, token_type: str, tier: str, workload: str
) -> None:
    line = one("aws-cur", cur(tmp_path, line_item_usage_type=usage_type))
    assert (line.model, line.token_type, line.service_tier, line.workload_class) == (model, token_type, tier, workload)
    assert line.quantity == Decimal("1234567")
    assert line.unit == "tokens"


def test_models_of_bedrocks_marketplace_are_named_by_their_service_and_counted_in_millions(tmp_path: Path) -> None:
    path = cur(
        tmp_path,
        line_item_product_code="2xw4a0lshvyxp0jq6hvs7y0ew",
        line_item_usage_type="USE1-MP:USE1_CacheReadInputTokenCount_Global-Units",
        line_item_usage_amount=1.5,
        pricing_unit="Units",
        product=[("servicename", "Claude Opus 5.5 (Amazon Bedrock Edition)")],
    )
    line = one("aws-cur", path)
    assert (line.model, line.token_type, line.quantity) == ("Claude Opus 5.5", "input_text_cache_read", 1_500_000)


def test_a_line_of_cur_names_payer_account_principal_and_tags(tmp_path: Path) -> None:
    line = one("aws-cur", cur(tmp_path))
    assert (line.account, line.project) == ("111111111111", "222222222222")
    assert line.key_id == "arn:aws:iam::222222222222:user/alice"
    assert json.loads(line.tags) == {"user_team": "quotes"}
    assert line.amount == Decimal("0.0123")
    assert line.list_amount == Decimal("0.02")
    found = imported("aws-cur", cur(tmp_path, line_item_line_item_type="Refund", line_item_unblended_cost=-1.0))
    assert [(line.charge_category, line.charge_class, line.amount) for line in found.lines] == [
        ("credit", "correction", -1)
    ]
    assert len(found.outcome.covered) == 30, "the report speaks of the whole billing period"


def test_an_unknown_unit_of_tokens_is_a_bad_row_and_never_a_wrong_quantity(tmp_path: Path) -> None:
    found = imported("aws-cur", cur(tmp_path, pricing_unit="10K tokens"))
    assert [(bad.field, bad.reason[:15]) for bad in found.rejected] == [("unit", "must be one of ")]


def cur(folder: Path, **changes: Any) -> Path:
    """A CUR of one row."""
    row = {
        "bill_payer_account_id": "111111111111",
        "bill_billing_period_start_date": datetime(2026, 11, 1),
        "bill_billing_period_end_date": datetime(2026, 12, 1),
        "line_item_usage_account_id": "222222222222",
        "line_item_usage_start_date": datetime(2026, 11, 3, 5),
        "line_item_usage_end_date": datetime(2026, 11, 3, 6),
        "line_item_line_item_type": "Usage",
        "line_item_product_code": "AmazonBedrock",
        "line_item_usage_type": "USE1-Claude4Sonnet-input-tokens",
        "line_item_iam_principal": "arn:aws:iam::222222222222:user/alice",
        "line_item_usage_amount": 1234.567,
        "line_item_unblended_cost": 0.0123,
        "line_item_currency_code": "USD",
        "pricing_public_on_demand_cost": 0.02,
        "pricing_unit": "1K tokens",
        "product": [("region", "us-east-1")],
        "resource_tags": [("user_team", "quotes")],
    } | changes
    pairs = pa.map_(pa.string(), pa.string())
    table = pa.table({
        name: pa.array([value], pairs if name in ("product", "resource_tags") else None) for name, value in row.items()
    })  # fmt: skip
    pq.write_table(table, folder / "cur.parquet")
    return folder / "cur.parquet"


@pytest.mark.parametrize(
    ("meter", "model", "token_type", "workload"),
    [
        ("gpt 4o 1120 Inp glbl Tokens", "gpt-4o-2024-11-20", "input_text_uncached", ""),
        ("gpt 4o 1120 cached Inp glbl Tokens", "gpt-4o-2024-11-20", "input_text_cache_read", ""),
        ("gpt 4.1 nano cached Inp glbl Tokens", "gpt-4.1-nano", "input_text_cache_read", ""),
        ("o3 0416 Outp glbl Tokens", "o3-2025-04-16", "output_total", ""),
        ("5.4 opt Dz 1M Tokens", "5.4", "output_total", ""),
        ("5.5 ShortCo inp Gl 1M Tokens", "5.5", "input_text_uncached", ""),
        ("Grok 4.1 Outp DZone Tokens", "grok-4.1", "output_total", ""),
        ("gpt 4o mini 0718 Batch Inp glbl Tokens", "gpt-4o-mini-2024-07-18", "input_text_uncached", "batch"),
    ],
)
def test_meters_of_azure(tmp_path: Path, meter: str, model: str, token_type: str, workload: str) -> None:
    line = one("focus", wrote(tmp_path / "a.csv", focus_csv(focus_row(SkuMeter=meter))))
    assert (line.provider, line.model, line.token_type, line.workload_class) == ("azure", model, token_type, workload)
    assert (line.quantity, line.unit) == (1000, "tokens")


@pytest.mark.parametrize(
    ("sku", "model", "token_type"),
    [
        ("Gemini 2.5 Pro Text Input - Predictions", "gemini-2.5-pro", "input_text_uncached"),
        ("Gemini 2.5 Flash GA Thinking Text Output - Predictions", "gemini-2.5-flash", "output_total"),
        ("Gemini 2.5 Pro Thinking Text Output (Long & Standard) - Predictions", "gemini-2.5-pro", "output_total"),
        ("Gemini 2.5 Pro Text Input Caching (Long)", "gemini-2.5-pro", "input_text_cache_read"),
        ("Gemini 3.5 Flash Regional Text Input - Predictions", "gemini-3.5-flash", "input_text_uncached"),
        ("Gemini 2.5 Flash Lite Audio Input - Predictions", "gemini-2.5-flash-lite", "input_audio_uncached"),
    ],
)
def test_skus_of_google_and_its_pacific_days(tmp_path: Path, sku: str, model: str, token_type: str) -> None:
    row = focus_row(
        ProviderName="Google Cloud",
        SkuMeter="",
        ChargeDescription=sku,
        ConsumedUnit="count",
        ChargePeriodStart="2026-11-03 07:00:00 UTC",
        ChargePeriodEnd="2026-11-03 08:00:00 UTC",
    )
    line = one("focus", wrote(tmp_path / "g.csv", focus_csv(row)))
    assert (line.provider, line.model, line.token_type) == ("vertex", model, token_type)
    assert (line.billing_day, line.calendar) == (date(2026, 11, 2), "America/Los_Angeles")
    assert line.starts_us == int(datetime(2026, 11, 3, 7, tzinfo=UTC).timestamp()) * 1_000_000
    other = one("focus", tmp_path / "g.csv", calendar="Asia/Tokyo")
    assert (other.billing_day, other.calendar) == (date(2026, 11, 3), "Asia/Tokyo")


def test_focus_says_what_kind_of_charge_it_is(tmp_path: Path) -> None:
    rows = (
        focus_row(ChargeCategory="Tax", SkuMeter=""),
        focus_row(ChargeCategory="Credit", SkuMeter="", BilledCost="-3.25"),
        focus_row(ChargeCategory="Purchase", SkuMeter=""),
        focus_row(ChargeCategory="Purchase", SkuMeter="Provisioned Managed Global Unit"),
        focus_row(ChargeCategory="Adjustment", SkuMeter="", ChargeDescription="Rounding"),
        focus_row(ChargeClass="Correction", BilledCost="-1e-05"),
    )
    found = imported("focus", wrote(tmp_path / "f.csv", focus_csv(*rows)))
    assert [(line.charge_category, line.charge_class, line.amount) for line in found.lines] == [
        ("tax", "", Decimal("1.5")),
        ("credit", "", Decimal("-3.25")),
        ("fee", "", Decimal("1.5")),
        ("commitment", "", Decimal("1.5")),
        ("rounding", "", Decimal("1.5")),
        ("usage", "correction", Decimal("-0.00001")),
    ]
