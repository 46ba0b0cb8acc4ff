"""Anthropic's cost and usage reports, as its Admin API answers: amounts are decimal texts in cents.

The priority tier is in the usage report and not in the cost report. Source: Claude API reference, Get Cost Report and
Get Messages Usage Report, 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks.exports.lines import Line, all_days, next_day, refuse, rfc3339, start_of, write_json

_TOKENS: Final = {
    "input_text_uncached": ("uncached_input_tokens", "Input Tokens"),
    "input_text_cache_read": ("cache_read_input_tokens", "Input Tokens, Cache Read"),
    "input_text_cache_write_5m": ("cache_creation.ephemeral_5m_input_tokens", "Input Tokens, Cache Write"),
    "input_text_cache_write_1h": ("cache_creation.ephemeral_1h_input_tokens", "Input Tokens, Cache Write 1h"),
    "output_total": ("output_tokens", "Output Tokens"),
}
_OTHERS: Final = {
    "credit": "Promotional credit",
    "tax": "Tax",
    "fee": "Platform fee",
    "rounding": "Rounding",
    "adjustment": "Adjustment",
    "usage": "Code Execution Usage",
}


def write_anthropic_cost(path: Path, lines: Sequence[Line], days: Iterable[date] = ()) -> None:
    """One page, grouped by workspace and description; each line is a result."""
    _page(path, lines, days, lambda own: [_cost(line) for line in own])


def _cost(line: Line) -> dict[str, Any]:
    if line.amount is None:
        raise refuse("anthropic-cost", line, "amount")
    if line.service_tier:
        raise refuse("anthropic-cost", line, "service_tier")
    token_type, what = _TOKENS.get(line.token_type, ("", ""))
    if line.token_type not in ("", "searches", *_TOKENS):
        raise refuse("anthropic-cost", line, "token_type")
    if not line.token_type and line.charge_category not in _OTHERS:
        raise refuse("anthropic-cost", line, "charge_category")
    description = f"{line.model} Usage - {what}" if token_type else _OTHERS.get(line.charge_category, "")
    if line.token_type == "searches":
        description = "Web Search Usage"
    return {
        "currency": line.currency,
        "amount": f"{line.amount.scaleb(2):f}",
        "workspace_id": line.project or None,
        "description": line.line_item or description,
        "cost_type": "web_search" if line.token_type == "searches" else "tokens" if token_type else "code_execution",
        "context_window": "0-200k" if token_type else None,
        "model": line.model or None,
        "service_tier": ("batch" if line.workload_class == "batch" else "standard") if token_type else None,
        "token_type": token_type or None,
        "inference_geo": line.region or None,
    }


def write_anthropic_usage(path: Path, lines: Sequence[Line], days: Iterable[date] = ()) -> None:
    """One page, grouped by all that it can be. Lines of a group and token type are added up."""
    _page(path, lines, days, _usage)


def _usage(lines: list[Line]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for line in lines:
        if line.token_type not in (*_TOKENS, "searches") or line.quantity is None:
            raise refuse("anthropic-usage", line, "token_type" if line.quantity is not None else "quantity")
        tier = "batch" if line.workload_class == "batch" else line.service_tier or "standard"
        counters = groups.setdefault((line.project, line.key_id, line.model, tier, line.region), {})
        counters[line.token_type] = counters.get(line.token_type, 0) + int(line.quantity)
    return [_result(key, counters) for key, counters in groups.items()]


def _result(key: tuple[str, ...], counters: dict[str, int]) -> dict[str, Any]:
    project, key_id, model, tier, region = key
    return {
        "uncached_input_tokens": counters.get("input_text_uncached", 0),
        "cache_creation": {
            "ephemeral_1h_input_tokens": counters.get("input_text_cache_write_1h", 0),
            "ephemeral_5m_input_tokens": counters.get("input_text_cache_write_5m", 0),
        },
        "cache_read_input_tokens": counters.get("input_text_cache_read", 0),
        "output_tokens": counters.get("output_total", 0),
        "server_tool_use": {"web_search_requests": counters.get("searches", 0)},
        "api_key_id": key_id or None,
        "workspace_id": project or None,
        "model": model or None,
        "service_tier": tier,
        "context_window": "0-200k",
        "inference_geo": region or None,
    }


def _page(
    path: Path, lines: Sequence[Line], days: Iterable[date], results: Callable[[list[Line]], list[dict[str, Any]]]
) -> None:
    buckets = [
        {
            "starting_at": rfc3339(start_of(day)),
            "ending_at": rfc3339(start_of(next_day(day))),
            "results": results([line for line in lines if line.day == day]),
        }
        for day in all_days(lines, days)
    ]
    write_json(path, {"data": buckets, "has_more": False, "next_page": None})
