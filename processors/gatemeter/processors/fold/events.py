"""Which events are acceptable: one rule a line, in a fixed order, so that a refusal always names the same field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gatemeter.schemas import limits
from gatemeter.schemas.tables import BUCKETS, METERS

IN_PROGRESS: Final = "in_progress"
"""Status of a batch job that has no final state yet."""
BATCH: Final = "batch"
USAGE: Final = (*BUCKETS, *METERS)
MAX_ID_LENGTH: Final = 256
_QUANTITIES: Final = (*((name, limits.MAX_TOKENS_PER_EVENT) for name in BUCKETS), *limits.MAX_METER.items())
RESPONSE_RANGES: Final = (
    ("http_status", 999),
    ("latency_us", limits.MAX_LATENCY_US),
    ("ttft_us", limits.MAX_LATENCY_US),
    *_QUANTITIES,
)
POLICY_RANGES: Final = (
    ("latency_us", limits.MAX_LATENCY_US),
    ("units", limits.MAX_POLICY_UNITS),
    ("scanned_tokens", limits.MAX_TOKENS_PER_EVENT),
)


def refusal(event: Mapping[str, Any], recorded_at_us: int, future_bound_us: int) -> tuple[str, str] | None:
    """(reason, detail) where the event must be quarantined, else None. `event` is a decoded GatewayEvent."""
    common = _common_refusal(event, recorded_at_us, future_bound_us)
    if common is not None:
        return common
    if event["kind"] == "RESPONSE":
        return _response_refusal(event)
    if event["kind"] == "POLICY":
        return _policy_refusal(event)
    return None


def _common_refusal(event: Mapping[str, Any], recorded_at_us: int, future_bound_us: int) -> tuple[str, str] | None:
    occurred, started = event["occurred_at"], event["request_started_at"]
    if occurred > recorded_at_us + future_bound_us:
        ahead_ms = (occurred - recorded_at_us) // 1000
        return (
            "future",
            f"occurred_at is {ahead_ms} ms ahead of the log, at most {future_bound_us // 1000} ms are accepted",
        )
    if started > occurred:
        return "invalid", "request_started_at must not be later than occurred_at"
    if occurred - started > limits.MAX_REQUEST_AGE_US:
        return "invalid", f"request_started_at must be at most {limits.MAX_REQUEST_AGE_US} us before occurred_at"
    if started < 0:
        return "invalid", "request_started_at must be 1970 or later"
    if not 1 <= len(event["request_id"]) <= MAX_ID_LENGTH:
        return "invalid", f"request_id must have 1 to {MAX_ID_LENGTH} characters, got {len(event['request_id'])}"
    lowest = 0 if event["kind"] == "POLICY" else 1
    if not lowest <= event["attempt"] <= limits.MAX_ATTEMPT:
        return "invalid", f"attempt must be {lowest} to {limits.MAX_ATTEMPT}, got {event['attempt']}"
    return None


def _out_of_range(event: Mapping[str, Any], ranges: tuple[tuple[str, int], ...]) -> tuple[str, str] | None:
    for name, highest in ranges:
        value = event[name]
        if value is not None and not 0 <= value <= highest:
            return "invalid", f"{name} must be 0 to {highest}, got {value}"
    return None


def _response_refusal(event: Mapping[str, Any]) -> tuple[str, str] | None:
    if event["status"] is None:
        return "invalid", "status must be ok, error, cancelled, timeout or in_progress in a RESPONSE"
    if not 0 <= event["usage_revision"] <= limits.MAX_USAGE_REVISION:
        return "invalid", f"usage_revision must be 0 to {limits.MAX_USAGE_REVISION}, got {event['usage_revision']}"
    wrong = _out_of_range(event, RESPONSE_RANGES)
    if wrong is not None:
        return wrong
    if event["status"] == IN_PROGRESS:
        if event["workload_class"] != BATCH:
            return "invalid", f"status in_progress must have workload_class batch, got {event['workload_class']}"
        if any(event[name] is not None for name in USAGE):
            return "invalid", "status in_progress must have no usage: the final usage revision states it"
    total = sum(event[name] or 0 for name in BUCKETS)
    if total > limits.MAX_TOKENS_PER_EVENT:
        return "invalid", f"the token buckets must add up to at most {limits.MAX_TOKENS_PER_EVENT}, got {total}"
    return None


def _policy_refusal(event: Mapping[str, Any]) -> tuple[str, str] | None:
    for name in ("decision_id", "policy_id"):
        if not 1 <= len(event[name] or "") <= MAX_ID_LENGTH:
            return "invalid", f"{name} must have 1 to {MAX_ID_LENGTH} characters in a POLICY"
    if event["outcome"] is None:
        return "invalid", "outcome must be allow, deny, redact, flag or error in a POLICY"
    return _out_of_range(event, POLICY_RANGES)
