"""Kong's `http-log` with the statistics of its AI plugins (`log_statistics`), as Kong 3.6 to 3.14 write it.

Source: Kong's documentation of the log entry and of the AI audit log, and `kong/llm` of Kong Gateway. One entry is one
request of a client. `ai.proxy` is the call to the provider; other AI plugins (a judge, a transformer) have entries of
their own and make calls of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gatemeter.producers.collector.sources import calls
from gatemeter.producers.collector.sources.calls import Call, Decision, Outcome, Tried
from gatemeter.producers.collector.sources.gateway_usage import INPUT_ONLY, MISSING, counted, usage_of_answer
from gatemeter.producers.collector.sources.naming import Naming, digest_of, minted_request_id
from gatemeter.producers.events import MAX_TIME_US, Event
from gatemeter.producers.foreign import Item, milliseconds_us, text, whole
from gatemeter.producers.traceparent import trace_id_of

MAIN: Final = ("proxy", "ai-proxy-advanced", "ai-proxy")
"""What the entry of the proxied call is called: since 3.8, and after the plugin before."""
_DEFAULTS: Final = {
    "app_id": "consumer.username",
    "credential_fingerprint": "authenticated_entity.id",
    "route": "route.name",
    "client_network": "client_ip",
}
_OPERATIONS: Final = {
    "chat": "chat",
    "completions": "completion",
    "embeddings": "embeddings",
    "responses": "responses",
    "image": "image",
    "images": "image",
    "audio": "transcription",
    "realtime": "realtime",
}
_COUNTS_OF_PROVIDER: Final = ("cohere", "llama2", "anthropic", "gemini", "bedrock")
"""Providers for which Kong never counts by itself."""
_PROVIDERS: Final = {"bedrock": "aws", "gemini": "google", "llama2": "llamacpp"}
"""Kong's names of providers that prices know by another one."""


class KongLog:
    """The reader of one sender's entries."""

    def __init__(self, naming: Naming, complain: Callable[[str, str], None]) -> None:
        self._naming, self._complain = naming, complain

    def events(self, item: Mapping[str, Any]) -> list[Event]:
        """A request with its attempts and decisions; none for what is no call to a model. Raises `BadItem`."""
        entry = Item(item, self._complain)
        plugins = entry.part("ai")
        main = next((name for name in MAIN if isinstance(plugins.values.get(name), Mapping)), None)
        place = calls.place_of(entry)
        if main is None and (place is None or entry.text("request.method") not in (None, "POST")):
            return []
        proxy = plugins.part(main or MAIN[0])
        operation = _operation(proxy) or (place.endpoint.operation if place is not None else "chat")
        call = self._call(entry, proxy, operation, place.endpoint.provider if place is not None else None)
        events = _attempts(call, entry, proxy, self._earlier(proxy))
        for name, values in plugins.values.items():
            if name != main and isinstance(values, Mapping) and isinstance(values.get("meta"), Mapping):
                events += self._other(call, name, plugins.part(name))
        return events

    def _call(self, entry: Item, proxy: Item, operation: str, path_provider: str | None) -> Call:
        started_us = entry.needed("started_at", milliseconds_us(MAX_TIME_US))
        native_id = entry.text("request.id") or digest_of(entry.values)
        named = self._naming.named(entry, _DEFAULTS)
        minted = minted_request_id(self._naming.gateway_id, named.pop("request_id", native_id))
        mode = proxy.text("meta.request_mode")
        provider = self._provider(proxy.text("meta.provider_name"), path_provider)
        who = {
            "client_request_id": entry.text("request.headers.x-request-id"),
            "idempotency_key": entry.text("request.headers.idempotency-key"),
            "trace_id": entry.text("trace_id.w3c") or trace_id_of(entry.text("request.headers.traceparent")),
            "provider": provider,
            "operation": operation,
            "model": proxy.text("meta.request_model"),
            "stream": None if mode is None else mode == "stream",
            **named,
            "identity_source": self._identity_source(entry, named),
        }
        return Call(minted, started_us, entry.latency_us("latencies.request") or 0, who, _decisions(entry, proxy))

    def _provider(self, name: str | None, default: str | None) -> str | None:
        if name is None:
            return default
        return self._naming.providers.get(name) or _PROVIDERS.get(name, name)

    def _earlier(self, proxy: Item) -> list[Tried]:
        """The targets that were tried before the one that answered."""
        return [
            Tried(None, self._provider(target.text("provider"), None), target.text("model"))
            for target in proxy.parts("tried_targets")[-calls.MAX_ATTEMPTS : -1]
        ]

    def _identity_source(self, entry: Item, named: Mapping[str, str]) -> str:
        """What Kong verified itself: a consumer's credential, then a certificate."""
        if self._naming.is_claimed(_DEFAULTS, named):
            return "header_claim"
        if entry.part("consumer").values or entry.part("authenticated_entity").values:
            return "verified_credential"
        return "mtls" if entry.text("request.tls.client_verify") == "SUCCESS" else "header_claim"

    def _other(self, call: Call, name: str, plugin: Item) -> list[Event]:
        """A call that a plugin made for this request: a request of its own, with this one as its parent."""
        who = {
            **call.who,
            "parent_request_id": call.request_id,
            "provider": self._provider(plugin.text("meta.provider_name"), None),
            "model": plugin.text("meta.request_model"),
            "operation": _operation(plugin) or "chat",
            "stream": False,
        }
        who |= dict.fromkeys(("client_request_id", "idempotency_key"))
        minted = minted_request_id(call.request_id, name)
        latency_us = plugin.latency_us("meta.llm_latency")
        own = Call(minted, call.started_us, calls.bounded_us(latency_us) or 0, who)
        fields = {"status": "ok", "latency_us": latency_us, **_usage(plugin, "chat", is_stream=False)}
        return own.answered([], fields)


