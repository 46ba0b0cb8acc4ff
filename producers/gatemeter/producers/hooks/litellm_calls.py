"""One call through LiteLLM, attempt by attempt: what its callbacks tell becomes REQUEST, RESPONSE and POLICY events.

LiteLLM tells the same call through several callbacks, some late and some twice (docs/hooks/litellm.md); here each
attempt is published once. An attempt whose end is known before its figures is published at once, and again as a usage
revision when they come: what is published survives the process. Nothing here imports litellm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from gatemeter.producers.events import new_request_id, now_us
from gatemeter.producers.hooks.identity import Identity
from gatemeter.producers.hooks.litellm_reading import (
    OPERATIONS,
    Decision,
    decisions_of,
    http_status_of,
    identity_of,
    is_rejection,
    mapping,
    metadata_of,
    rejected_by,
    sent_of,
    shape_of_answer,
    short,
    status_of_error,
)
from gatemeter.producers.hooks.litellm_usage import (
    StreamWatch,
    estimated,
    usage_of_chunks,
    usage_of_litellm,
    usage_of_raw_answer,
)
from gatemeter.producers.hooks.metered_call import Emits as EmitsEvents
from gatemeter.producers.networks import network_of
from gatemeter.schemas.limits import MAX_ATTEMPT, MAX_LATENCY_US


class Emits(EmitsEvents, Protocol):
    """What the hook needs of an `Emitter`."""

    def request(self, **fields: Any) -> bool:
        """A call begins."""
        ...

    def response(self, **fields: Any) -> bool:
        """An attempt ended."""
        ...

    def policy(self, **fields: Any) -> bool:
        """A policy decided."""
        ...


class Attempt:
    """One try at one deployment."""

    def __init__(self, number: int, call_type: str, provider: str | None, fields: dict[str, Any]) -> None:
        self.number = number
        self.call_type = call_type
        self.shape = shape_of_answer(call_type, provider)
        self.fields = fields
        self.watch: StreamWatch | None = None
        self.revision = -1
        """Of the last RESPONSE; -1 before the first."""
        self.status: str | None = None
        self.published: dict[str, Any] | None = None
        """What its last RESPONSE said of the answer."""
        self.lacks_usage = False
        """Its RESPONSE was published without any figures."""
        self.first_chunk: int | None = None
        self.latency_us: int | None = None
        self._clock = time.perf_counter_ns()

    def us_until(self, then: int | None = None) -> int:
        """Microseconds from its begin until then, or now."""
        return min(((then or time.perf_counter_ns()) - self._clock) // 1000, MAX_LATENCY_US)


class Call:
    """What one call of a client became. LiteLLM carries it in its own record of the call, from callback to callback."""

    def __init__(self, emitter: Emits, kwargs: Mapping[str, Any]) -> None:
        self.request_id = new_request_id()
        self.started_at_us = now_us()
        self.attempt: Attempt | None = None
        self._emitter = emitter
        self._attempts = 0
        self._decisions = 0
        metadata = metadata_of(kwargs)
        self._who = _named(identity_of(metadata))
        route = getattr(metadata.get("user_api_key_auth"), "request_route", None)
        self._sent = {**sent_of(kwargs), "route": short(route) or short(metadata.get("user_api_key_request_route"))}

    def __deepcopy__(self, memo: dict[int, Any]) -> Call:
        """LiteLLM copies its records for other callbacks: the call stays one."""
        return self

    def __repr__(self) -> str:
        """Also what other callbacks that write LiteLLM's records as text make of it."""
        return f"<gatemeter call {self.request_id}>"

    def begin(self, call_type: str, provider: str | None, model: str | None, stream: bool | None) -> None:
        """A deployment is asked. A call that LiteLLM translates to another API begins twice, and is one attempt."""
        current = self.attempt
        if current is not None and current.status is None:
            if current.call_type != call_type and not current.watch:
                current.call_type, current.shape = call_type, shape_of_answer(call_type, provider)
                return
            self._end(current, "error", {"usage_source": "missing"})
        self._attempts = min(self._attempts + 1, MAX_ATTEMPT)
        fields = {
            "attempt": self._attempts,
            "provider": provider,
            "model": short(model),
            "operation": OPERATIONS[call_type],
            "stream": stream,
        }
        self.attempt = Attempt(self._attempts, call_type, provider, fields)
        self._emitter.request(**self._fields(), **fields)

    def failed(self, error: BaseException) -> None:
        """The deployment's attempt failed."""
        attempt = self.attempt
        if attempt is not None and attempt.status is None:
            fields = {"usage_source": "missing", "http_status": http_status_of(error)}
            self._end(attempt, status_of_error(error), fields)

    def answered(self, record: Mapping[str, Any]) -> None:
        """The provider's whole answer is here: it is published before the client has it."""
        attempt = self.attempt
        if (
            attempt is None
            or attempt.status is not None
            or attempt.watch is not None
            or attempt.fields["stream"] is True
        ):
            return
        usage = usage_of_raw_answer(attempt.shape, record.get("original_response"))
        if usage is not None:
            self._end(attempt, "ok", {"http_status": 200, **usage.event_fields()})
            attempt.lacks_usage = False

    def watching(self, response: object) -> StreamWatch | None:
        """Watches the stream of the current attempt."""
        attempt = self.attempt
        if attempt is None or attempt.status is not None:
            return None
        attempt.watch = StreamWatch(response, attempt.shape)
        return attempt.watch

    def touched(self) -> None:
        """The first chunk of a stream is here."""
        if self.attempt is not None and self.attempt.first_chunk is None:
            self.attempt.first_chunk = time.perf_counter_ns()

    def streamed(self, watch: StreamWatch, error: BaseException | None) -> None:
        """The stream came to its end, was left (cancelled) or broke. What the provider said last is published now."""
        watch.has_ended = True
        attempt = self.attempt
        if attempt is None or attempt.watch is not watch or attempt.status is not None:
            return
        usage = watch.usage() or (watch.usage_as_sent() if error is None else None)
        if usage is not None:
            self._end(attempt, "ok", {"http_status": 200, **usage.event_fields()})
        elif error is not None:
            self._end(attempt, status_of_error(error), {"usage_source": "missing", "http_status": 200})

    def succeeded(self, kwargs: Mapping[str, Any], response: object) -> None:
        """LiteLLM's word on a call that went well, or whose client left; it comes after the answer."""
        slo = mapping(kwargs.get("standard_logging_object"))
        self.decided(slo, metadata_of(kwargs))
        attempt = self.attempt
        if attempt is None or (attempt.status is not None and not attempt.lacks_usage):
            return
        if kwargs.get("cache_hit") is True:
            cache = "semantic" if "semantic" in str(kwargs.get("cache_type", "")) else "exact"
            figures = usage_of_litellm(response, getattr(response, "usage", None))
            self._end(attempt, "ok", {**estimated(figures), "gateway_cache": cache})
            return
        has_left = str(mapping(slo.get("error_information")).get("error_code")) == "499"
        status = attempt.status if attempt.status in ("cancelled", "error", "timeout") and attempt.watch else "ok"
        status = "cancelled" if has_left else status or "ok"
        if attempt.status is not None and attempt.watch is None:
            status = "ok"  # refused after the provider had answered
        self._end(attempt, status, {"http_status": 200, **self._used(attempt, kwargs, response, status)})

    def _used(self, attempt: Attempt, kwargs: Mapping[str, Any], response: object, status: str) -> dict[str, Any]:
        """Event fields of usage, and whose word it is."""
        merged = getattr(response, "usage", None)
        if attempt.fields["stream"] is not True and attempt.watch is None:
            raw = usage_of_raw_answer(attempt.shape, kwargs.get("original_response"))
            if raw is not None:
                return raw.event_fields()
        elif attempt.watch is not None and status == "ok":
            said = attempt.watch.chunk_usage()
            if said is not None and (usage := usage_of_chunks(response, said, merged, attempt.shape)) is not None:
                return usage.event_fields()
        return estimated(usage_of_litellm(response, merged))

    def gave_up(self, kwargs: Mapping[str, Any]) -> None:
        """LiteLLM's word on a failure: of the first attempt, of a stream that broke, or of a refusal by the gateway."""
        error, slo = kwargs.get("exception"), mapping(kwargs.get("standard_logging_object"))
        metadata = metadata_of(kwargs)
        denied = self.decided(slo, metadata)
        attempt = self.attempt
        if is_rejection(error) and not denied:
            self._decide(Decision("litellm.hook", "deny", None))
        if attempt is None:
            return
        if attempt.status is not None and attempt.lacks_usage and attempt.watch is not None:
            figures = estimated(usage_of_litellm(None, kwargs.get("combined_usage_object")))
            if figures["usage_source"] == "estimated":
                self._end(attempt, attempt.status, {"http_status": 200, **figures})
        elif is_rejection(error):
            self._withheld(attempt, kwargs)

    def _withheld(self, attempt: Attempt, kwargs: Mapping[str, Any]) -> None:
        """The gateway refused in the middle: it broke the call off, or kept back what the provider had answered."""
        if attempt.status == "ok" and attempt.published is not None and attempt.watch is None:
            self._end(attempt, "ok", {**attempt.published, "delivered": False})
        if attempt.status is not None:
            return
        raw = None if attempt.watch else usage_of_raw_answer(attempt.shape, kwargs.get("original_response"))
        if raw is None:
            self._end(attempt, "cancelled", {"usage_source": "missing"})
        else:
            self._end(attempt, "ok", {"http_status": 200, "delivered": False, **raw.event_fields()})

    def refused(self, kwargs: Mapping[str, Any]) -> None:
        """The gateway refused the call before it asked any provider: a REQUEST that a policy denied."""
        error, slo = kwargs.get("exception"), mapping(kwargs.get("standard_logging_object"))
        call_type, policy = str(kwargs.get("call_type")), rejected_by(error)
        if policy == "litellm.authentication":
            self._who = _named(Identity())  # it shows a key that is not known, and may say that it is anybody
        self._emitter.request(
            **self._fields(),
            attempt=1,
            model=short(kwargs.get("model")),
            operation=OPERATIONS[call_type],
            stream=kwargs.get("stream") if isinstance(kwargs.get("stream"), bool) else None,
        )
        if not self.decided(slo, metadata_of(kwargs)):
            self._decide(Decision(policy, "deny", None))

    def decided(self, slo: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
        """Publishes the decisions of guardrails that were not yet; whether one of them ever denied."""
        denied = False
        for index, decision in enumerate(decisions_of(slo, metadata)):
            denied = denied or decision.outcome == "deny"
            if index >= self._decisions:
                self._decisions = index + 1
                self._decide(decision)
        return denied

    def _decide(self, decision: Decision) -> None:
        self._emitter.policy(
            **self._fields(),
            decision_id=new_request_id(),
            policy_id=decision.policy_id,
            outcome=decision.outcome,
            latency_us=None if decision.latency_us is None else min(decision.latency_us, MAX_LATENCY_US),
        )

    def _end(self, attempt: Attempt, status: str, fields: dict[str, Any]) -> None:
        """Publishes the RESPONSE, or the next revision of its usage."""
        attempt.revision += 1
        attempt.status, attempt.published = status, fields
        attempt.lacks_usage = fields.get("usage_source") == "missing" and attempt.revision == 0
        attempt.latency_us = attempt.us_until() if attempt.latency_us is None else attempt.latency_us
        first = attempt.first_chunk
        delivered = None if status == "cancelled" else status == "ok"
        self._emitter.response(
            **{**self._fields(), **attempt.fields, "delivered": delivered, **fields},
            status=status,
            latency_us=attempt.latency_us,
            ttft_us=None if first is None else attempt.us_until(first),
            usage_revision=attempt.revision,
        )

    def _fields(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "request_started_at": self.started_at_us,
            "occurred_at": max(now_us(), self.started_at_us),
            **self._who,
            **self._sent,
        }


def _named(who: Identity) -> dict[str, Any]:
    return {
        "tenant_id": who.tenant_id,
        "app_id": who.app_id,
        "workload_id": who.workload_id,
        "credential_fingerprint": who.credential_fingerprint,
        "end_user": who.end_user,
        "client_network": network_of(who.client_address),
        "identity_source": who.identity_source,
    }
