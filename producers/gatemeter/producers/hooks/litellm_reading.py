"""What LiteLLM says, in gatemeter's words: providers, operations, callers, how calls end, what guardrails decide.

Pure functions over what its callbacks are given; litellm itself is not needed here (`litellm.py` is the hook). Nothing
is read but the names below: the same objects hold prompts and the providers' keys. Source: LiteLLM 1.106.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gatemeter.producers.events import MAX_ID_LENGTH, MAX_TEXT_LENGTH
from gatemeter.producers.hooks.identity import Identity
from gatemeter.producers.usage import UnknownShape, shape_of

OPERATIONS: Final[Mapping[str, str]] = {
    "acompletion": "chat",
    "completion": "chat",
    "anthropic_messages": "chat",
    "agenerate_content": "chat",
    "agenerate_content_stream": "chat",
    "atext_completion": "completion",
    "text_completion": "completion",
    "aresponses": "responses",
    "responses": "responses",
    "aembedding": "embeddings",
    "embedding": "embeddings",
    "aimage_generation": "image",
    "image_generation": "image",
    "aimage_edit": "image",
    "atranscription": "transcription",
    "transcription": "transcription",
    "aspeech": "speech",
    "speech": "speech",
    "arerank": "rerank",
    "rerank": "rerank",
}
"""By call type. What is not here (files, batches, vector stores, realtime, pass-through) is not metered."""
PROVIDERS: Final[Mapping[str, str]] = {
    "gemini": "google",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "azure_text": "azure",
    "text-completion-openai": "openai",
    "custom_openai": "openai_compatible",
    "openai_like": "openai_compatible",
    "xai": "x-ai",
    "cohere_chat": "cohere",
    "hosted_vllm": "vllm",
    "ollama_chat": "ollama",
}
"""Providers whose names differ."""
_TIMEOUT_STATUSES: Final = (408, 504)
_NO_ANSWER: Final = frozenset({"Timeout", "APITimeoutError", "APIConnectionError"})
_REJECTIONS: Final = frozenset({"HTTPException", "ProxyException", "RejectedRequestError", "BudgetExceededError"})
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")
_HASHED: Final = re.compile(r"[0-9a-f]{64}")
_OUTCOMES: Final[Mapping[str, str]] = {
    "success": "allow",
    "guardrail_intervened": "deny",
    "blocked": "deny",
    "guardrail_failed_to_respond": "error",
    "failure": "error",
}


class Decision(NamedTuple):
    """What one guardrail decided."""

    policy_id: str
    outcome: str
    latency_us: int | None


def short(value: object, longest: int = MAX_ID_LENGTH) -> str | None:
    """Text that fits into an event; None for what is no text, or empty."""
    if not isinstance(value, str) or not value:
        return None
    return value[:longest].encode(errors="replace").decode()


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else {}  # the first costs a tenth


def provider_of(name: object) -> str | None:
    """Our name of a provider of LiteLLM's."""
    return short(PROVIDERS.get(name, name)) if isinstance(name, str) else None


def shape_of_answer(call_type: str, provider: str | None) -> str | None:
    """How the provider's own answers to such a call are read; None where nobody declared it."""
    operation = "messages" if call_type == "anthropic_messages" else OPERATIONS[call_type]
    try:
        return shape_of(provider or "", operation)
    except UnknownShape:
        return None


