"""One call as a gateway's log tells it: its attempts as REQUEST and RESPONSE, and what policies decided about it.

A pure function of the log's entry, times included: an entry that is sent twice says the same events twice, and workers
drop the copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gatemeter.producers.events import Event, PolicyEvent, RequestEvent, ResponseEvent
from gatemeter.producers.foreign import Item, whole
from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Place, found
from gatemeter.producers.hooks.metered_call import TIMEOUT_STATUSES, Status
from gatemeter.schemas.limits import MAX_LATENCY_US

Outcome = Literal["allow", "deny", "redact", "flag", "error"]
STATUS: Final = whole(0, 999)
"""Reads an HTTP status; 0 where there was none."""
MAX_ATTEMPTS: Final = 100
"""The most attempts that one request is believed to have had."""
REFUSALS: Final = (401, 403, 429)
"""Statuses of a gateway's own that refuse a caller; its other errors are faults."""
CLIENT_LEFT: Final = 499
"""The status that nginx logs where the caller left before the answer began."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided. `latency_us` None is unknown."""

    policy_id: str
    outcome: Outcome
    latency_us: int | None = None
    version: str | None = None
    native_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A try that did not answer. None is not known, or the same as of the call."""

    http_status: int | None = None
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """`who`: fields of every event of the call. Times in microseconds, UTC."""

    request_id: str
    started_us: int
    duration_us: int
    who: Mapping[str, Any]
    decisions: tuple[Decision, ...] = field(default=())

    @property
    def ended_us(self) -> int:
        """When the gateway was done with it."""
        return self.started_us + self.duration_us

    def denied(self) -> list[Event]:
        """It was refused before any attempt."""
        return [RequestEvent(**self._fields(), occurred_at=self.started_us), *self._policies(0)]

    def answered(self, earlier: Sequence[Tried], last: Mapping[str, Any]) -> list[Event]:
        """The attempts in order. `last`: fields of the RESPONSE of the last one; the others failed at times unknown."""
        events: list[Event] = []
        for attempt, tried in enumerate(earlier, 1):
            target = {"provider": tried.provider, "model": tried.model}
            call = {**self._fields(), **{name: said for name, said in target.items() if said}, "attempt": attempt}
            events.append(RequestEvent(**call, occurred_at=self.started_us))
            failed: Any = {"status": "error", "delivered": False, "usage_source": "missing"}
            failed |= {"http_status": tried.http_status, "occurred_at": self.started_us}
            events.append(ResponseEvent(**call, **failed))
        attempt = len(earlier) + 1
        events.append(RequestEvent(**self._fields(), attempt=attempt, occurred_at=self.started_us))
        events.append(ResponseEvent(**{**self._fields(), **last}, attempt=attempt, occurred_at=self.ended_us))
        return [*events, *self._policies(attempt)]

    def _fields(self) -> dict[str, Any]:
        return {**self.who, "request_id": self.request_id, "request_started_at": self.started_us}

    def _policies(self, attempt: int) -> list[Event]:
        return [
            PolicyEvent(
                **self._fields(),
                occurred_at=self.ended_us,
                attempt=attempt,
                decision_id=decision_id(self.request_id, decision.policy_id, decision.native_id),
                policy_id=decision.policy_id,
                policy_version=decision.version,
                outcome=decision.outcome,
                latency_us=decision.latency_us,
            )
            for decision in self.decisions
        ]


def place_of(entry: Item) -> Place | None:
    """Where the request of an entry went, by its path; None for what is no call to a model."""
    return found(DEFAULT_ENDPOINTS, (entry.text("request.uri", 4096) or "").partition("?")[0])


def decision_id(request_id: str, policy_id: str, native_id: str | None = None) -> str:
    """The product's own id of a decision, else one for this policy and this request."""
    known = f"{request_id}\n{policy_id}\n{native_id or ''}"
    return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()


def status_of(upstream: int | None, answered: int) -> Status:
    """How the provider's side ended: its own status where the log has it, else what the caller was answered."""
    if answered == CLIENT_LEFT:
        return "cancelled"
    code = answered if upstream is None else upstream
    if code in TIMEOUT_STATUSES:
        return "timeout"
    return "error" if code >= 400 or code == 0 else "ok"


def ending(status: Status, upstream: int | None, answered: int) -> dict[str, Any]:
    """Fields of the RESPONSE that say how it ended."""
    delivered = None if status == "cancelled" else status == "ok" and answered < 400
    return {"status": status, "delivered": delivered, "http_status": (upstream or answered) or None}


def bounded_us(latency_us: int | None) -> int | None:
    """Within what an event may say."""
    return None if latency_us is None else min(latency_us, MAX_LATENCY_US)
