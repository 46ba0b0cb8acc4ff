"""One attempt of one call: a REQUEST before it, exactly one RESPONSE after it, whatever happens, and no exception.

A hook makes a `MeteredCall` of the call it sees, and tells it what it sees: `begin`, `answer`, `body`, `end`. Its own
errors never reach the host: they are counted in `Metering.errors` and logged at most once a minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol

from gatemeter.producers.complaints import Complaints
from gatemeter.producers.events import (
    MAX_ID_LENGTH,
    MAX_TEXT_LENGTH,
    Event,
    RequestEvent,
    ResponseEvent,
    new_request_id,
    now_us,
)
from gatemeter.producers.hooks.answers import MAX_BODY_BYTES, AnswerReader
from gatemeter.producers.hooks.endpoints import Asked, Endpoint
from gatemeter.producers.hooks.identity import Identity
from gatemeter.producers.networks import network_of
from gatemeter.producers.traceparent import trace_id_of
from gatemeter.producers.usage import Usage
from gatemeter.schemas.limits import MAX_LATENCY_US

_log: Final = logging.getLogger(__name__)
_P = ParamSpec("_P")
Status = Literal["ok", "error", "cancelled", "timeout"]
TIMEOUT_STATUSES: Final = (408, 504)
REQUEST_HEADERS: Final = ("x-request-id", "x-client-request-id", "idempotency-key", "traceparent")
"""What is read of a request's headers; no other is looked at."""
RESPONSE_HEADERS: Final = ("content-type", "content-encoding", "x-request-id", "request-id")


class Emits(Protocol):
    """What a hook needs of an `Emitter`."""

    def emit(self, event: Event) -> bool:
        """A call begins, or an attempt ended."""
        ...


