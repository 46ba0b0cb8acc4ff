"""What a call used, from counts that telemetry states, or from the provider's own usage object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gatemeter.producers.telemetry.semantics import INPUT_ONLY
from gatemeter.producers.usage import UnknownShape, Usage, normalise, shape_of, usage_of_raw


def counted(
    counts: Mapping[str, int | None], operation: str, texts: Mapping[str, str | None], *, is_whole: bool
) -> Usage:
    """Of input, output, cached, written and reasoning tokens, the last three part of the first two, for any provider.

    All zero is nothing known: who counts begins at 0. `texts`: provider_request_id, served_model, finish_reason and
    service_tier, where they are known. `is_whole`: the call ended well; else the counts are a lower bound.
    """
    usage: dict[str, Any] = {}
    if any(counts.values()):
        usage = {
            "prompt_tokens": counts["input"],
            "completion_tokens": counts["output"],
            "prompt_tokens_details": _known(cached_tokens=counts["cached"], cache_write_tokens=counts["written"]),
            "completion_tokens_details": _known(reasoning_tokens=counts["reasoning"]),
        }
    answer = {
        "id": texts.get("provider_request_id"),
        "model": texts.get("served_model"),
        "service_tier": texts.get("service_tier"),
        "choices": [{"finish_reason": texts.get("finish_reason")}],
        "usage": _known(**usage),
    }
    shape = "openai_embeddings" if operation in INPUT_ONLY else "openai_chat"
    found = normalise(shape, _known(**answer))
    return msgspec.structs.replace(found, usage_raw=None, final=found.final and is_whole)


def usage_of_provider(
    provider: str | None, operation: str, usage: Any, texts: Mapping[str, str | None], *, is_whole: bool
) -> Usage | None:
    """Of a usage object in the form of a provider that we know; None where it is none, or says nothing."""
    if provider is None or not isinstance(usage, Mapping):
        return None
    try:
        shape = shape_of(provider, operation)
    except UnknownShape:
        return None
    if shape in ("openai_chat", "openai_compatible") and "input_tokens" in usage:
        shape = "openai_responses"
    found = usage_of_raw(shape, usage)
    if not found.is_known:
        return None
    who = {name: texts.get(name) for name in ("provider_request_id", "served_model", "finish_reason")}
    return msgspec.structs.replace(found, usage_raw=None, final=is_whole, **who)


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
