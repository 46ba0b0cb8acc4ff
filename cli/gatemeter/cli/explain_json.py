"""An explanation as plain data for JSON: amounts as text with every digit, times as UTC text, NULL as null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatemeter.processors.explaining.amounts import Money
from gatemeter.processors.explaining.attribution import Path, PlanApplied
from gatemeter.processors.explaining.explanation import Event, Explanation, Item, Total
from gatemeter.processors.explaining.lines import Line, Savings
from gatemeter.processors.explaining.reckoning import PolicySource, Reckoned
from gatemeter.processors.explaining.standing import CorrectionApplied
from gatemeter.processors.explaining.terms import RateSource
from gatemeter.processors.metadata.identities import Identity
from gatemeter.processors.sealing.hours import utc
from gatemeter.schemas.tables import BUCKETS, METERS, TABLES
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.reports.requests import RequestRows, Row

_ATTEMPT = (
    *("status", "delivered", "http_status", "finish_reason", "provider_request_id", "provider", "model"),
    *("served_model", "operation", "stream", "region", "service_tier", "workload_class", "purpose", "gateway_cache"),
    *("latency_us", "ttft_us", "latency_class", "latency_thresholds_version"),
    *("usage_source", "usage_consistency", "estimated_with", "usage_revision"),
    *(
        "avoided_input_tokens",
        "avoided_output_tokens",
        "retry_rule",
        "retry_cost_centre",
        "paired",
        "evidence_grade",
        "identity_source",
        "attribution",
    ),
)
_DECISION = (
    *("policy_id", "policy_version", "outcome", "units", "scanned_tokens", "latency_us", "evaluator_request_id"),
    "billed_by",
    *("evidence_grade", "identity_source", "attribution"),
)
_GROUPED = ("provider_cost", "charge", "repeated_charge")
_SUPPRESSED = frozenset(("raw", "first_raw"))


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """The whole explanation; `adds_up` is its verdict and `problems` says what does not agree."""
    head = dict(explanation.head)
    if "request_started_at" in head:
        head["request_started_at"] = utc(head["request_started_at"])
    return {
        "gateway_id": explanation.gateway_id,
        "request_id": explanation.request_id,
        **head,
        "adds_up": explanation.adds_up,
        "problems": list(explanation.problems),
        "prices_from": explanation.prices_from or None,
        "events": [_event(event) for event in explanation.events],
        "attempts": [_item(item, _ATTEMPT) for item in explanation.attempts],
        "decisions": [_item(item, _DECISION) for item in explanation.decisions],
        "attribution": [_path(path) for path in explanation.paths],
        "totals": [_total(total) for total in explanation.totals],
        **_postings(explanation.rows),
    }


def money_json(money: Money | Mapping[str, int]) -> dict[str, str | None]:
    """Amounts by name."""
    return {name: amount_json(value) for name, value in money.items()}


def amount_json(pico: int | None) -> str | None:
    """One amount."""
    return None if pico is None else text_of(pico)


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else utc(at_us)


def _event(event: Event) -> dict[str, Any]:
    topic, _, rest = event.place.rpartition("[")
    partition, _, offset = rest.partition("]@")
    return {
        "kind": event.kind,
        "id": event.id,
        "attempt": event.attempt,
        "counts": event.counts,
        "usage_revision": event.usage_revision,
        "occurred_at": utc(event.occurred_at_us),
        "recorded_at": utc(event.recorded_at_us),
        "posted_hour": utc(event.posted_hour_us),
        "topic": topic,
        "partition": int(partition),
        "offset": int(offset),
        "event_index": event.event_index,
        "kid": event.kid,
        "epoch": event.epoch,
        "sequence": event.sequence,
        "identity_source": event.identity_source,
        "evidence_grade": event.evidence_grade,
        "content_hash": event.content_hash,
        "metadata_offset": event.metadata_offset,
    }


def _item(item: Item, names: tuple[str, ...]) -> dict[str, Any]:
    own: dict[str, Any] = {"attempt": item.fact["attempt"]}
    if item.kind == "decision":
        own["decision_id"] = item.fact["decision_id"]
    else:
        own["role"] = item.standing.role
    own |= {name: item.fact[name] for name in names}
    if item.kind == "usage":
        own["quantities"] = {name: item.fact[name] for name in (*BUCKETS, *METERS)}
    standing = item.standing
    return {
        **own,
        "price_status": standing.price_status,
        "currency": standing.currency,
        "calculation": None if item.reckoned is None else _reckoned(item.reckoned),
        "recorded": money_json(item.recorded),
        "correction": None if standing.correction is None else _correction(standing.correction),
        "counted": money_json(standing.counted.money)
        | {
            "retry_cost": amount_json(standing.counted.retry_cost),
            "absorbed_to": standing.counted.absorbed_to,
            "posting_period": standing.posting_period,
        },
        "rules": list(item.rules),
        "problems": list(item.problems),
    }


def _reckoned(reckoned: Reckoned) -> dict[str, Any]:
    tier = reckoned.tier
    return {
        "price_status": reckoned.price_status,
        "currency": reckoned.currency,
        "matched_model": reckoned.matched_model or None,
        "context_tier": None
        if tier is None
        else {
            "input_tokens": tier.input_tokens,
            "input_tokens_above": tier.input_tokens_above,
            "bounds": list(tier.bounds),
        },
        "price_source": _source(reckoned.source),
        "plan": _plan(reckoned.plan),
        "lines": [_line(line) for line in reckoned.lines],
        "markups": [
            {"of": each.of, "base": text_of(each.base_pico), "ppm": each.ppm, "amount": text_of(each.pico)}
            for each in reckoned.markups
        ],
        "amounts": money_json(reckoned.reckoned),
        "savings": None if reckoned.savings is None else _savings(reckoned.savings),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "component": line.component,
        "name": line.name,
        "unit": line.unit,
        "quantity": line.quantity,
        "list_price": amount_json(line.list_price_pico),
        "list_cost": amount_json(line.list_pico),
        "provider_price": amount_json(line.provider_price_pico),
        "provider_cost": amount_json(line.provider_pico),
    }


def _savings(savings: Savings) -> dict[str, Any]:
    return {
        "avoided_input_tokens": savings.input_tokens,
        "avoided_output_tokens": savings.output_tokens,
        "list_cost_avoided": amount_json(savings.list_pico),
        "provider_cost_avoided": amount_json(savings.provider_pico),
        "charge_avoided": amount_json(savings.charge_pico),
        "lines": [_line(line) for line in savings.lines],
        "reason": savings.reason or None,
    }


def _source(source: RateSource | PolicySource | None) -> dict[str, Any] | None:
    if source is None:
        return None
    dates = {"effective_from": utc(source.effective_from_us), "effective_to": _time(source.effective_to_us)}
    if isinstance(source, PolicySource):
        prices = {
            "per_decision": text_of(source.pico_per_decision),
            "per_unit": text_of(source.pico_per_unit),
            "per_1k_tokens": text_of(source.pico_per_scanned_token * 1_000),
        }
        return {"prices_id": source.prices_id, "billed_by": source.billed_by, **prices, **dates}
    return {
        "rate_card_id": source.card_id,
        "content_hash": source.content_hash,
        "source": source.source,
        "published_by": source.published_by,
        "metadata_offset": source.metadata_offset,
        "card_effective_from": utc(source.card_from_us),
        "card_effective_to": _time(source.card_to_us),
        "workload_class": source.workload_class,
        "region": source.region or None,
        **dates,
    }


def _plan(applied: PlanApplied) -> dict[str, Any]:
    plan = applied.plan
    return {
        "plan_id": plan.plan_id,
        "markup_ppm": plan.markup_ppm,
        "retry_rule": plan.retry_rule,
        "retry_cost_centre": plan.retry_cost_centre,
        "cache_rule": plan.cache_rule,
        "cache_price_ppm": plan.cache_price_ppm,
        "accept_claimed_identity": plan.accept_claimed_identity,
        "charged": applied.charged,
        "effective_from": utc(applied.effective_from_us),
        "effective_to": _time(applied.effective_to_us),
    }


def _correction(correction: CorrectionApplied) -> dict[str, Any]:
    return {
        "run_id": correction.run_id,
        "cause": correction.cause,
        "reason": correction.reason,
        "kid": correction.kid,
        "committed_hour": utc(correction.committed_hour_us),
        "rate_card_id": correction.rate_card_id,
        "amounts": money_json(correction.money),
        "lines": [_line(line) for line in correction.lines],
    }


def _path(path: Path) -> dict[str, Any]:
    return {
        "attribution": path.attribution,
        "found_by": path.found_by,
        "note": path.note,
        **path.steps,
        "tenant_name": path.tenant_name,
        "tenant_effective_from": _time(path.tenant_from_us),
        "tenant_effective_to": _time(path.tenant_to_us),
        "identities": [_identity(identity) for identity in path.identities],
        "corrected": path.corrected,
    }


def _identity(identity: Identity) -> dict[str, Any]:
    life = ("issued_at", "rotated_at", "expires_at", "offboarded_at", "effective_from", "effective_to")
    return {
        **{
            name: getattr(identity, name)
            for name in ("kind", "identity_id", "tenant_id", "app_id", "workload_id", "owner")
        },
        **{name: _time(getattr(identity, f"{name}_us")) for name in life},
    }


def _total(total: Total) -> dict[str, Any]:
    return {
        "currency": total.currency,
        **money_json(total.money),
        "retry_cost": text_of(total.retry_cost),
        "items": total.items,
        "without_amount": total.without_amount,
        "internal_policy_cost": text_of(total.internal_policy_cost),
        "components_less_absorbed": text_of(total.parts),
    }


def _postings(rows: RequestRows) -> dict[str, Any]:
    hours = sorted({row["posted_hour"] for row in (*rows.usage, *rows.decisions)})
    return {
        "seals": [
            {"posted_hour": utc(hour), "seal": _seal(rows.seals[hour]) if hour in rows.seals else None}
            for hour in hours
        ],
        "ledger": [_row("ledger", row) for row in rows.ledger],
        "corrections": [
            _row("corrections", row)
            | {"committed_hour": utc(row["committed_hour"]), "sealed": row["committed_hour"] in rows.seals}
            for row in rows.corrections
        ],
        "exceptions": [_row("exceptions", row) for row in rows.exceptions],
        "conflicting_attempts": sorted(row["attempt"] for row in rows.conflicts),
        "evaluates": rows.evaluates,
        "same_idempotency_key": rows.siblings,
        "retry_groups": [_group(row) for row in rows.groups],
    }


def _group(row: Row) -> dict[str, Any]:
    return {name: amount_json(row[name]) if name in _GROUPED else row[name] for name in row}


def _seal(seal: Row) -> dict[str, Any]:
    return {
        "number": seal["number"],
        "seal_id": seal["seal_id"],
        "kid": seal["kid"],
        "sealed_at": utc(seal["sealed_us"]),
    }


def _row(table: str, row: Row) -> dict[str, Any]:
    """A row by its columns."""
    shown: dict[str, Any] = {}
    for name, kind in TABLES[table]:
        if name in row and name not in _SUPPRESSED:
            value = row[name]
            shown[name] = _time(value) if kind == "time" else amount_json(value) if kind.startswith("pico") else value
    return shown
