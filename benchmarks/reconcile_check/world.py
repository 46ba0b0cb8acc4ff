"""A month of gateway facts from the Azure trace: five providers, each with two models and two projects, at card
prices."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from benchmarks.rows import table_of
from clickhouse_connect.driver.client import Client

from gatemeter.cli.demo.trace import Call, data_folder, read_calls
from gatemeter.processors.pricing.ratesfile import build_card
from gatemeter.sinks.port import FactSink

PERIOD: Final = "2026-10"
FIRST: Final = date(2026, 10, 1)
DAYS: Final = tuple(FIRST + timedelta(days=number) for number in range(31))
CARD_FILE: Final = Path(__file__).with_name("rates.yaml")
PROJECTS: Final = ("search", "support")
TENANTS: Final = {"search": ("acme", "globex"), "support": ("initech",)}
_PICO_PER_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of the month. `calendar`: its billing days; `account`: who is billed."""

    name: str
    models: tuple[str, str]
    account: str
    calendar: str = "UTC"
    region: str = ""

    def project(self, name: str) -> str:
        """A project as the provider's export names it."""
        return f"{self.name}-{name}"


PROVIDERS: Final = {
    "openai": Provider("openai", ("gpt-4o-2024-08-06", "o3-2025-04-16"), "org-1"),
    "anthropic": Provider("anthropic", ("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"), "org-2"),
    "aws": Provider("aws", ("anthropic.claude-sonnet-4-20250514-v1:0", "amazon.nova-pro-v1:0"), "999900001111"),
    "azure": Provider("azure", ("gpt-4o-2024-11-20", "o4-mini-2025-04-16"), "billing-1"),
    "vertex": Provider("vertex", ("gemini-2.5-pro", "gemini-2.5-flash"), "billing-2", "America/Los_Angeles"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """The published card: its record, and prices in 10⁻¹² a token by provider, model, class and bucket."""

    datum: dict[str, Any]
    pico: dict[tuple[str, str, str], dict[str, int]]

    def price(self, provider: str, model: str, bucket: str, workload_class: str = "") -> int:
        """A price of the standard tier."""
        return self.pico[provider, model, workload_class][bucket]


def read_card() -> Card:
    """The card of `rates.yaml`."""
    datum = build_card(CARD_FILE).datum
    pico = {}
    for rate in datum["rates"]:
        workload_class = "batch" if rate["workload_class"] == "batch" else ""
        pico[rate["provider"], rate["model"], workload_class] = dict(rate["provider_pico"])
    return Card(datum, pico)


@dataclass(slots=True)
class Use:
    """One attempt. `tokens` by bucket; what nobody told has none. `known` False: no usage, no cost."""

    provider: str
    project: str
    model: str
    at: datetime
    tokens: dict[str, int]
    known: bool = True
    status: str = "ok"
    usage_source: str = "reported"
    provider_request_id: str = ""
    gateway_id: str = ""
    billed_tokens: dict[str, int] = field(default_factory=dict)

    def day(self, calendar: str) -> date:
        """The day of a calendar."""
        return self.at.astimezone(ZoneInfo(calendar)).date()


def uses(seed: int, calls: int) -> list[Use]:
    """`calls` calls of the trace in turn over providers, models and projects, and over the hours of each one's
    month."""
    rng = random.Random(seed)
    trace = read_calls(data_folder() / "azure-llm-2023")
    return list(_uses(trace[:calls], rng))


def _uses(trace: Sequence[Call], rng: random.Random) -> Iterator[Use]:
    names = tuple(PROVIDERS)
    for number, call in enumerate(trace):
        provider = PROVIDERS[names[number % len(names)]]
        turn = number // len(names)
        model = provider.models[turn % 2]
        project = PROJECTS[turn // 2 % 2]
        begins = datetime(2026, 10, 1, tzinfo=ZoneInfo(provider.calendar)).astimezone(UTC)
        hour = rng.randrange(31 * 24)
        at = begins + timedelta(hours=hour, seconds=call.started_us // 1_000_000 % 3_600)
        cached = call.input_tokens // 2 if rng.random() < 0.3 else 0
        thought = call.output_tokens // 4 if rng.random() < 0.2 else 0
        tokens = {
            "input_text_uncached": call.input_tokens - cached,
            "input_text_cache_read": cached,
            "output_text_visible": call.output_tokens - thought,
            "output_text_reasoning": thought,
        }
        gateway = f"gw-{project}"
        yield Use(provider.name, project, model, at, {n: q for n, q in tokens.items() if q}, gateway_id=gateway)


def write_facts(sink: FactSink, card: Card, used: Sequence[Use], rows_an_insert: int = 50_000) -> None:
    """The facts of the uses."""
    for start in range(0, len(used), rows_an_insert):
        rows = [_fact(card, use, start + number) for number, use in enumerate(used[start : start + rows_an_insert])]
        sink.write("usage_facts", table_of("usage_facts", rows))


def publish(client: Client, act: str, subject: str, datum: dict[str, Any], offset: int) -> None:
    """Puts a record in force, as the fold of partition 0 writes it."""
    row = {"act": act, "subject": subject, "offset": offset, "detail": json.dumps(datum)}
    client.insert_arrow("operator_log", table_of("operator_log", [row]))


def _fact(card: Card, use: Use, number: int) -> dict[str, Any]:
    at_us = int(use.at.timestamp()) * 1_000_000
    hour_us = at_us - at_us % 3_600_000_000
    cost = sum(n * card.price(use.provider, use.model, bucket) for bucket, n in use.tokens.items())
    amounts = dict.fromkeys(("list_cost", "provider_cost", "token_cost", "charge"), cost if use.known else None)
    rest = dict.fromkeys(("model_cost", "policy_cost", "markup", "cache_price", "absorbed"), 0 if use.known else None)
    tenants = TENANTS[use.project]
    return {
        **(use.tokens if use.known else {}),
        **amounts,
        **rest,
        "posted_hour": hour_us,
        "usage_hour": hour_us,
        "request_started_at": at_us,
        "occurred_at": at_us,
        "recorded_at": at_us,
        "gateway_id": use.gateway_id,
        "request_id": f"{use.provider}-{number:08}",
        "attempt": 1,
        "response_hash": f"{number:032x}",
        "version": 1 << 63,
        "status": use.status,
        "has_response": True,
        "provider_request_id": use.provider_request_id or f"{use.provider}-answer-{number}",
        "tenant_id": tenants[number % len(tenants)],
        "app_id": use.project,
        "evidence_grade": "A",
        "attribution": "attributed",
        "cost_centre": f"cc-{use.project}",
        "provider": use.provider,
        "model": use.model,
        "served_model": use.model,
        "workload_class": "realtime",
        "purpose": "workload",
        "usage_source": use.usage_source if use.known else "missing",
        "price_status": "priced" if use.known else "no_usage",
        "currency": "USD" if use.known else "",
        "rate_card_id": card.datum["card_id"] if use.known else "",
        "rate_card_hash": card.datum["content_hash"] if use.known else "",
        "retry_rule": "all_provider_charged",
        "topic": "gatemeter.events",
    }
