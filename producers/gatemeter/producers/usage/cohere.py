"""Cohere's v2 chat, embed and rerank.

`billed_units` is what is invoiced; `tokens` also counts the provider's own preamble and templates, so the two differ
and are no check of each other. Deployments that are not billed by Cohere report `tokens` alone: declare `cohere_tokens`
for them. Source: Cohere API reference v2, 2026-11.
"""

from __future__ import annotations

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import Part
from gatemeter.schemas import limits


def read_chat_billed(answer: Part, draft: Draft) -> None:
    """Chat, as invoiced."""
    _identify(answer, draft)
    _read_billed(answer.part("usage").part("billed_units"), draft)


def read_chat_tokens(answer: Part, draft: Draft) -> None:
    """Chat, as processed; cached tokens are inside the input."""
    _identify(answer, draft)
    usage = answer.part("usage")
    tokens, cached = usage.part("tokens"), usage.count("cached_tokens")
    draft.put("input_text_cache_read", cached)
    total = tokens.count("input_tokens")
    draft.put("input_text_uncached", draft.rest(tokens.at("input_tokens"), total, cached))
    draft.put("output_text_visible", tokens.count("output_tokens"))


def read_units(answer: Part, draft: Draft) -> None:
    """Embed and rerank: `meta.billed_units`."""
    _identify(answer, draft)
    _read_billed(answer.part("meta").part("billed_units"), draft)


def _identify(answer: Part, draft: Draft) -> None:
    draft.identify(answer, tier=None)
    draft.finish(answer, "finish_reason")


def _read_billed(billed: Part, draft: Draft) -> None:
    draft.put("input_text_uncached", billed.count("input_tokens"))
    draft.put("input_image_uncached", billed.count("image_tokens"))
    draft.put("output_text_visible", billed.count("output_tokens"))
    draft.put("searches", billed.count("search_units", most=limits.MAX_METER["searches"]))
    if not billed.says("image_tokens"):
        draft.put("images", billed.count("images", most=limits.MAX_METER["images"]))
