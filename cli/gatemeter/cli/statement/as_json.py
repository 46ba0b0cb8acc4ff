"""A statement as plain data for JSON: amounts as text with all digits, beside them the cents of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from gatemeter.cli.statement.parts import BY, section_parts
from gatemeter.cli.statement_data import converted_json, statement_json
from gatemeter.sinks.reports.cents import plain_minor
from gatemeter.sinks.reports.converted import ConvertedLine
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.statements.beside import Adjustment, PriceSource
from gatemeter.sinks.statements.period import PeriodState
from gatemeter.sinks.statements.requests import TopRequest
from gatemeter.sinks.statements.whole import Allocation, Part, Section, Statement
from gatemeter.sinks.terms.months import utc_text


def whole_json(statement: Statement, converted: Sequence[ConvertedLine]) -> dict[str, Any]:
    """All of it. `exceptions` and `reconciliation` are null where the database has no such view."""
    tenant = statement.tenant
    return {
        "statement": statement.statement_id,
        "tenant_id": tenant.tenant_id,
        "name": tenant.name,
        "cost_centre": tenant.cost_centre,
        "business_unit": tenant.business_unit,
        "organisation": tenant.organisation,
        "period": statement.month.period,
        "made_at": utc_text(statement.made_us),
        "status": _status(statement.state),
        "sections": [_section(section, statement.month.period) for section in statement.sections],
        "in_currency": [converted_json(line) for line in converted],
        "adjustments": [_adjustment(each) for each in statement.adjustments],
        "price_sources": [_price(each) for each in statement.prices],
        "exceptions": _listed(statement.exceptions),
        "reconciliation": _listed(statement.reconciliation),
        "disputes": _listed(statement.disputes),
        "allocation": None if statement.allocation is None else _allocation(statement.allocation),
    }


def _status(state: PeriodState) -> dict[str, Any]:
    return {
        "state": state.state,
        "sealed_hours": state.sealed_hours,
        "hours": state.hours,
        "last_seal": state.last_seal or None,
        "last_seal_number": state.last_number if state.last_seal else None,
        "closed_at": None if state.closed_us is None else utc_text(state.closed_us),
        "closed_by": state.closed_by or None,
        "closed_reason": state.closed_reason or None,
    }


def _section(section: Section, period: str) -> dict[str, Any]:
    earlier = sum(line.total for line in section.lines if line.usage_period < period)
    total = statement_json(section.total)
    counts = section.total.counts
    return {
        "currency": section.currency,
        "total": total["total"],
        "rounded_total": total["rounded"]["total"],
        "of_earlier_months": text_of(earlier),
        "summary": total,
        "orphans": counts["orphans"],
        "estimated_tokens": counts["estimated_tokens"],
        "unpriced_tokens": counts["unpriced_tokens"],
        **{
            f"by_{name}": [_part(each, names, section.currency) for each in parts]
            for name, names, parts in _by(section)
        },
        "top_requests": [_request(each) for each in section.top],
    }


def _by(section: Section) -> list[tuple[str, tuple[str, ...], list[Part]]]:
    return [(name, names, section_parts(section, name)) for name, (names, _, _) in BY.items()]


def _part(part: Part, names: tuple[str, ...], currency: str) -> dict[str, Any]:
    requests = {} if part.requests is None else {"requests": part.requests}
    return {
        **dict(zip(names, part.names, strict=True)),
        **requests,
        "attempts": part.attempts,
        "decisions": part.decisions,
        "tokens": part.tokens,
        "unpriced_tokens": part.unpriced,
        "total": text_of(part.pico),
        "rounded": plain_minor(part.cents, currency),
    }


def _request(request: TopRequest) -> dict[str, Any]:
    return {
        "gateway_id": request.gateway_id,
        "request_id": request.request_id,
        "hour": utc_text(request.hour_us),
        "app_id": request.app_id,
        "workload_id": request.workload_id,
        "models": list(request.models),
        "attempts": request.attempts,
        "decisions": request.decisions,
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "total": text_of(request.pico),
    }


def _adjustment(each: Adjustment) -> dict[str, Any]:
    return {
        "posting_period": each.posting_period,
        "usage_period": each.usage_period,
        "cause": each.cause,
        "run": each.run or None,
        "reason": each.reason,
        "currency": each.currency,
        "entries": each.entries,
        "reversals": each.reversals,
        "total": text_of(each.charge_pico),
        "posted_at": utc_text(each.posted_us),
    }


def _price(each: PriceSource) -> dict[str, Any]:
    return {
        "rate_card_id": each.card_id,
        "currency": each.currency,
        "total": text_of(each.charge_pico),
        "attempts_and_decisions": each.attempts,
        "versions": [{"content_hash": content_hash, "source": source} for content_hash, source in each.versions],
    }


def _allocation(allocation: Allocation) -> dict[str, Any]:
    return {
        "lines": [
            {
                "currency": line.currency,
                **{name: text_of(pico) for name, pico in line.pico.items()},
                "after_allocation": text_of(line.total(line.pico)),
                "rounded": plain_minor(line.total(line.cents), line.currency),
            }
            for line in allocation.lines
        ],
        "shares": [
            {
                "allocation": share.allocation_id,
                "method": share.method,
                "from_tenant": share.owner,
                f"to_{share.receiver.kind}": share.receiver.id,
                "currency": share.currency,
                "total": text_of(share.pico),
            }
            for share in allocation.shares
        ],
    }


def _listed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{_said(name): _plain(name, value) for name, value in row.items()} for row in rows]


def _said(name: str) -> str:
    return f"{name.removesuffix('_us')}_at" if name.endswith("_us") else name


def _plain(name: str, value: Any) -> Any:
    if name.endswith("_us"):
        return None if value is None else utc_text(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return list(value) if isinstance(value, tuple) else value
