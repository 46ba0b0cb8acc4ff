"""How an admitted event becomes a row of `usage_facts` or `policy_facts`: attribution, price, version, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from gatemeter.processors.estimating.estimates import WITH, estimated
from gatemeter.processors.fold.events import BATCH, IN_PROGRESS
from gatemeter.processors.fold.state import Clock
from gatemeter.processors.fold.types import FOLD_RELEASE, HOUR_US, Row
from gatemeter.processors.metadata.attributing import VERIFIED, who_of
from gatemeter.processors.metadata.views import Attribution, Parameters, Rate, View
from gatemeter.processors.pricing import components
from gatemeter.schemas.tables import BUCKETS, INPUT_BUCKETS, METERS, OUTPUT_BUCKETS

OFFSET_MASK: Final = (1 << 40) - 1
PAIRED_BIT: Final = 1 << 15
TEXTS: Final = (
    "finish_reason",
    "provider_request_id",
    "provider",
    "model",
    "served_model",
    "operation",
    "region",
    "service_tier",
    "route",
    "parent_request_id",
    "trace_id",
    "idempotency_key",
    "client_request_id",
    "client_network",
    "content_digest",
    "usage_raw",
    "usage_consistency",
)
"""Text fields of a usage fact beside who it was; absent text is ''."""

WHO_TEXTS: Final = ("tenant_id", "app_id", "workload_id", "credential_fingerprint", "end_user")
_AS_THEY_ARE: Final = ("delivered", "http_status", "stream", "workload_class", "purpose", "gateway_cache")
REQUEST_FIELDS: Final = (
    *("kind", "request_id", "attempt", "request_started_at", "occurred_at", "content_hash"),
    *(*WHO_TEXTS, "identity_source"),
    *TEXTS,
    *_AS_THEY_ARE,
)
"""What `unanswered_fact` and the fold's memory need of a REQUEST."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch of events came from: its record and envelope."""

    topic: str
    partition: int
    offset: int
    recorded_at_us: int
    kid: str
    gateway_id: str
    gateway_kind: str
    epoch: str
    first_sequence: int

    def provenance(self, index: int, view: View) -> Row:
        """The last columns of every fact."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "event_index": index,
            "kid": self.kid,
            "epoch": self.epoch,
            "sequence": self.first_sequence + index,
            "metadata_offset": view.offset,
            "fold_release": FOLD_RELEASE,
        }


def version(*, has_response: bool, usage_revision: int, offset: int, paired: bool) -> int:
    """64 bits, from the highest: has_response 1, usage revision 7, complement of the offset 40, paired 1, release 15.

    So more information wins, then the first copy.
    """
    return has_response << 63 | usage_revision << 56 | (OFFSET_MASK - offset) << 16 | paired << 15 | FOLD_RELEASE


def latency_class(latency_us: int | None, parameters: Parameters) -> str:
    """fast, normal, slow, very_slow by the thresholds in force; unknown where no latency was measured."""
    if latency_us is None:
        return "unknown"
    thresholds = parameters.latency
    if latency_us < thresholds.fast_below_us:
        return "fast"
    if latency_us < thresholds.normal_below_us:
        return "normal"
    return "slow" if latency_us < thresholds.slow_below_us else "very_slow"


def evidence_grade(identity_source: str) -> str:
    """A where the gateway verified the identity, B where a header claims it."""
    return "A" if identity_source in VERIFIED else "B"


def _who(event: Mapping[str, Any], attribution: Attribution) -> Row:
    return {
        "tenant_id": attribution.tenant_id,
        "app_id": attribution.app_id,
        "workload_id": event["workload_id"] or "",
        "credential_fingerprint": event["credential_fingerprint"] or "",
        "end_user": event["end_user"] or "",
        "identity_source": event["identity_source"],
        "evidence_grade": evidence_grade(event["identity_source"]),
        "attribution": attribution.attribution,
        "attribution_path": attribution.path,
        "attribution_note": attribution.note,
        "cost_centre": attribution.cost_centre,
        "business_unit": attribution.business_unit,
        "organisation": attribution.organisation,
    }


def _attribution(event: Mapping[str, Any], view: View) -> Attribution:
    return view.attribution_of(who_of(event), event["request_started_at"])


def find_rate(
    view: View, provider: str, models: tuple[str, str], tier: str, workload_class: str, region: str, at_us: int
) -> Rate | None:
    """The rate of the served model, else of the model asked for where the gateway does not know what was served."""
    served, asked = models
    return view.rate(provider, served or asked, tier, workload_class, region, at_us)


def usage_fact(event: Mapping[str, Any], index: int, source: Source, clock: Clock, view: View) -> Row:
    """The row of a RESPONSE, not yet paired and without its part in windows; what was not reported is estimated."""
    event = estimated(event)
    attribution = _attribution(event, view)
    started = event["request_started_at"]
    models = (event["served_model"] or "", event["model"] or "")
    tier, region = event["service_tier"] or "", event["region"] or ""
    rate = find_rate(view, event["provider"] or "", models, tier, event["workload_class"], region, started)
    amounts = components.price_usage(event, rate, attribution, evidence_grade(event["identity_source"]))
    row = _usage_row(event, index, source, clock, view, attribution)
    row.update(asdict(amounts))
    if rate is not None:
        row.update(currency=rate.currency, rate_card_id=rate.card_id, rate_card_hash=rate.card_hash)
    row.update(
        response_hash=event["content_hash"].hex(),
        version=version(has_response=True, usage_revision=event["usage_revision"], offset=source.offset, paired=False),
        status=event["status"],
        has_response=True,
        fresh=clock.is_fresh(event["occurred_at"]),
        latency_us=event["latency_us"],
        ttft_us=event["ttft_us"],
        latency_class=latency_class(event["latency_us"], view.parameters),
        usage_revision=event["usage_revision"],
        estimated_with=event.get(WITH, ""),
    )
    _set_usage(row, event)
    return row


def _set_usage(row: Row, event: Mapping[str, Any]) -> None:
    known = components.has_usage(event)
    row["usage_source"] = (event["usage_source"] or "reported") if known else "missing"
    if event["gateway_cache"] in components.CACHE_HITS:
        row["avoided_input_tokens"] = _total(event, INPUT_BUCKETS)
        row["avoided_output_tokens"] = _total(event, OUTPUT_BUCKETS)
        row["avoided_usage"] = components.echo(event)
        return
    for name in (*BUCKETS, *METERS):
        row[name] = event[name]


def _total(event: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    known = [event[name] for name in names if event[name] is not None]
    return sum(known) if known else None


def usage_at_us(event: Mapping[str, Any]) -> int:
    """To which instant usage belongs: the start of its request, of a batch job the time of the state it is in."""
    of_state = event["kind"] == "RESPONSE" and event["workload_class"] == BATCH
    return int(event["occurred_at" if of_state else "request_started_at"])


def _usage_row(
    event: Mapping[str, Any], index: int, source: Source, clock: Clock, view: View, attribution: Attribution
) -> Row:
    started, used_at = event["request_started_at"], usage_at_us(event)
    return {
        "posted_hour": clock.posted_hour_us(used_at),
        "gateway_id": source.gateway_id,
        "request_id": event["request_id"],
        "attempt": event["attempt"],
        "usage_hour": used_at - used_at % HOUR_US,
        "request_started_at": started,
        "occurred_at": event["occurred_at"],
        "recorded_at": source.recorded_at_us,
        "paired": False,
        "gateway_kind": source.gateway_kind,
        **_who(event, attribution),
        **{name: event[name] or "" for name in TEXTS},
        **{name: event[name] for name in _AS_THEY_ARE},
        "latency_thresholds_version": view.parameters.latency.version,
        **dict.fromkeys((*BUCKETS, *METERS, "avoided_input_tokens", "avoided_output_tokens")),
        "avoided_usage": "",
        "currency": view.currency(started),
        "rate_card_id": "",
        "rate_card_hash": "",
        "plan_id": attribution.plan.plan_id,
        "retry_rule": attribution.plan.retry_rule,
        "retry_cost_centre": attribution.plan.retry_cost_centre,
        "window_tokens": 0,
        "window_cost": 0,
        **source.provenance(index, view),
    }


def unanswered_fact(
    event: Mapping[str, Any], index: int, source: Source, request_view: View, clock: Clock, *, denied: bool
) -> Row:
    """The row of a REQUEST whose RESPONSE did not come in time: null usage, no charge; `denied` costs zero."""
    attribution = _attribution(event, request_view)
    row = _usage_row(event, index, source, clock, request_view, attribution)
    row.update(asdict(components.FREE if denied else components.unknown("no_usage")))
    row.update(
        response_hash="",
        version=version(has_response=False, usage_revision=0, offset=source.offset, paired=False),
        status="denied" if denied else "orphan",
        has_response=False,
        fresh=False,
        delivered=None,
        http_status=None,
        latency_us=None,
        ttft_us=None,
        latency_class="unknown",
        usage_revision=0,
        usage_source="missing",
        usage_consistency="",
        estimated_with="",
    )
    return row


def running_fact(event: Mapping[str, Any], index: int, source: Source, view: View, clock: Clock) -> Row:
    """The row of a batch job's REQUEST, at once: it waits for no timer, and is carried over until its final state."""
    return {**unanswered_fact(event, index, source, view, clock, denied=False), "status": IN_PROGRESS}


