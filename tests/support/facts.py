"""Hand-made rows of the ClickHouse tables: everything blank but what a test names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gatemeter.schemas.tables import TABLES

HOUR_US = 3_600_000_000
NOON_US = 1_772_366_400_000_000  # 2026-03-01 12:00 UTC

_BLANK: dict[str, Any] = {"string": "", "bytes": b"", "bool": False, "time": NOON_US}


def blank_row(table: str) -> dict[str, Any]:
    """A row with every column of `table`: null where allowed, else '', 0, False or 2026-03-01 12:00 UTC."""
    return {name: None if kind.endswith("?") else _BLANK.get(kind, 0) for name, kind in TABLES[table]}


def exact(pico: int) -> Decimal:
    """`pico` · 10⁻¹² with every digit (arithmetic on Decimals rounds to 28 digits)."""
    return Decimal(f"{pico}e-12")


def fact(request_id: str, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    """An answered, priced attempt of tenant acme: 100 input and 20 output tokens, charge 30 + 3 mark-up, in pico."""
    row = blank_row("usage_facts") | {
        "gateway_id": "gw",
        "request_id": request_id,
        "attempt": attempt,
        "response_hash": f"{request_id}-{attempt}",
        "version": 1 << 63,
        "status": "ok",
        "has_response": True,
        "paired": True,
        "tenant_id": "acme",
        "app_id": "chat",
        "evidence_grade": "A",
        "attribution": "attributed",
        "provider": "openai",
        "model": "gpt-4o",
        "purpose": "workload",
        "usage_source": "reported",
        "input_text_uncached": 100,
        "output_text_visible": 20,
        "price_status": "priced",
        "currency": "USD",
        "retry_rule": "all_provider_charged",
        "retry_cost_centre": "retries",
        "list_cost": 40,
        "provider_cost": 30,
        "token_cost": 30,
        "model_cost": 0,
        "policy_cost": 0,
        "markup": 3,
        "cache_price": 0,
        "absorbed": 0,
        "charge": 33,
        "fresh": True,
        "window_tokens": 120,
        "window_cost": 33,
        "topic": "gatemeter.events",
    }
    return row | changes


def decision(decision_id: str, request_id: str, **changes: Any) -> dict[str, Any]:
    """A priced decision of the platform's own guardrail: tenant acme, cost 5, mark-up 1, in pico."""
    row = blank_row("policy_facts") | {
        "gateway_id": "gw",
        "decision_id": decision_id,
        "content_hash": decision_id,
        "version": 1 << 63,
        "request_id": request_id,
        "tenant_id": "acme",
        "app_id": "chat",
        "policy_id": "pii",
        "policy_version": "7",
        "outcome": "allow",
        "price_status": "priced",
        "currency": "USD",
        "billed_by": "internal",
        "list_cost": 0,
        "provider_cost": 0,
        "policy_cost": 5,
        "markup": 1,
        "absorbed": 0,
        "charge": 6,
        "fresh": True,
        "window_cost": 6,
        "topic": "gatemeter.events",
    }
    return row | changes


def checkpoint(**changes: Any) -> dict[str, Any]:
    """A checkpoint of partition 0 at offset 10: ten batches, nothing else."""
    row = blank_row("ingest_batches") | {"topic": "gatemeter.events", "next_offset": 10, "records": 10}
    return row | {"records_batches": 10, "partitions": 1, "worker": "w"} | changes
