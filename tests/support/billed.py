"""Facts, a published rate card and imported billing lines in ClickHouse, made by hand; they agree until changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.sinks.arrow import rows_to_arrow
from support.facts import blank_row, exact, fact

PRICES = {
    "input_text_uncached": 2_500_000,
    "input_text_cache_read": 1_250_000,
    "output_text_visible": 10_000_000,
    "output_text_reasoning": 10_000_000,
}
CARD = """
card_id: contract
effective_from: 2026-01-01
currency: USD
providers: []
models:
  - provider: openai
    model: gpt-4o
    prices: {input_text_uncached: 2.5, input_text_cache_read: 1.25, output_text_visible: 10, output_text_reasoning: 10}
  - provider: openai
    model: gpt-4o-2024-08-06
    prices: {input_text_uncached: 2.5, input_text_cache_read: 1.25, output_text_visible: 10, output_text_reasoning: 10}
  - provider: openai
    model: gpt-4o
    workload_class: batch
    prices: {input_text_uncached: 1.25, input_text_cache_read: 1.25, output_text_visible: 5, output_text_reasoning: 5}
"""


def publish_card(client: Client, folder: Path) -> str:
    """Puts the card in force in ClickHouse, as the fold of partition 0 would; its content hash."""
    file = folder / "rates.yaml"
    file.write_text(CARD)
    datum = build_card(file).datum
    row = blank_row("operator_log") | {"act": "RateCard", "subject": "contract", "detail": json.dumps(datum)}
    client.insert_arrow("operator_log", rows_to_arrow("operator_log", [row]))
    return str(datum["content_hash"])


def used(request_id: str, at: datetime, card_hash: str, /, **changes: Any) -> dict[str, Any]:
    """A priced fact of openai's gpt-4o at the card's price: 1,000 input and 100 output tokens unless changed."""
    tokens = {"input_text_uncached": 1_000, "output_text_visible": 100}
    tokens |= {name: changes.pop(name) for name in PRICES if name in changes}
    half = 2 if changes.get("workload_class") == "batch" else 1
    cost = sum((tokens[name] or 0) * PRICES[name] // half for name in tokens)
    at_us = int(at.timestamp()) * 1_000_000
    row = fact(request_id) | tokens
    row |= {
        "usage_hour": at_us - at_us % 3_600_000_000,
        "posted_hour": at_us - at_us % 3_600_000_000,
        "request_started_at": at_us,
        "recorded_at": at_us,
        "served_model": "gpt-4o",
        "rate_card_id": "contract",
        "rate_card_hash": card_hash,
        "workload_class": "realtime",
        **{"list_cost": cost, "provider_cost": cost, "token_cost": cost, "charge": cost, "markup": 0},
    }
    return row | changes


def write_facts(client: Client, rows: Iterable[Mapping[str, Any]]) -> None:
    """Into `usage_facts`."""
    client.insert_arrow("usage_facts", rows_to_arrow("usage_facts", [dict(row) for row in rows]))


def line(day: date, token_type: str, quantity: int | None, amount_pico: int | None, **changes: Any) -> dict[str, Any]:
    """A billing line of openai's gpt-4o, by token type."""
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    row = {
        "provider": "openai",
        "content": "cost_and_usage",
        "account": "org-1",
        "project": "proj-1",
        "key_id": "key_1",
        "billing_day": day,
        "calendar": "UTC",
        "starts_at": begins,
        "ends_at": begins + timedelta(days=1),
        "charge_category": "usage",
        "charge_class": "",
        "line_item": f"gpt-4o, {token_type}",
        "model": "gpt-4o",
        "token_type": token_type,
        "service_tier": "",
        "workload_class": "",
        "region": "",
        "quantity": None if quantity is None else Decimal(quantity),
        "unit": "tokens",
        "amount": None if amount_pico is None else exact(amount_pico),
        "list_amount": None,
        "currency": "USD",
        "tags": "",
        "raw": "",
    }
    return row | changes


def write_import(
    client: Client,
    import_id: str,
    lines: list[dict[str, Any]],
    days: Iterable[date] = (),
    at: datetime | None = None,
    provider: str = "openai",
) -> None:
    """One import: the lines, what it covers (their days, and `days`), and its own row last."""
    rows = [{**each, "import_id": import_id, "line": number} for number, each in enumerate(lines, 1)]
    client.insert("billing_lines", [list(row.values()) for row in rows], column_names=list(rows[0]))
    covered = {(row["provider"], row["account"], row["content"], row["billing_day"]) for row in rows}
    covered |= {(*place, day) for *place, _ in list(covered) for day in days}
    names = ("import_id", "provider", "account", "content", "billing_day")
    client.insert("billing_coverage", [(import_id, *each) for each in sorted(covered)], column_names=names)
    names = ("import_id", "imported_at", "provider", "lines")
    client.insert(
        "billing_imports",
        [(import_id, at or datetime(2026, 11, 1, tzinfo=UTC), provider, len(rows))],
        column_names=names,
    )
