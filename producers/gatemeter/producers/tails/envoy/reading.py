"""From lines to events: a REQUEST and a RESPONSE of each attempt, or a REQUEST and the denial of a policy.

The same lines in the same order give the same events, ids and times included: what is read twice is dropped as a copy.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.events import Event, PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Endpoint, asked, found
from gatemeter.producers.networks import network_of
from gatemeter.producers.tails.envoy.answers import has_said_end, usage_of
from gatemeter.producers.tails.envoy.fields import LogFields
from gatemeter.producers.tails.envoy.joining import Waiting
from gatemeter.producers.tails.envoy.lines import AttemptLine, LineParser, RequestLine
from gatemeter.producers.tails.envoy.outcomes import Status, denying_policy, status_of
from gatemeter.producers.traceparent import trace_id_of
from gatemeter.producers.usage import FAMILIES, UnknownShape, Usage

_log: Final = logging.getLogger(__name__)


class EnvoyLog:
    """The reader of a log for `Tail`. `gateway_id` goes into the request ids; `state` is that of a `Position`.

    `ignored` counts lines of paths that are not metered, `bad_values` fields that were wrong beside good ones. Raises
    `ValueError` where the state is none of its own.
    """

    def __init__(
        self,
        gateway_id: str,
        fields: LogFields | None = None,
        endpoints: Sequence[Endpoint] = DEFAULT_ENDPOINTS,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.ignored = 0
        self.bad_values = 0
        self._gateway_id, self._endpoints = gateway_id, endpoints
        self._clusters = (fields or LogFields()).clusters
        self._parser = LineParser(fields or LogFields(), self._complain)
        self._waiting = Waiting.from_state(state or {})
        self._complaints = Complaints()

    @property
    def state(self) -> dict[str, Any]:
        """The attempts that wait for their request."""
        return self._waiting.state

    @property
    def given_up(self) -> int:
        """Requests whose attempts were seen, and whose own line never came."""
        return self._waiting.given_up

    def _complain(self, field: str, what: str) -> None:
        self.bad_values += 1
        self._complaints.say(_log, f"a field of a line was left out: {field.replace('%', '%%')}: %s", what)

    def events(self, line: bytes) -> list[Event]:
        """What a line says. Raises `BadLine`."""
        parsed = self._parser.parse(line)
        if isinstance(parsed, AttemptLine):
            self._waiting.add(parsed)
            return []
        policy = denying_policy(parsed.details, parsed.flags)
        count = parsed.attempts
        if count is None:
            count = 0 if policy else 1
        tries = self._waiting.claim(parsed.request_id, count, parsed.started_us)
        place = found(self._endpoints, parsed.path)
        if place is None or parsed.texts["method"] not in (None, "POST"):
            self.ignored += 1
            return []
        endpoint, path_model = place.endpoint, place.model
        request = _Request(self._gateway_id, parsed, self._at_provider(endpoint, parsed), path_model)
        return request.denied(policy) if policy and not count else request.answered(max(count, 1), tries)

    def _at_provider(self, endpoint: Endpoint, line: RequestLine) -> Endpoint:
        """The endpoint with the provider of the cluster: the declared one, or a known one that it is named after."""
        cluster = line.texts["cluster"]
        provider = self._clusters.get(cluster or "", cluster if cluster in FAMILIES else endpoint.provider)
        if provider == endpoint.provider or provider is None:
            return endpoint
        try:
            return Endpoint(endpoint.path, provider, endpoint.operation)
        except UnknownShape:
            return endpoint.with_provider(provider)


class _Request:
    """One request with a line of the access log."""

    def __init__(self, gateway_id: str, line: RequestLine, endpoint: Endpoint, path_model: str | None) -> None:
        self._line, self._shape = line, endpoint.shape
        known = f"{gateway_id}\n{line.request_id}\n{line.started_us}"
        self._request_id = hashlib.blake2b(known.encode(), digest_size=16).hexdigest()
        streams = {"true": True, "false": False}.get(line.texts["stream"] or "")
        what = asked(line.path, path_model, b"")
        is_stream = streams if streams is not None else what.stream
        self._is_stream = bool(is_stream) or line.usage["start_usage"] is not None
        self._call: dict[str, Any] = {
            "request_id": self._request_id,
            "request_started_at": line.started_us,
            "client_request_id": line.texts["client_request_id"],
            "idempotency_key": line.texts["idempotency_key"],
            "trace_id": trace_id_of(line.texts["traceparent"]),
            "provider": endpoint.provider,
            "operation": endpoint.operation,
            "model": what.model or line.texts["model"],
            "stream": is_stream,
            "route": line.texts["route"],
            "client_network": network_of(line.texts["client_address"]),
            **_identity(line),
        }
        self._ended_us = line.started_us + (line.duration_us or 0)

    def denied(self, policy: str) -> list[Event]:
        """A policy of Envoy refused it before any attempt."""
        decision = PolicyEvent(
            **self._call,
            occurred_at=self._ended_us,
            decision_id=hashlib.blake2b(f"{self._request_id}\n{policy}".encode(), digest_size=16).hexdigest(),
            policy_id=policy,
            outcome="deny",
            latency_us=self._line.duration_us,
        )
        return [RequestEvent(**self._call, occurred_at=self._line.started_us), decision]

    def answered(self, count: int, tries: dict[int, AttemptLine]) -> list[Event]:
        """The attempts in order; the last is how the request ended and has the usage."""
        events: list[Event] = []
        for attempt in range(1, count + 1):
            line = tries.get(attempt)
            begun_us = self._line.started_us if line is None else max(line.started_us, self._line.started_us)
            events.append(RequestEvent(**self._call, attempt=attempt, occurred_at=begun_us))
            if attempt == count:
                events.append(self._last(attempt, line))
            else:
                events.append(self._earlier(attempt, line, begun_us))
        return events

    def _earlier(self, attempt: int, line: AttemptLine | None, begun_us: int) -> ResponseEvent:
        """A try that did not answer the caller, whatever its code: another one followed."""
        status: Status = "error" if line is None else status_of(line.code, line.flags)
        return ResponseEvent(
            **self._call,
            attempt=attempt,
            occurred_at=begun_us + (0 if line is None else line.duration_us or 0),
            status="error" if status in ("ok", "cancelled") else status,
            delivered=False,
            http_status=None if line is None else line.code or None,
            latency_us=None if line is None else line.duration_us,
            usage_source="missing",
        )

    def _last(self, attempt: int, line: AttemptLine | None) -> ResponseEvent:
        request = self._line
        status = status_of(request.code, request.flags)
        usage = usage_of(request, self._shape, is_stream=self._is_stream, is_whole=status == "ok")
        status = self._judged(status, usage)
        latency_us = request.duration_us if attempt == 1 else None
        if attempt > 1 and line is not None:
            latency_us = max(0, self._ended_us - line.started_us)
        return ResponseEvent(
            **{**self._call, **usage.event_fields()},
            attempt=attempt,
            occurred_at=self._ended_us,
            status=status,
            delivered=None if status == "cancelled" else status == "ok",
            http_status=request.code or None,
            latency_us=latency_us,
            ttft_us=request.ttft_us,
        )

    def _judged(self, status: Status, usage: Usage) -> Status:
        """What a stream said itself counts: it may have told an error, or its end before the caller left."""
        if not self._is_stream or status not in ("ok", "cancelled"):
            return status
        if self._line.texts["stream_error"] is not None:
            return "error"
        if status == "cancelled":
            return "ok" if usage.final and usage.is_known else status
        was_read = usage.provider_request_id is not None or usage.served_model is not None
        return "error" if was_read and not has_said_end(self._line, usage) else status


def _identity(line: RequestLine) -> dict[str, Any]:
    """What Envoy verified first: a credential, then a certificate; else what the caller says."""
    texts = line.texts
    workload = {"workload_id": texts["peer_uri"]}
    if texts["verified_tenant"] is not None:
        verified = {"tenant_id": texts["verified_tenant"], "app_id": texts["verified_app"]}
        return {**verified, **workload, "identity_source": "verified_credential"}
    if texts["peer_uri"] is not None:
        return {**workload, "identity_source": "mtls"}
    claimed = {"tenant_id": texts["claimed_tenant"], "app_id": texts["claimed_app"]}
    return {**claimed, "identity_source": "header_claim"}