def paired(fact: Row) -> Row:
    """The same fact, its REQUEST seen: price and all else as they were."""
    return {**fact, "paired": True, "version": fact["version"] | PAIRED_BIT}


def policy_fact(event: Mapping[str, Any], index: int, source: Source, clock: Clock, view: View) -> Row:
    """The row of a POLICY decision, with its own price and attribution."""
    attribution = _attribution(event, view)
    started = event["request_started_at"]
    price = view.policy_price(event["policy_id"], started)
    amounts = components.price_decision(event, price, attribution, evidence_grade(event["identity_source"]))
    fresh = clock.is_fresh(event["occurred_at"])
    return {
        "posted_hour": clock.posted_hour_us(started),
        "gateway_id": event["subject_gateway_id"] or source.gateway_id,
        "decision_id": event["decision_id"],
        "content_hash": event["content_hash"].hex(),
        "version": version(has_response=False, usage_revision=0, offset=source.offset, paired=False),
        "usage_hour": started - started % HOUR_US,
        "request_id": event["request_id"],
        "attempt": event["attempt"],
        "request_started_at": started,
        "occurred_at": event["occurred_at"],
        "recorded_at": source.recorded_at_us,
        "sender_gateway_id": source.gateway_id,
        "gateway_kind": source.gateway_kind,
        **_who(event, attribution),
        "policy_id": event["policy_id"],
        "policy_version": event["policy_version"] or "",
        "outcome": event["outcome"],
        "latency_us": event["latency_us"],
        "units": event["units"],
        "scanned_tokens": event["scanned_tokens"],
        "evaluator_request_id": event["evaluator_request_id"] or "",
        "price_status": amounts.price_status,
        "currency": price.currency if price else view.currency(started),
        "prices_id": price.prices_id if price else "",
        "billed_by": components.biller(event, price),
        "plan_id": attribution.plan.plan_id,
        "list_cost": amounts.list_cost,
        "provider_cost": amounts.provider_cost,
        "policy_cost": amounts.policy_cost,
        "markup": amounts.markup,
        "absorbed": amounts.absorbed,
        "absorbed_to": amounts.absorbed_to,
        "charge": amounts.charge,
        "fresh": fresh,
        "window_cost": (amounts.charge or 0) if fresh else 0,
        **source.provenance(index, view),
    }