def metadata_of(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """LiteLLM's own metadata of a call; its name differs by endpoint."""
    inner = mapping(kwargs.get("litellm_params"))
    for holder in (kwargs, inner):
        for name in ("litellm_metadata", "metadata"):
            found = mapping(holder.get(name))
            if any(key in found for key in ("user_api_key_auth", "user_api_key_hash")):
                return found
    return {}


def identity_of(metadata: Mapping[str, Any]) -> Identity:
    """Who calls, as LiteLLM has verified it: the key, its team, its organisation, and what its own metadata says.

    An organisation is the tenant and the team its app; without one the team is the tenant and the key's alias the app.
    `gatemeter: {tenant, app, workload}` in the key's metadata goes first. Without a verified key nothing is verified.
    """
    auth = metadata.get("user_api_key_auth")

    def said(name: str, flat: str) -> str | None:
        return short(getattr(auth, name, None)) or short(metadata.get(flat))

    org, team = said("org_id", "user_api_key_org_id"), said("team_id", "user_api_key_team_id")
    alias = said("key_alias", "user_api_key_alias")
    key = said("api_key", "user_api_key_hash")
    of_key = getattr(auth, "metadata", None) or metadata.get("user_api_key_metadata")
    chosen = mapping(mapping(of_key).get("gatemeter"))
    is_verified = any(value is not None for value in (org, team, alias, key, said("user_id", "user_api_key_user_id")))
    return Identity(
        tenant_id=short(chosen.get("tenant")) or org or team,
        app_id=short(chosen.get("app")) or (team if org and team else alias),
        workload_id=short(chosen.get("workload"), MAX_TEXT_LENGTH) or (alias if org and team else None),
        credential_fingerprint=None if key is None else hashed(key),
        end_user=short(getattr(auth, "end_user_id", None), MAX_TEXT_LENGTH)
        or short(metadata.get("user_api_key_end_user_id"), MAX_TEXT_LENGTH),
        identity_source="verified_credential" if is_verified else "header_claim",
        client_address=_address(metadata.get("requester_ip_address")),
    )


def _address(said: object) -> str | None:
    """With `use_x_forwarded_for` LiteLLM hands on the whole header: its last address is what its own proxy saw."""
    text = short(said)
    return None if text is None else text.rpartition(",")[2].strip()


def hashed(key: str) -> str:
    """LiteLLM's own hash of a key (SHA-256, 64 hex digits), as its key list shows it. Never the key itself."""
    return key if _HASHED.fullmatch(key) else hashlib.sha256(key.encode(errors="replace")).hexdigest()


def sent_of(kwargs: Mapping[str, Any]) -> dict[str, str | None]:
    """What a client said of its call in headers: its request id (else LiteLLM's call id), idempotency key, trace."""
    inner = mapping(kwargs.get("litellm_params"))
    request = mapping(kwargs.get("proxy_server_request")) or mapping(inner.get("proxy_server_request"))
    headers = {
        str(name).lower(): value for name, value in mapping(request.get("headers")).items() if isinstance(value, str)
    }
    trace = _TRACEPARENT.match(headers.get("traceparent", ""))
    return {
        "client_request_id": short(headers.get("x-request-id")) or short(kwargs.get("litellm_call_id")),
        "idempotency_key": short(headers.get("idempotency-key")),
        "trace_id": trace[1] if trace else None,
    }


def status_of_error(error: object) -> str:
    """How an attempt ended that this exception ended."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"CancelledError", "GeneratorExit"} or getattr(error, "status_code", None) == 499:
        return "cancelled"
    has_timed_out = kinds & {"Timeout", "TimeoutError", "TimeoutException", "APITimeoutError"}
    return "timeout" if has_timed_out or getattr(error, "status_code", None) in _TIMEOUT_STATUSES else "error"


def http_status_of(error: object) -> int | None:
    """The provider's HTTP status; None where LiteLLM made one up because no answer came."""
    status = getattr(error, "status_code", None)
    if type(error).__name__ in _NO_ANSWER or not isinstance(status, int) or not 100 <= status <= 999:
        return None
    return status


def is_rejection(error: object) -> bool:
    """Whether the gateway itself refused the call: a guardrail, a hook, a key, a budget; not the provider."""
    module, name = type(error).__module__, type(error).__name__
    ours = module.startswith(("litellm.proxy", "fastapi", "starlette")) or name in _REJECTIONS
    return ours or "Guardrail" in name or "Blocked" in name


def rejected_by(error: object) -> str:
    """The policy that refused a call before any provider was asked, where no guardrail names itself."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    name = type(error).__name__
    if "Budget" in name:
        return "litellm.budget"
    if "RateLimit" in name or str(status) == "429":
        return "litellm.rate_limit"
    if str(status) in ("401", "403") or name == "Exception":  # a bare one is what refuses a key
        return "litellm.authentication"
    return "litellm.request"


def decisions_of(slo: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Decision]:
    """What guardrails decided, in order; those that did not run say nothing."""
    said = slo.get("guardrail_information") or metadata.get("standard_logging_guardrail_information") or ()
    for entry in [said] if isinstance(said, Mapping) else said:
        outcome = _OUTCOMES.get(str(mapping(entry).get("guardrail_status")))
        if outcome is None:
            continue
        masked = mapping(entry.get("masked_entity_count"))
        if outcome == "allow" and any(isinstance(count, int) and count > 0 for count in masked.values()):
            outcome = "redact"
        seconds = entry.get("duration")
        took = round(seconds * 1_000_000) if isinstance(seconds, (int, float)) and seconds >= 0 else None
        yield Decision(short(entry.get("guardrail_name")) or "litellm.guardrail", outcome, took)