class Metering:
    """What the calls of one hook share: the emitter, the bound of an answer's bytes, and the hook's own errors."""

    def __init__(self, emitter: Emits, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Raises `ValueError` where the bound is out of range."""
        if not 1024 <= max_body_bytes <= 1 << 30:
            raise ValueError(f"max_body_bytes: must be 1024 to {1 << 30}, got {max_body_bytes!r}")
        self.emitter = emitter
        self.max_body_bytes = max_body_bytes
        self.errors = 0
        """Faults of the hook itself. Each may have cost an event or its usage, never a call."""
        self.complaints = Complaints()

    def harmed(self, error: Exception) -> None:
        """Counts a fault of the hook. Only its kind is logged: its text may hold what the caller sent."""
        self.errors += 1
        self.complaints.say(_log, "a call could not be metered in full: %s", type(error).__name__)

    def identity_of(self, identify: Callable[[Any], Identity | None], host: Any) -> Identity:
        """What the host's callable says of the caller; nothing known where it raises or says None."""
        try:
            said = identify(host)
            return said if isinstance(said, Identity) else Identity()
        except Exception as error:  # noqa: BLE001  the host's callable is not allowed to break the host's call either
            self.harmed(error)
            return Identity()


def harmless(
    method: Callable[Concatenate[MeteredCall, _P], None],
) -> Callable[Concatenate[MeteredCall, _P], None]:
    """A method whose errors are counted and go no further."""

    @wraps(method)
    def guarded(call: MeteredCall, /, *values: _P.args, **named: _P.kwargs) -> None:
        try:
            method(call, *values, **named)
        except Exception as error:  # noqa: BLE001  metering must never break the call that it meters
            call.metering.harmed(error)

    return guarded


class MeteredCall:
    """One attempt. Not for several threads at once. `request_id` and `started_at_us` are those of the first attempt."""

    def __init__(
        self,
        metering: Metering,
        endpoint: Endpoint,
        *,
        request_id: str | None = None,
        started_at_us: int | None = None,
        attempt: int = 1,
    ) -> None:
        self.metering = metering
        self.request_id = request_id or new_request_id()
        self.started_at_us = now_us() if started_at_us is None else started_at_us
        self.attempt = attempt
        self.has_begun = False
        self.has_ended = False
        self._endpoint = endpoint
        self._clock = time.perf_counter_ns()
        self._first_byte: int | None = None
        self._http_status: int | None = None
        self._header_id: str | None = None
        self._reader: AnswerReader | None = None
        self._call: dict[str, Any] = {}

    @harmless
    def begin(
        self, who: Identity, what: Asked, headers: Mapping[str, str], route: str, client_address: str | None = None
    ) -> None:
        """The call goes out: publishes the REQUEST. `headers`: names in lower case; only `REQUEST_HEADERS` are read.

        `client_address`: of the connection, where `who` names none.
        """
        if self.has_begun:
            return
        self.has_begun = True
        self._call = {
            "request_id": self.request_id,
            "request_started_at": self.started_at_us,
            "attempt": self.attempt,
            "tenant_id": _short(who.tenant_id),
            "app_id": _short(who.app_id),
            "workload_id": _short(who.workload_id, MAX_TEXT_LENGTH),
            "credential_fingerprint": _short(who.credential_fingerprint),
            "end_user": _short(who.end_user, MAX_TEXT_LENGTH),
            "identity_source": who.identity_source,
            "provider": self._endpoint.provider,
            "operation": self._endpoint.operation,
            "model": _short(what.model),
            "stream": what.stream,
            "client_request_id": _short(headers.get("x-request-id") or headers.get("x-client-request-id")),
            "idempotency_key": _short(headers.get("idempotency-key")),
            "trace_id": trace_id_of(headers.get("traceparent")),
            "route": _short(route),
            "client_network": network_of(who.client_address or client_address),
        }
        self.metering.emitter.emit(RequestEvent(**self._call, occurred_at=self._now_us()))

    @harmless
    def answer(self, http_status: int, headers: Mapping[str, str], *, has_provider_id: bool = False) -> None:
        """The answer's head came. `has_provider_id`: its request id header is the provider's, not a gateway's."""
        self._http_status = http_status
        if has_provider_id:
            self._header_id = _short(headers.get("x-request-id") or headers.get("request-id"))
        if http_status < 400:
            self._reader = AnswerReader(
                self._endpoint.shape,
                headers.get("content-type", ""),
                headers.get("content-encoding", ""),
                self.metering.max_body_bytes,
            )

    def touch(self) -> None:
        """Bytes of the answer are here; before they are forwarded."""
        if self._first_byte is None:
            self._first_byte = time.perf_counter_ns()

    def body(self, chunk: bytes) -> None:
        """Bytes of the answer; after they were forwarded. Guarded by itself: it runs for every chunk."""
        try:
            if self._reader is not None and not self.has_ended:
                self._reader.feed(chunk)
        except Exception as error:  # noqa: BLE001  as in `harmless`
            self.metering.harmed(error)

    @harmless
    def end(self, status: Status, *, is_complete: bool) -> None:
        """The attempt is over: publishes the RESPONSE, once. `is_complete`: the whole answer passed.

        `ok` becomes `error` or `timeout` where the HTTP status, or the stream itself, says so; `cancelled` becomes `ok`
        where a stream had told its end before.
        """
        if self.has_ended or not self.has_begun:
            return
        self.has_ended = True
        ended = time.perf_counter_ns()
        usage = self._usage(is_complete)
        status = self._judged(status, usage)
        fields: dict[str, Any] = {"usage_source": "missing"} if usage is None else usage.event_fields()
        fields.setdefault("provider_request_id", self._header_id)
        fields |= self._call
        fields["occurred_at"] = self._now_us()
        fields["status"] = status
        fields["delivered"] = None if status == "cancelled" else status == "ok"
        fields["http_status"] = self._http_status
        fields["latency_us"] = self._us_until(ended)
        fields["ttft_us"] = None if self._first_byte is None else self._us_until(self._first_byte)
        self.metering.emitter.emit(ResponseEvent(**fields))
        for other in () if usage is None else usage.other_models:
            self._publish_other(other)

    def _usage(self, is_complete: bool) -> Usage | None:
        """A fault of the reader costs the usage, not the RESPONSE."""
        if self._reader is None:
            return None
        try:
            usage = self._reader.usage(is_complete=is_complete)
        except Exception as error:  # noqa: BLE001  as in `harmless`
            self.metering.harmed(error)
            return None
        if self._reader.why_unread is not None:
            self.metering.complaints.say(_log, "the usage of an answer is not known: %s", self._reader.why_unread)
        return usage

    def _judged(self, status: Status, usage: Usage | None) -> Status:
        if self._http_status in TIMEOUT_STATUSES:
            return "timeout"
        if self._http_status is not None and self._http_status >= 400:
            return "error"  # also where nobody reads the rest: clients that retry do not
        if status == "cancelled" and self._reader is not None and self._reader.has_said_end(usage):
            status = "ok"  # clients close the connection when they have read the end mark
        if status != "ok":
            return status
        if self._http_status is None:
            return "error"
        has_failed = self._reader is not None and (self._reader.has_error or self._reader.is_cut(usage))
        return "error" if has_failed else "ok"

    def _publish_other(self, other: Usage) -> None:
        """What another model used inside the same answer: a request of its own, with this one as its parent."""
        call = {**self._call, "request_id": new_request_id(), "parent_request_id": self.request_id, "attempt": 1}
        call |= {"model": _short(other.served_model), "client_request_id": None, "idempotency_key": None}
        used = {**call, **other.event_fields()}
        self.metering.emitter.emit(RequestEvent(**call, occurred_at=self._now_us()))
        self.metering.emitter.emit(ResponseEvent(**used, occurred_at=self._now_us(), status="ok"))

    def _now_us(self) -> int:
        """The wall clock, which may have been set back since the request began."""
        now = now_us()
        return now if now > self.started_at_us else self.started_at_us

    def _us_until(self, then: int) -> int:
        return min((then - self._clock) // 1000, MAX_LATENCY_US)


def status_of(error: BaseException) -> Status:
    """How an attempt ended that an exception ended: whoever waits gave up, the time was up, or it failed."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"CancelledError", "Cancelled", "GeneratorExit", "KeyboardInterrupt", "SystemExit", "ClientDisconnect"}:
        return "cancelled"
    return "timeout" if kinds & {"TimeoutError", "TimeoutException", "Timeout"} else "error"


def _short(text: str | None, longest: int = MAX_ID_LENGTH) -> str | None:
    """What a caller or a provider sent must not make an event invalid: neither its length nor half a character."""
    if not text:
        return None
    if type(text) is str and text.isascii() and len(text) <= longest:
        return text
    return text[:longest].encode(errors="replace").decode()
