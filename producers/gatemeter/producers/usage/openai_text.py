"""Chat completions, Responses, embeddings and realtime of OpenAI, and of those who answer in the same form.

`prompt_tokens` includes cached, written and audio tokens; `completion_tokens` includes reasoning and audio tokens. A
provider that differs has a reader of its own here: xAI's completions exclude reasoning, DeepSeek and Mistral name
cached tokens otherwise. Source: OpenAI API reference, usage objects, 2026-11.
"""

from __future__ import annotations

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import Part, total_of
from gatemeter.schemas import limits


def input_leaves(draft: Draft, usage: Part, total_key: str, details: Part, cached: int | None = None) -> None:
    """Carves the input leaves out of the total. `cached` stands in where the details say nothing of the cache.

    Cached tokens without a modality are text. A cache write without a lifetime goes to the 5-minute bucket (OpenAI's
    only lifetime is 30 minutes; rate cards keep its one write price there).
    """
    total = usage.count(total_key)
    if not details.value:
        draft.put("input_text_cache_read", cached)
        draft.put("input_text_uncached", draft.rest(usage.at(total_key), total, cached))
        return
    stated = details.count("cached_tokens")
    cached = cached if stated is None else stated
    by_kind = details.part("cached_tokens_details")
    audio_cached, image_cached = by_kind.count("audio_tokens"), by_kind.count("image_tokens")
    written = details.count("cache_write_tokens")
    where = details.at("cached_tokens")
    audio = draft.rest(details.at("audio_tokens"), details.count("audio_tokens"), audio_cached)
    image = draft.rest(details.at("image_tokens"), details.count("image_tokens"), image_cached)
    draft.put("input_text_cache_read", draft.rest(where, cached, audio_cached, image_cached))
    draft.put("input_text_cache_write_5m", written)
    draft.put("input_audio_uncached", audio)
    draft.put("input_audio_cache_read", audio_cached)
    draft.put("input_image_uncached", image)
    draft.put("input_image_cache_read", image_cached)
    draft.put("input_text_uncached", draft.rest(usage.at(total_key), total, cached, written, audio, image))


def output_leaves(draft: Draft, usage: Part, total_key: str, details: Part) -> None:
    """Carves the output leaves out of the total; rejected predictions are billed, so they stay in the visible text."""
    reasoning, audio = details.count("reasoning_tokens"), details.count("audio_tokens")
    image = details.count("image_tokens")
    draft.put("output_text_reasoning", reasoning)
    draft.put("output_audio_visible", audio)
    draft.put("output_image_visible", image)
    total = usage.count(total_key)
    draft.put("output_text_visible", draft.rest(usage.at(total_key), total, reasoning, audio, image))


def read_chat(answer: Part, draft: Draft) -> None:
    """OpenAI, Azure OpenAI, Groq, vLLM and others who were declared to answer alike."""
    _identify_chat(answer, draft)
    _read_completion(answer.part("usage"), draft, None)


def read_deepseek(answer: Part, draft: Draft) -> None:
    """The prompt is cache hits plus misses."""
    _identify_chat(answer, draft)
    usage = answer.part("usage")
    hit, miss = usage.count("prompt_cache_hit_tokens"), usage.count("prompt_cache_miss_tokens")
    _read_completion(usage, draft, hit)
    if hit is not None and miss is not None:
        draft.check(usage.at("prompt_tokens"), usage.count("prompt_tokens"), hit + miss)


def read_mistral(answer: Part, draft: Draft) -> None:
    """Audio is billed by the second (`prompt_audio_seconds`); its tokens are in the total, but not in the prompt."""
    _identify_chat(answer, draft)
    usage = answer.part("usage")
    draft.put("media_ms", usage.milliseconds("prompt_audio_seconds"))
    _read_completion(usage, draft, usage.count("num_cached_tokens"))


