"""Servers that one runs oneself: llama.cpp's own form and Ollama's. vLLM answers as OpenAI does.

llama.cpp: `timings.cache_n` prompt tokens came from the slot's cache, `prompt_n` were evaluated, together they are the
prompt; the OpenAI form of the same server has a usage object beside them. Ollama leaves `prompt_eval_count` out where
the whole prompt was cached: then it is unknown. Source: llama.cpp server README, Ollama API reference, 2026-11.
"""

from __future__ import annotations

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.openai_text import input_leaves, output_leaves
from gatemeter.producers.usage.parts import MAX_REASON_LENGTH, Part


def read_llamacpp(answer: Part, draft: Draft) -> None:
    """`/completion` (tokens_evaluated, tokens_predicted), or `/v1/chat/completions` with `timings`."""
    draft.identify(answer)
    draft.finish(answer, "stop_type")
    for choice in answer.parts("choices")[:1]:
        draft.finish(choice, "finish_reason")
    timings, usage = answer.part("timings"), answer.part("usage")
    cached, read = timings.count("cache_n"), timings.count("prompt_n")
    predicted = timings.count("predicted_n")
    timed = None if read is None else read + (cached or 0)
    if usage.value:
        input_leaves(draft, usage, "prompt_tokens", usage.part("prompt_tokens_details"), cached)
        output_leaves(draft, usage, "completion_tokens", usage.part("completion_tokens_details"))
        draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))
        draft.check(usage.at("prompt_tokens"), usage.count("prompt_tokens"), timed if cached is not None else None)
        return
    evaluated, written = answer.count("tokens_evaluated"), answer.count("tokens_predicted")
    prompt = timed if evaluated is None else evaluated
    draft.put("input_text_cache_read", cached)
    draft.put("input_text_uncached", draft.rest("tokens_evaluated", prompt, cached))
    draft.put("output_text_visible", predicted if written is None else written)
    draft.check("tokens_evaluated", evaluated, timed if cached is not None else None)
    draft.check("tokens_predicted", written, predicted)


def read_ollama(answer: Part, draft: Draft) -> None:
    """`/api/chat`, `/api/generate` and `/api/embed`."""
    draft.identify(answer, tier=None)
    draft.texts["finish_reason"] = answer.text("done_reason", MAX_REASON_LENGTH)
    draft.put("input_text_uncached", answer.count("prompt_eval_count"))
    draft.put("output_text_visible", answer.count("eval_count"))
    draft.final = answer.value.get("done", True) is True
