"""APISIX's `http-logger` with the summaries of `ai-proxy` and `ai-proxy-multi` (`logging: {summaries: true}`).

Source: `apisix/utils/log-util.lua` and `apisix/plugins/ai-proxy/base.lua` of APISIX 3.12 to 3.17. The log's default is
read; what it lacks may be added by `log_format_extra` (docs/hooks/collector.md). It names no provider: the sender's
settings do, by route where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gatemeter.producers.collector.sources import calls
from gatemeter.producers.collector.sources.calls import Call, Decision, Tried
from gatemeter.producers.collector.sources.gateway_usage import MISSING, counted, usage_of_answer
from gatemeter.producers.collector.sources.naming import Naming, digest_of, minted_request_id
from gatemeter.producers.events import MAX_TIME_US, Event
from gatemeter.producers.foreign import Item, milliseconds_us, text
from gatemeter.producers.hooks.endpoints import Endpoint
from gatemeter.producers.traceparent import trace_id_of

_DEFAULTS: Final = {
    "app_id": "consumer.username",
    "route": "route_id",
    "request_id": "request_id",
    "client_network": "client_ip",
}


class ApisixLog:
    """The reader of one sender's entries."""

    def __init__(self, naming: Naming, complain: Callable[[str, str], None]) -> None:
        self._naming, self._complain = naming, complain

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        """A request with its attempts; none for what is no call to a model. Raises `BadItem`."""
        entry = Item(item, self._complain)
        place = calls.place_of(entry)
        summary = entry.part("llm_summary")
        if not summary.values and (place is None or entry.text("request.method") not in (None, "POST")):
            return []
        answered = entry.needed("response.status", calls.STATUS)
        tried = entry.optional("upstream_status", _statuses) or []
        asked_provider = bool(summary.values or tried or entry.text("upstream"))
        decisions = (
            () if asked_provider or answered not in calls.REFUSALS else (Decision(f"apisix/{answered}", "deny"),)
        )
        endpoint = place.endpoint if place is not None else None
        call = self._call(entry, summary, decisions, endpoint)
        if decisions:
            return call.denied()
        upstream = tried[-1] if tried else None
        earlier = [Tried(code or None) for code in tried[-calls.MAX_ATTEMPTS : -1]]
        return call.answered(earlier, self._last(call, entry, summary, upstream, answered))

    def _call(self, entry: Item, summary: Item, decisions: tuple[Decision, ...], endpoint: Endpoint | None) -> Call:
        started_us = entry.needed("start_time", milliseconds_us(MAX_TIME_US))
        named = self._naming.named(entry, _DEFAULTS)
        native_id = named.pop("request_id", None) or digest_of(entry.values)
        request_type = entry.text("request_type") or ""
        asked_stream = entry.part("llm_request").values.get("stream")
        is_stream = asked_stream if isinstance(asked_stream, bool) else None
        who = {
            "client_request_id": entry.text("request.headers.x-request-id"),
            "idempotency_key": entry.text("request.headers.idempotency-key"),
            "trace_id": trace_id_of(entry.text("request.headers.traceparent")),
            "provider": self._naming.providers.get(named.get("route", ""), endpoint.provider if endpoint else None),
            "operation": endpoint.operation if endpoint else "chat",
            "model": summary.text("model") or summary.text("request_model"),
            "stream": {"ai_stream": True, "ai_chat": False}.get(request_type, is_stream),
            **named,
            "identity_source": self._identity_source(entry, named),
        }
        minted = minted_request_id(self._naming.gateway_id, native_id)
        return Call(minted, started_us, calls.bounded_us(entry.latency_us("latency")) or 0, who, decisions)

    def _identity_source(self, entry: Item, named: Mapping[str, str]) -> str:
        is_verified = bool(entry.part("consumer").values) and not self._naming.is_claimed(_DEFAULTS, named)
        return "verified_credential" if is_verified else "header_claim"

    def _last(self, call: Call, entry: Item, summary: Item, upstream: int | None, answered: int) -> dict[str, Any]:
        status = calls.status_of(upstream, answered)
        usage = _usage(entry, summary, call.who["operation"]) if status in ("ok", "cancelled") else MISSING
        latency_us = summary.latency_us("upstream_response_time") or entry.latency_us("upstream_latency")
        return {
            **usage,
            **calls.ending(status, upstream, answered),
            "latency_us": calls.bounded_us(call.duration_us) if latency_us is None else latency_us,
            "ttft_us": summary.latency_us("duration") or None,
        }


def _usage(entry: Item, summary: Item, operation: str) -> dict[str, Any]:
    """The provider's own where `include_resp_body` logged the answer, else the summary, which repeats its counts."""
    reported = usage_of_answer(entry.part("response").values.get("body"))
    return reported.event_fields() if reported is not None else counted(summary, operation, is_reported=True)


def _statuses(value: Any) -> list[int]:
    """nginx lists a status a try: `502, 200`, with a colon between groups of servers; `-` where there was none."""
    said = [part.strip() for part in text(value).replace(":", ",").split(",")]
    return [calls.STATUS(part) if part != "-" else 0 for part in said]
