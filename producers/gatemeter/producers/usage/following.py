"""How a stream's chunks become the skeleton of one answer: no text is kept, the last word on usage counts.

A follower takes one parsed chunk. `stream.answer` is what the shape's reader reads at the end, `stream.keep` stores a
usage object with its exact text, `stream.final` says that the provider's last word on usage has come. Source: each
provider's streaming reference, 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from gatemeter.producers.usage.parts import MAX_ENTRIES
from gatemeter.producers.usage.verbatim import Document

MAX_KEPT_TEXT: Final = 2_048
_MAX_OPEN_CHOICES: Final = 256
_BILLED_CALLS: Final = ("web_search_call", "file_search_call")
DONE_EVENTS: Final = (
    "image_generation.completed",
    "image_edit.completed",
    "transcript.text.done",
    "speech.audio.done",
)


class Stream(Protocol):
    """What a follower may change."""

    answer: dict[str, Any]
    final: bool
    open_choices: set[object]

    def keep(self, name: str, chunk: Document, *path: str) -> bool:
        """Stores the object at `path` as the newest `name`; False, and no change, where there is none."""


def follow_choices(stream: Stream, chunk: Document) -> None:
    """Chat completions. Usage comes in a last chunk without choices, with the finishing chunk, or with every chunk."""
    _remember(stream, chunk.value, ("id", "model", "service_tier"))
    choices = [choice for choice in _objects(chunk.value.get("choices")) if _is_key(choice.get("index"))]
    for choice in choices:
        if choice.get("finish_reason") is not None:
            stream.open_choices.discard(choice.get("index"))
            reason = choice["finish_reason"]
            stream.answer.setdefault("choices", [{"finish_reason": reason}])
        elif len(stream.open_choices) < _MAX_OPEN_CHOICES:
            stream.open_choices.add(choice.get("index"))
    kept = stream.keep("usage", chunk, "usage") or stream.keep("usage", chunk, "x_groq", "usage")
    timed = stream.keep("timings", chunk, "timings")
    if "usage" in stream.answer or timed:
        stream.final = (not choices and (kept or timed)) or not stream.open_choices


def follow_responses(stream: Stream, chunk: Document) -> None:
    """The Responses API: the closing event has the whole response; of its output only the kinds of calls are kept."""
    response = chunk.value.get("response")
    if not isinstance(response, Mapping):
        return
    _remember(stream, response, ("id", "model", "service_tier", "status", "incomplete_details"))
    if stream.keep("usage", chunk, "response", "usage"):
        items = _objects(response.get("output"))[:MAX_ENTRIES]
        stream.answer["output"] = [_call(item) for item in items if item.get("type") in _BILLED_CALLS]
        stream.final = response.get("status") not in ("queued", "in_progress")


def follow_realtime(stream: Stream, chunk: Document) -> None:
    """A realtime response ends with `response.done`."""
    response = chunk.value.get("response")
    if chunk.value.get("type") == "response.done" and isinstance(response, Mapping):
        kept: dict[str, Any] = {}
        stream.answer["response"] = kept
        _copy(kept, response, ("id", "status", "model", "service_tier"))
        if stream.keep("usage", chunk, "response", "usage"):
            kept["usage"] = stream.answer.pop("usage")
        stream.final = True


def follow_messages(stream: Stream, chunk: Document) -> None:
    """Anthropic: input at the start, cumulative counts in every `message_delta`; the one with a stop reason is last."""
    kind = chunk.value.get("type")
    if kind == "message_start":
        _remember(stream, chunk.get("message"), ("id", "model", "stop_reason"))
        _keep_message_usage(stream, "message_start", chunk, "message", "usage")
    elif kind == "message_delta":
        _remember(stream, chunk.get("delta"), ("stop_reason",))
        if _keep_message_usage(stream, "message_delta", chunk, "usage"):
            stream.final = stream.answer.get("stop_reason") is not None


def follow_gemini(stream: Stream, chunk: Document) -> None:
    """Gemini repeats a cumulative `usageMetadata`; the chunk with a finish reason (or a block) is the last."""
    _remember(stream, chunk.value, ("responseId", "modelVersion", "promptFeedback"))
    ended = isinstance(feedback := chunk.value.get("promptFeedback"), Mapping) and "blockReason" in feedback
    for candidate in _objects(chunk.value.get("candidates")):
        if candidate.get("finishReason") is not None:
            stream.answer["candidates"] = [{"finishReason": candidate["finishReason"]}]
    stream.keep("usageMetadata", chunk, "usageMetadata")
    stream.final = "usageMetadata" in stream.answer and (ended or "candidates" in stream.answer or stream.final)


def follow_converse(stream: Stream, chunk: Document) -> None:
    """ConverseStream: `messageStop`, then `metadata` with usage. Chunks are `{event type: event}`."""
    _remember(stream, chunk.get("messageStop"), ("stopReason",))
    _remember(stream, chunk.get("metadata"), ("serviceTier",))
    if stream.keep("usage", chunk, "metadata", "usage"):
        stream.final = True


def follow_cohere(stream: Stream, chunk: Document) -> None:
    """Cohere: `message-start` has the id, `message-end` reason and usage."""
    _remember(stream, chunk.value, ("id",))
    if chunk.value.get("type") == "message-end":
        _remember(stream, chunk.get("delta"), ("finish_reason",))
        stream.final = stream.keep("usage", chunk, "delta", "usage")


def follow_done_event(stream: Stream, chunk: Document) -> None:
    """Images, transcriptions and speech: the closing event has the usage."""
    if chunk.value.get("type") in DONE_EVENTS:
        stream.final = stream.keep("usage", chunk, "usage")


def follow_llamacpp(stream: Stream, chunk: Document) -> None:
    """The form of chat completions, or `/completion`, whose last chunk says `stop`."""
    if "choices" in chunk.value:
        follow_choices(stream, chunk)
    elif chunk.value.get("stop") is True:
        _remember(stream, chunk.value, ("model", "stop_type"))
        found = [stream.keep(name, chunk, name) for name in ("timings", "tokens_evaluated", "tokens_predicted")]
        stream.final = any(found)


def follow_ollama(stream: Stream, chunk: Document) -> None:
    """The last chunk says `done`, and has the counts."""
    _remember(stream, chunk.value, ("model",))
    if chunk.value.get("done") is True:
        _remember(stream, chunk.value, ("done_reason",))
        found = [stream.keep(name, chunk, name) for name in ("prompt_eval_count", "eval_count")]
        stream.final = any(found)


def _keep_message_usage(stream: Stream, name: str, chunk: Document, *path: str) -> bool:
    """The usage of a streamed message has two sources, each the newest of its kind."""
    if not stream.keep(name, chunk, *path):
        return False
    stream.answer["usage"] = {**stream.answer.get("usage", {}), name: stream.answer.pop(name)}
    return True


def _remember(stream: Stream, source: object, keys: Iterable[str]) -> None:
    if isinstance(source, Mapping):
        _copy(stream.answer, source, keys)


def _copy(into: dict[str, Any], source: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Copies what is said and short; a null never replaces what was said."""
    for key in keys:
        value = source.get(key)
        if isinstance(value, str) and len(value) > MAX_KEPT_TEXT:
            value = value[:MAX_KEPT_TEXT]  # still too long for the field, so the reader will refuse it by name
        if value is not None:
            into[key] = value


def _objects(value: object) -> list[Mapping[str, Any]]:
    entries = value if isinstance(value, (list, tuple)) else ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _is_key(index: object) -> bool:
    return index is None or type(index) is int


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    action = item.get("action")
    kept = {"type": action.get("type")} if isinstance(action, Mapping) and "type" in action else {}
    return {"type": item.get("type"), "status": item.get("status"), "action": kept}
