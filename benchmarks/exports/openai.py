"""OpenAI's organization costs and usage, as its API answers and its dashboard exports.

Source: OpenAI API reference, CostsResult and UsageCompletionsResult; line items as the costs API gives them; the header
of costs as the dashboard exports them, 2026-09.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from benchmarks.exports.lines import Line, all_days, next_day, number, refuse, start_of, write_csv, write_json

_ITEMS: Final = {
    "input_text_uncached": "{model}, input",
    "input_text_cache_read": "{model}, cached input",
    "input_text_cache_write_5m": "{model}, cache write",
    "output_total": "{model}, output",
    "input_audio_uncached": "{model} audio, input",
    "input_audio_cache_read": "{model} audio, cached input",
    "output_audio_visible": "{model} audio, output",
    "input_image_uncached": "{model} image, input",
    "input_image_cache_read": "{model} image, cached input",
    "output_image_visible": "{model} image, output",
    "searches": "web search tool calls",
    "tool_calls": "file search tool calls",
}
_OTHERS: Final = {
    "tax": "Tax",
    "credit": "Promotional credit",
    "fee": "Monthly minimum",
    "commitment": "Scale tier units",
    "rounding": "Rounding",
    "adjustment": "Adjustment",
    "usage": "Vector storage",
}
_CSV: Final = (
    *("start_time", "end_time", "start_time_iso", "end_time_iso", "amount_value", "amount_currency", "quantity"),
    *("quantity_unit", "line_item", "user_id", "api_key_id", "project_id", "organization_id", "project_name"),
    *("organization_name", "user_email", "api_source"),
)
_COUNTERS: Final = {
    "input_text_uncached": "input_text_tokens",
    "input_text_cache_read": "input_cached_text_tokens",
    "input_text_cache_write_5m": "input_cache_write_tokens",
    "input_audio_uncached": "input_audio_tokens",
    "input_audio_cache_read": "input_cached_audio_tokens",
    "input_image_uncached": "input_image_tokens",
    "input_image_cache_read": "input_cached_image_tokens",
    "output_total": "output_text_tokens",
    "output_audio_visible": "output_audio_tokens",
    "output_image_visible": "output_image_tokens",
}


def _line_item(line: Line) -> str:
    if line.line_item:
        return line.line_item
    if not line.token_type:
        return _OTHERS[line.charge_category]
    if line.token_type not in _ITEMS:
        raise refuse("openai-costs", line, "token_type")
    front = "batch | " if line.workload_class == "batch" else f"{line.service_tier} | " if line.service_tier else ""
    return front + _ITEMS[line.token_type].format(model=line.model)


def write_openai_costs(path: Path, lines: Sequence[Line], days: Iterable[date] = ()) -> None:
    """One page, grouped by project, line item and key; each line is a result."""
    _page(path, lines, days, lambda own: [_cost(line) for line in own])


def _cost(line: Line) -> dict[str, Any]:
    if line.amount is None:
        raise refuse("openai-costs", line, "amount")
    result: dict[str, Any] = {
        "object": "organization.costs.result",
        "amount": {"value": number(line.amount), "currency": line.currency.lower()},
        "line_item": _line_item(line),
        "project_id": line.project or None,
        "api_key_id": line.key_id or None,
        "organization_id": line.account or None,
    }
    return result if line.quantity is None else result | {"quantity": number(Decimal(line.quantity))}


def write_openai_usage(path: Path, lines: Sequence[Line], days: Iterable[date] = ()) -> None:
    """One page of completions, grouped by all that it can be; counters with their parts, as the API has given them
    since it tells uncached tokens by kind. Lines of a group and token type are added up."""
    _page(path, lines, days, _usage)


def _usage(lines: list[Line]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in lines:
        if line.token_type not in _COUNTERS or line.quantity is None:
            raise refuse("openai-usage", line, "token_type" if line.quantity is not None else "quantity")
        key = (line.account, line.project, line.key_id, line.model, line.service_tier, line.workload_class)
        counters = groups.setdefault(key, dict.fromkeys(_COUNTERS.values(), 0))
        counters[_COUNTERS[line.token_type]] += int(line.quantity)
    return [_result(key, counters) for key, counters in groups.items()]


def _result(key: tuple[str, ...], counters: dict[str, int]) -> dict[str, Any]:
    account, project, key_id, model, tier, workload_class = key
    kinds = ("text", "audio", "image")
    uncached = sum(counters[f"input_{kind}_tokens"] for kind in kinds)
    cached = sum(counters[f"input_cached_{kind}_tokens"] for kind in kinds)
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": uncached + cached + counters["input_cache_write_tokens"],
        "input_cached_tokens": cached,
        "input_uncached_tokens": uncached,
        "output_tokens": sum(counters[f"output_{kind}_tokens"] for kind in kinds),
        **counters,
        "num_model_requests": 1,
        "organization_id": account or None,
        "project_id": project or None,
        "user_id": None,
        "api_key_id": key_id or None,
        "model": model or None,
        "batch": workload_class == "batch",
        "service_tier": tier or "default",
    }


def _page(path: Path, lines: Sequence[Line], days: Iterable[date], results: Any) -> None:
    buckets = [
        {
            "object": "bucket",
            "start_time": int(start_of(day).timestamp()),
            "end_time": int(start_of(next_day(day)).timestamp()),
            "results": results([line for line in lines if line.day == day]),
        }
        for day in all_days(lines, days)
    ]
    write_json(path, {"object": "page", "data": buckets, "has_more": False, "next_page": None})


def write_openai_csv(path: Path, lines: Sequence[Line], days: Iterable[date] = ()) -> None:
    """The costs, a row a line; a day without one is a row of its times alone."""
    rows: list[dict[str, Any]] = [_times(day) for day in sorted(set(days) - {line.day for line in lines})]
    for line in lines:
        cost = _cost(line)
        rows.append(
            _times(line.day)
            | {
                "amount_value": f"{line.amount:f}",
                "amount_currency": line.currency.lower(),
                "quantity": "" if line.quantity is None else f"{Decimal(line.quantity):f}",
                "line_item": cost["line_item"],
                "api_key_id": line.key_id,
                "project_id": line.project,
                "organization_id": line.account,
            }
        )
    write_csv(path, _CSV, rows)


def _times(day: date) -> dict[str, Any]:
    start, end = start_of(day), start_of(next_day(day))
    return {
        "start_time": int(start.timestamp()),
        "end_time": int(end.timestamp()),
        "start_time_iso": start.isoformat(),
        "end_time_iso": end.isoformat(),
    }
