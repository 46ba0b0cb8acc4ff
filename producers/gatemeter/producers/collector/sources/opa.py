"""Decision logs of Open Policy Agent: what its agents post to `/logs`, in gzipped arrays, become POLICY events.

Source: OPA's documentation of its Decision Log Service API. A decision joins its request by the request id that the
policy's input names; it never touches what the request used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gatemeter.producers.collector.sources import calls
from gatemeter.producers.collector.sources.calls import Outcome
from gatemeter.producers.collector.sources.naming import Naming, minted_request_id
from gatemeter.producers.events import Event, PolicyEvent
from gatemeter.producers.foreign import BadItem, Item, iso_time_us, text, whole

_DEFAULTS: Final = {
    "request_id": "input.request_id",
    "tenant_id": "input.tenant_id",
    "app_id": "input.app_id",
    "model": "input.model",
}
_ALLOWS: Final = ("allow", "allowed")
_MAX_NS: Final = 10**15


class OpaDecisions:
    """The reader of one sender's decisions."""

    def __init__(self, naming: Naming, complain: Callable[[str, str], None]) -> None:
        self._naming, self._complain = naming, complain

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        """One decision. Raises `BadItem`: also where it names no request, since it could be joined to nothing."""
        entry = Item(item, self._complain)
        named = self._naming.named(entry, _DEFAULTS)
        where = self._naming.fields.get("request_id", _DEFAULTS["request_id"])
        native = named.pop("request_id", None)
        if native is None:
            raise BadItem(f"{where}: must be the id of the request that the decision is about, got nothing")
        at_us = entry.needed("timestamp", iso_time_us)
        subject = self._naming.subject_gateway_id
        is_native = subject is not None and self._naming.subject_ids == "native"
        request_id = minted_request_id(subject, native) if subject is not None and is_native else native
        policy_id = entry.needed("path", text)[:256]
        claimed = self._naming.is_claimed(_DEFAULTS, named)
        who: dict[str, Any] = {**named}
        decision = PolicyEvent(
            **who,
            identity_source="header_claim" if claimed or not named else "verified_credential",
            request_id=request_id,
            request_started_at=at_us,
            occurred_at=at_us,
            decision_id=entry.text("decision_id") or calls.decision_id(request_id, policy_id),
            policy_id=policy_id,
            policy_version=_version(entry),
            outcome=_outcome(entry),
            latency_us=_latency_us(entry),
            subject_gateway_id=subject,
        )
        return [decision]


def _outcome(entry: Item) -> Outcome:
    """`result` is a truth value, or an object that has one; an undefined one is no decision."""
    result: Any = entry.values.get("result")
    if isinstance(result, Mapping):
        result = next((result[name] for name in _ALLOWS if name in result), None)
    if entry.values.get("error") is not None or not isinstance(result, (bool, str)):
        return "error"
    if isinstance(result, str):  # OPA's own examples have it as text
        return {"true": "allow", "false": "deny"}.get(result, "error")  # type: ignore[return-value]
    return "allow" if result else "deny"


def _version(entry: Item) -> str | None:
    """The revisions of the bundles that decided, by name."""
    bundles = entry.part("bundles")
    revisions = [f"{name}@{bundles.part(name).text('revision') or ''}" for name in sorted(bundles.values)]
    return ",".join(revisions)[:256] or entry.text("revision")


def _latency_us(entry: Item) -> int | None:
    found = entry.optional("metrics.timer_server_handler_ns", whole(0, _MAX_NS))
    if found is None:
        found = entry.optional("metrics.timer_rego_query_eval_ns", whole(0, _MAX_NS))
    return None if found is None else calls.bounded_us(found // 1000)
