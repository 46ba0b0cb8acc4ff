"""From a call of the trace to what its gateway saw: requests, policy decisions, failed attempts, the answer.

Everything but the trace is drawn from a seed: the same seed and start give the same events, byte for byte. The answer
carries exactly the trace's tokens; what failed attempts used comes on top.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gatemeter.cli.demo.people import BUDGET, CALLERS, GATEWAY_OF, INJECTION, PII, Caller, Model
from gatemeter.cli.demo.trace import Call
from gatemeter.producers.events import Event, PolicyEvent, RequestEvent, ResponseEvent

FAILED_SHARE: Final = 0.03
"""Requests whose first attempt fails."""
SECOND_FAILURE_SHARE: Final = 0.15
"""Of these, those whose second attempt fails too."""
REPEATED_SHARE: Final = 0.01
"""Responses that a hook reports twice: the same event again under a new sequence."""

_OUTCOMES: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    PII: ((0.91, "allow"), (0.09, "redact")),
    INJECTION: ((0.985, "allow"), (0.015, "flag")),
    BUDGET: ((0.995, "allow"), (0.005, "flag")),
}
_DEFAULT_OUTCOMES: Final = ((0.98, "allow"), (0.02, "flag"))
# status, HTTP status, whether the provider charges for what it had read and written by then
_FAILURES: Final = (("error", 429, False), ("error", 503, False), ("timeout", 504, True), ("error", 500, True))
_HASH_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """An event at the gateway that saw it; `repeated`: its hook says it twice."""

    gateway: str
    event: Event
    repeated: bool = False


def traffic(calls: list[Call], seed: int) -> list[Seen]:
    """What the gateways saw, in the order in which it happened."""
    rng = random.Random(seed)
    seen = [entry for call in calls for entry in _of_call(call, rng)]
    return sorted(seen, key=lambda entry: entry.event.occurred_at)


def _of_call(call: Call, rng: random.Random) -> Iterator[Seen]:
    gateway = GATEWAY_OF[call.service]
    caller = _pick(rng, [(caller.share, caller) for caller in CALLERS[call.service]])
    model = _pick(rng, list(caller.models))
    who = _who(call, caller, rng)
    at_us = call.started_us
    for index, policy in enumerate(caller.policies):
        decision = _decision(policy, index, call, rng)
        at_us += decision["latency_us"]
        yield Seen(gateway, PolicyEvent(**who, **decision, occurred_at=at_us))
    failures = _failures(rng)
    for attempt, failure in enumerate(failures, 1):
        what = _what(model, rng)
        yield Seen(gateway, RequestEvent(**who, **what, attempt=attempt, occurred_at=at_us))
        response = _failed(call, model, failure, rng)
        at_us += response["latency_us"]
        yield Seen(gateway, ResponseEvent(**who, **what, **response, attempt=attempt, occurred_at=at_us))
        if attempt == len(failures) and rng.random() < 0.4:
            model = _pick(rng, list(caller.models))  # falls back, where the application has another model
    what = _what(model, rng)
    attempt = len(failures) + 1
    yield Seen(gateway, RequestEvent(**who, **what, attempt=attempt, occurred_at=at_us))
    answer = _answer(call, model, rng)
    at_us += answer["latency_us"]
    event = ResponseEvent(**who, **what, **answer, attempt=attempt, occurred_at=at_us)
    yield Seen(gateway, event, repeated=rng.random() < REPEATED_SHARE)


def _pick(rng: random.Random, choices: list[tuple[int, Any]]) -> Any:
    return rng.choices([choice for _, choice in choices], [share for share, _ in choices])[0]


def _who(call: Call, caller: Caller, rng: random.Random) -> dict[str, Any]:
    user = rng.randrange(caller.users)
    return {
        "request_id": f"{rng.getrandbits(128):032x}",
        "request_started_at": call.started_us,
        "trace_id": f"{rng.getrandbits(128):032x}",
        "tenant_id": caller.tenant_id,
        "app_id": caller.app_id,
        "workload_id": caller.workload_id,
        "credential_fingerprint": f"{random.Random(caller.workload_id).getrandbits(_HASH_BITS):016x}",
        "end_user": f"user-{user:03d}@{caller.tenant_id}.example",
        "identity_source": caller.identity,
        "route": f"/{call.service}",
    }


def _what(model: Model, rng: random.Random) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model": model.name,
        "served_model": model.name,
        "operation": "chat",
        "stream": True,
        "region": model.region,
    }


def _decision(policy: str, index: int, call: Call, rng: random.Random) -> dict[str, Any]:
    shares = _OUTCOMES.get(policy, _DEFAULT_OUTCOMES)
    return {
        "decision_id": f"{rng.getrandbits(96):024x}",
        "policy_id": policy,
        "policy_version": "2026-10",
        "outcome": rng.choices([outcome for _, outcome in shares], [share for share, _ in shares])[0],
        "latency_us": int(rng.lognormvariate(8.3, 0.5)),
        "units": call.input_tokens if policy == PII else None,
    }


def _failures(rng: random.Random) -> list[tuple[str, int, bool]]:
    failures = []
    if rng.random() < FAILED_SHARE:
        failures.append(rng.choice(_FAILURES))
        if rng.random() < SECOND_FAILURE_SHARE:
            failures.append(rng.choice(_FAILURES))
    return failures


def _failed(call: Call, model: Model, failure: tuple[str, int, bool], rng: random.Random) -> dict[str, Any]:
    status, http_status, charged = failure
    response: dict[str, Any] = {
        "status": status,
        "http_status": http_status,
        "delivered": False,
        "latency_us": 8_000_000 if status == "timeout" else int(rng.lognormvariate(12.5, 0.6)),
        "usage_source": "missing",
    }
    if charged:
        response["usage_source"] = "reported"
        response["input_text_uncached"] = call.input_tokens
        response["output_text_visible"] = rng.randrange(call.output_tokens + 1)
    return response


def _answer(call: Call, model: Model, rng: random.Random) -> dict[str, Any]:
    cached = 0
    if model.caches and call.input_tokens >= 1_024 and rng.random() < 0.35:
        cached = int(call.input_tokens * rng.uniform(0.3, 0.8)) // 128 * 128
    reasoning = int(call.output_tokens * rng.uniform(0.1, 0.5)) if model.reasons and rng.random() < 0.3 else 0
    ttft_us = int(rng.lognormvariate(12.6, 0.4)) + 35 * call.input_tokens
    raw = {"input": call.input_tokens, "cached": cached, "output": call.output_tokens, "reasoning": reasoning}
    return {
        "status": "ok",
        "http_status": 200,
        "delivered": True,
        "provider_request_id": f"{model.provider}-{rng.getrandbits(_HASH_BITS):016x}",
        "finish_reason": "stop",
        "latency_us": ttft_us + int(call.output_tokens * rng.uniform(12_000, 28_000)),
        "ttft_us": ttft_us,
        "usage_source": "reported",
        "input_text_uncached": call.input_tokens - cached,
        "input_text_cache_read": cached,
        "output_text_visible": call.output_tokens - reasoning,
        "output_text_reasoning": reasoning,
        "usage_raw": json.dumps(raw, separators=(",", ":")),
    }
