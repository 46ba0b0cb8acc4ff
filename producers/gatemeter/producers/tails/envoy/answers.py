"""The usage of an answer from what the log holds of it: the provider's usage object, or a gateway's own counts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gatemeter.producers.tails.envoy.lines import RequestLine
from gatemeter.producers.usage import SHAPES, Usage, UsageStream, normalise


def usage_of(line: RequestLine, shape: str, *, is_stream: bool, is_whole: bool) -> Usage:
    """`is_whole`: the answer came to its end. A stream's usage is final where the stream itself said so."""
    if any(line.usage.values()):
        if is_stream and SHAPES[shape].follow is not None:
            return _followed(line, shape)
        return normalise(shape, _skeleton(line, shape, line.usage["usage"]))
    counts = {name: count for name, count in line.counts.items() if count is not None}
    if counts:
        return _counted(line, counts, is_whole)
    return normalise(shape, _skeleton(line, shape, None))


def has_said_end(line: RequestLine, usage: Usage) -> bool:
    """Whether a stream told its own end: the last word on usage came, or a reason to finish."""
    return (usage.final and usage.is_known) or line.texts["finish_reason"] not in (None, "queued", "in_progress")


def _counted(line: RequestLine, counts: dict[str, int], is_whole: bool) -> Usage:
    """Envoy AI Gateway counts as OpenAI does, whatever the provider: cached tokens are part of the input."""
    usage: dict[str, Any] = {
        "prompt_tokens": counts.get("input_tokens"),
        "completion_tokens": counts.get("output_tokens"),
        "prompt_tokens_details": {
            "cached_tokens": counts.get("cached_tokens"),
            "cache_write_tokens": counts.get("cache_write_tokens"),
        },
        "completion_tokens_details": {"reasoning_tokens": counts.get("reasoning_tokens")},
    }
    usage = {name: _said(value) if isinstance(value, dict) else value for name, value in _said(usage).items()}
    found = normalise("openai_chat", _skeleton(line, "openai_chat", json.dumps(usage)))
    return msgspec.structs.replace(found, usage_raw=None, final=found.final and is_whole)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _followed(line: RequestLine, shape: str) -> Usage:
    """The stream in short: what the log keeps of its chunks, in the provider's form."""
    stream, last = UsageStream(shape), line.usage["usage"]
    if shape == "openai_responses":
        stream.feed(
            _spliced({"type": "response.completed", "response": None}, "response", _skeleton(line, shape, last))
        )
    elif shape == "anthropic_messages":
        start = _spliced(
            {"id": line.texts["provider_request_id"], "model": line.texts["served_model"]},
            "usage",
            line.usage["start_usage"],
        )
        stream.feed(_spliced({"type": "message_start"}, "message", start))
        if last is not None:
            delta = {"type": "message_delta", "delta": {"stop_reason": line.texts["finish_reason"]}}
            stream.feed(_spliced(delta, "usage", last))
    else:
        stream.feed(_skeleton(line, shape, last))
    return stream.usage()


def _skeleton(line: RequestLine, shape: str, usage: str | None) -> str:
    """An answer of that shape with all that the log keeps of it; the usage as the provider wrote it."""
    reason, tier = line.texts["finish_reason"], line.texts["service_tier"]
    if shape == "gemini":
        answer: dict[str, Any] = {
            "responseId": line.texts["provider_request_id"],
            "modelVersion": line.texts["served_model"],
            "candidates": [{"index": 0, "finishReason": reason}],
        }
        return _spliced(answer, "usageMetadata", usage)
    answer = {"id": line.texts["provider_request_id"], "model": line.texts["served_model"], "service_tier": tier}
    if shape == "anthropic_messages":
        answer["stop_reason"] = reason
    elif shape == "openai_responses":
        answer["status"] = reason
    else:
        answer["choices"] = [{"index": 0, "finish_reason": reason}]
    return _spliced(answer, "usage", usage)


def _spliced(answer: dict[str, Any], key: str, text: str | None) -> str:
    """The JSON of an object with `key` as the given JSON text; what is None is left out."""
    body = json.dumps({name: value for name, value in answer.items() if value is not None and name != key})
    if text is None:
        return body
    return f'{body[:-1]}{", " if len(body) > 2 else ""}"{key}": {text}}}'