def _operation(plugin: Item) -> str | None:
    """Of `operation_name`, or of a route type such as `llm/v1/chat`."""
    said = plugin.text("meta.operation_name")
    if said is None:
        targets = plugin.parts("tried_targets")
        said = (targets[-1].text("route_type") if targets else None) or ""
    parts = [part for part in said.replace("_", "/").split("/") if part in _OPERATIONS]
    return _OPERATIONS[parts[0]] if parts else None


def _attempts(call: Call, entry: Item, proxy: Item, earlier: Sequence[Tried]) -> list[Event]:
    answered = entry.needed("response.status", calls.STATUS)
    upstream = entry.optional("upstream_status", _upstream_status)
    if upstream is None and any(decision.outcome == "deny" for decision in call.decisions):
        return call.denied()
    status, cache = calls.status_of(upstream, answered), _cache(proxy)
    operation = call.who["operation"]
    usage = _usage(proxy, operation, is_stream=bool(call.who["stream"])) if status in ("ok", "cancelled") else MISSING
    latency_us = proxy.latency_us("meta.llm_latency")
    last = {
        **usage,
        **calls.ending(status, upstream, answered),
        "latency_us": calls.bounded_us(call.duration_us) if latency_us is None else latency_us,
        "ttft_us": proxy.latency_us("usage.time_to_first_token"),
        "gateway_cache": cache or "none",
    }
    last.setdefault("served_model", proxy.text("meta.response_model"))
    return call.answered(earlier, last)


def _upstream_status(value: Any) -> int:
    """Where the balancer tried several times nginx lists them all: the last one counts."""
    return calls.STATUS(text(value).replace(":", ",").split(",")[-1].strip())


def _cache(proxy: Item) -> str | None:
    """Only a hit keeps a provider from being asked; a semantic one has looked for embeddings."""
    status = (proxy.text("cache.cache_status") or "").lower()
    if status in ("miss", "refresh"):
        return "miss"
    if status != "hit":
        return None
    return "semantic" if proxy.text("cache.embeddings_provider") else "exact"


def _usage(plugin: Item, operation: str, *, is_stream: bool) -> dict[str, Any]:
    """The provider's own where an answer is logged, else Kong's statistics for what they are."""
    reported = usage_of_answer(plugin.part("payload").values.get("response"))
    if reported is not None:
        return reported.event_fields()
    figures = plugin.part("usage")
    details = figures.part("prompt_tokens_details").values or figures.part("completion_tokens_details").values
    is_counted_there = plugin.text("meta.provider_name") in _COUNTS_OF_PROVIDER or bool(details)
    has_output = operation in INPUT_ONLY or figures.values.get("completion_tokens") not in (None, 0)
    return counted(figures, operation, is_reported=is_counted_there or (has_output and not is_stream))


def _decisions(entry: Item, proxy: Item) -> tuple[Decision, ...]:
    """Guards that say what they did, the sanitizer, and what Kong itself refused."""
    decisions: list[Decision] = []
    for name, values in proxy.values.items():
        if isinstance(values, Mapping):
            decisions += _guard(name, proxy.part(name))
    sanitizer = entry.part("ai.sanitizer")
    if sanitizer.values:
        changed = sanitizer.optional("pii_sanitized", whole(0, 1 << 40))
        outcome: Outcome = "redact" if changed else "allow"
        decisions.append(Decision("kong/ai-sanitizer", outcome, sanitizer.latency_us("duration")))
    status = entry.optional("response.status", calls.STATUS)
    has_reason = any(decision.outcome == "deny" for decision in decisions)
    if status in calls.REFUSALS and _is_own(entry) and not has_reason:
        decisions.append(Decision(f"kong/{status}", "deny"))
    return tuple(decisions)


def _is_own(entry: Item) -> bool:
    """Kong answered by itself; before 3.6 it does not say so, and no upstream was tried."""
    source = entry.text("source")
    return source == "kong" if source is not None else not entry.parts("tries")


def _guard(name: str, guard: Item) -> list[Decision]:
    """A guard has looked at the request, the answer, or both, each in its time; a reason says that it blocked."""
    decisions = []
    for direction in ("input", "output"):
        latency_us = guard.latency_us(f"{direction}_processing_latency")
        blocked = guard.text(f"{direction}_block_reason", 1024)
        if latency_us is None and blocked is None:
            continue
        version = guard.text("guardrails_version")
        native_id = guard.text(f"{direction}_request_uuid") or direction
        outcome: Outcome = "allow" if blocked is None else "deny"
        decisions.append(Decision(f"kong/{name}", outcome, latency_us, version, native_id))
    return decisions