def read_xai(answer: Part, draft: Draft) -> None:
    """Reasoning tokens come on top of `completion_tokens`; the total has them."""
    _identify_chat(answer, draft)
    usage = answer.part("usage")
    input_leaves(draft, usage, "prompt_tokens", usage.part("prompt_tokens_details"))
    details = usage.part("completion_tokens_details")
    audio = details.count("audio_tokens")
    draft.put("output_text_reasoning", details.count("reasoning_tokens"))
    draft.put("output_audio_visible", audio)
    total = usage.count("completion_tokens")
    draft.put("output_text_visible", draft.rest(usage.at("completion_tokens"), total, audio))
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def read_responses(answer: Part, draft: Draft) -> None:
    """The Responses API. Searches and file searches are billed by the call and counted in `output`."""
    draft.identify(answer)
    usage = answer.part("usage")
    input_leaves(draft, usage, "input_tokens", usage.part("input_tokens_details"))
    output_leaves(draft, usage, "output_tokens", usage.part("output_tokens_details"))
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))
    draft.put("searches", _calls(answer, "web_search_call", draft))
    draft.put("tool_calls", _calls(answer, "file_search_call", draft))
    draft.finish(answer, "status")
    reason = answer.part("incomplete_details")
    if reason.says("reason"):
        draft.finish(reason, "reason")
    draft.final = answer.value.get("status") not in ("queued", "in_progress")


def read_embeddings(answer: Part, draft: Draft) -> None:
    """Embeddings have input only."""
    draft.identify(answer, tier=None)
    usage = answer.part("usage")
    input_leaves(draft, usage, "prompt_tokens", usage.part("prompt_tokens_details"))
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def _identify_chat(answer: Part, draft: Draft) -> None:
    draft.identify(answer)
    for choice in answer.parts("choices")[:1]:
        draft.finish(choice, "finish_reason")


def _read_completion(usage: Part, draft: Draft, cached: int | None) -> None:
    input_leaves(draft, usage, "prompt_tokens", usage.part("prompt_tokens_details"), cached)
    output_leaves(draft, usage, "completion_tokens", usage.part("completion_tokens_details"))
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def _calls(answer: Part, kind: str, draft: Draft) -> int | None:
    """Calls of one kind; None where there are none. Opening or scanning a page found earlier is no search."""
    found = 0
    for item in answer.parts("output"):
        if item.value.get("type") == kind and item.value.get("status") != "failed":
            found += item.part("action").value.get("type", "search") == "search"
    if found > limits.MAX_METER["searches"]:
        answer.refuse("output", f"an array of 0 to {limits.MAX_METER['searches']} calls", found)
        return None
    return found or None


def read_realtime(answer: Part, draft: Draft) -> None:
    """One `response.done` of a realtime session: text, audio and image apart, each cached or not."""
    response = answer.part("response")
    draft.identify(response)
    draft.finish(response, "status")
    usage = response.part("usage")
    details = usage.part("input_token_details")
    input_leaves(draft, usage, "input_tokens", details)
    output = usage.part("output_token_details")
    output_leaves(draft, usage, "output_tokens", output)
    take_stated(draft, usage, "input_tokens", details, "input_text_uncached")
    take_stated(draft, usage, "output_tokens", output, "output_text_visible")
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def take_stated(draft: Draft, usage: Part, total_key: str, details: Part, leaf: str) -> None:
    """Where the details state their text too, that is the leaf, and all modalities together must be the total."""
    text = details.count("text_tokens")
    if text is None:
        return
    kinds = ("audio_tokens", "image_tokens")
    draft.check(usage.at(total_key), usage.count(total_key), total_of((text, *map(details.count, kinds))))
    parts = ("input_text_cache_read", "input_text_cache_write_5m") if leaf == "input_text_uncached" else ()
    cached = map(draft.quantities.get, parts)
    draft.put(leaf, draft.rest(details.at("text_tokens"), text, *cached))
