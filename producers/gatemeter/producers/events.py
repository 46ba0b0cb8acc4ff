"""The typed events that a hook hands to the emitter: REQUEST, RESPONSE and POLICY, with their accepted ranges.

The fields are those of GatewayEvent in `avro/gateway_batch.v1.avsc`. Times are integers of microseconds, UTC. None is
"unknown", never zero. Constructing an event checks nothing; the emitter does, and refuses without raising
(`validation.py`). The order of the fields is the spool's form; new fields go to the end of their class.
"""

from __future__ import annotations

import os
import time
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from gatemeter.schemas import limits

MAX_ID_LENGTH: Final = 256
MAX_TEXT_LENGTH: Final = 1024
MAX_MISMATCHES_LENGTH: Final = 4096
MAX_TIME_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Name = Annotated[str, Meta(max_length=MAX_ID_LENGTH)] | None
Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)] | None
Time = Annotated[int, Meta(ge=0, le=MAX_TIME_US)]
Tokens = Annotated[int, Meta(ge=0, le=limits.MAX_TOKENS_PER_EVENT)] | None
Network = (
    Annotated[
        str,
        Meta(
            pattern=r"^(?:\d{1,3}(?:\.\d{1,3}){3}/(?:\d|1\d|2[0-4])|[0-9a-f:]{2,39}/(?:\d|[1-3]\d|4[0-8]))$(?!\n)",
            description="a network of at most 24 bits (203.0.113.0/24), in IPv6 of at most 48 (2001:db8:7::/48)",
        ),
    ]
    | None
)
Latency = Annotated[int, Meta(ge=0, le=limits.MAX_LATENCY_US)] | None
Attempt = Annotated[int, Meta(ge=1, le=limits.MAX_ATTEMPT)]
AttemptOrNone = Annotated[int, Meta(ge=0, le=limits.MAX_ATTEMPT)]


def now_us() -> int:
    """The wall clock in microseconds, UTC."""
    return time.time_ns() // 1000


def new_request_id() -> str:
    """A random id of 32 hex digits. The gateway mints it; an id that the caller sent goes to `client_request_id`."""
    return os.urandom(16).hex()


class _Event(Struct, kw_only=True, array_like=True):
    """What every event says: which request, when, who and what. `occurred_at` is now unless given."""

    request_id: Id
    request_started_at: Time
    occurred_at: Time = field(default_factory=now_us)
    parent_request_id: Name = None
    trace_id: Name = None
    idempotency_key: Name = None
    client_request_id: Name = None
    tenant_id: Name = None
    app_id: Name = None
    workload_id: Text = None
    credential_fingerprint: Name = None
    end_user: Text = None
    identity_source: Literal["verified_credential", "mtls", "header_claim"] = "header_claim"
    provider: Name = None
    model: Name = None
    served_model: Name = None
    operation: Name = None
    stream: bool | None = None
    region: Name = None
    service_tier: Name = None
    workload_class: Literal["realtime", "batch"] = "realtime"
    content_digest: Name = None
    route: Text = None
    purpose: Literal["workload", "policy_evaluation"] = "workload"
    client_network: Network = None
    """Where the caller is seen from: `networks.network_of` of its address. An address itself is refused."""


class RequestEvent(_Event, kw_only=True, array_like=True, tag="REQUEST"):
    """A call that goes to a provider, before its answer."""

    attempt: Attempt = 1


class ResponseEvent(_Event, kw_only=True, array_like=True, tag="RESPONSE"):
    """How one attempt ended and what it used. Repeats who and what, so that it can be priced alone.

    `in_progress` is for batch jobs that were looked at before their end: it has no usage, a later usage revision does.
    """

    status: Literal["ok", "error", "cancelled", "timeout", "in_progress"]
    attempt: Attempt = 1
    delivered: bool | None = None
    http_status: Annotated[int, Meta(ge=0, le=999)] | None = None
    provider_request_id: Name = None
    finish_reason: Text = None
    latency_us: Latency = None
    ttft_us: Latency = None
    gateway_cache: Literal["none", "miss", "exact", "semantic"] = "none"
    usage_revision: Annotated[int, Meta(ge=0, le=limits.MAX_USAGE_REVISION)] = 0
    usage_source: Literal["reported", "estimated", "missing"] | None = None
    input_text_uncached: Tokens = None
    input_text_cache_read: Tokens = None
    input_text_cache_write_5m: Tokens = None
    input_text_cache_write_1h: Tokens = None
    input_audio_uncached: Tokens = None
    input_audio_cache_read: Tokens = None
    input_image_uncached: Tokens = None
    input_image_cache_read: Tokens = None
    output_text_visible: Tokens = None
    output_text_reasoning: Tokens = None
    output_audio_visible: Tokens = None
    output_image_visible: Tokens = None
    images: Annotated[int, Meta(ge=0, le=limits.MAX_METER["images"])] | None = None
    media_ms: Annotated[int, Meta(ge=0, le=limits.MAX_METER["media_ms"])] | None = None
    searches: Annotated[int, Meta(ge=0, le=limits.MAX_METER["searches"])] | None = None
    tool_calls: Annotated[int, Meta(ge=0, le=limits.MAX_METER["tool_calls"])] | None = None
    usage_raw: str | None = None
    uncounted_prompt: str | None = None
    uncounted_completion: str | None = None
    usage_consistency: Literal["consistent", "mismatch", "unverified"] | None = None
    usage_mismatches: Annotated[str, Meta(max_length=MAX_MISMATCHES_LENGTH)] | None = None


class PolicyEvent(_Event, kw_only=True, array_like=True, tag="POLICY"):
    """One decision of a policy about a request. `attempt` 0: it belongs to no attempt."""

    decision_id: Id
    policy_id: Id
    outcome: Literal["allow", "deny", "redact", "flag", "error"]
    attempt: AttemptOrNone = 0
    latency_us: Latency = None
    subject_gateway_id: Name = None
    policy_version: Name = None
    units: Annotated[int, Meta(ge=0, le=limits.MAX_POLICY_UNITS)] | None = None
    evaluator_request_id: Name = None
    scanned_tokens: Tokens = None


Event = RequestEvent | ResponseEvent | PolicyEvent
EVENT_TYPES: Final[dict[str, type[RequestEvent] | type[ResponseEvent] | type[PolicyEvent]]] = {
    "REQUEST": RequestEvent,
    "RESPONSE": ResponseEvent,
    "POLICY": PolicyEvent,
}
FIELDS: Final[dict[str, tuple[str, ...]]] = {kind: event.__struct_fields__ for kind, event in EVENT_TYPES.items()}
"""By kind, the names of the values that follow the kind in the spool's form."""
