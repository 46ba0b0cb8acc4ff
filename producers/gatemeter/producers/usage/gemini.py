"""Gemini's generateContent, of Google AI and of Vertex AI.

`totalTokenCount` = prompt + tool-use prompt + candidates + thoughts. The prompt includes what came from the cache;
thoughts are on top of the candidates; tool-use prompt tokens (results that the provider's tools fed back) are on top of
the prompt, and input. Details by modality say what each leaf is; without them all is text. Images, video and documents
are one modality here, `image`. Source: Gemini API and Vertex AI reference, UsageMetadata, 2026-11.
"""

from __future__ import annotations

from typing import Any, Final

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import Part, total_of

_MODALITIES: Final = {"TEXT": "text", "AUDIO": "audio", "IMAGE": "image", "VIDEO": "image", "DOCUMENT": "image"}
_TRAFFIC: Final = {"ON_DEMAND": None, "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
"""Vertex AI's words for tiers; others (provisioned throughput) keep their own, in lower case."""


def read_gemini(answer: Part, draft: Draft) -> None:
    """One GenerateContentResponse, or the last chunk of a streamed one."""
    draft.identify(answer, request_id="responseId", model="modelVersion", tier=None)
    usage = answer.part("usageMetadata")
    _read_tier(usage, draft)
    for candidate in answer.parts("candidates")[:1]:
        draft.finish(candidate, "finishReason")
    feedback = answer.part("promptFeedback")
    if feedback.says("blockReason"):
        draft.finish(feedback, "blockReason")
    _read_input(usage, draft)
    _read_output(usage, draft)
    draft.check_total(usage.at("totalTokenCount"), usage.count("totalTokenCount"))


def _read_tier(usage: Part, draft: Draft) -> None:
    traffic = usage.text("trafficType")
    if traffic is not None:
        draft.set_tier(_TRAFFIC.get(traffic, traffic))
    draft.set_tier(usage.text("serviceTier"))


def _read_input(usage: Part, draft: Draft) -> None:
    prompt, cached = usage.count("promptTokenCount"), usage.count("cachedContentTokenCount")
    tools = usage.count("toolUsePromptTokenCount")
    asked = _details(usage, "promptTokensDetails", prompt, draft)
    used = _details(usage, "toolUsePromptTokensDetails", tools, draft)
    kept = _details(usage, "cacheTokensDetails", cached, draft)
    others_kept = (kept.get("audio"), kept.get("image"))
    if not asked and prompt is not None:
        asked = {"text": draft.rest(usage.at("promptTokenCount"), prompt, *others_kept)}
        asked.update({name: kept[name] for name in ("audio", "image") if name in kept})
    if not used and tools is not None:
        used = {"text": tools}
    text_kept = draft.rest(usage.at("cachedContentTokenCount"), cached, *others_kept)
    for modality, read in (("text", text_kept), ("audio", kept.get("audio")), ("image", kept.get("image"))):
        whole = asked.get(modality, 0 if asked and read else None)
        fresh = draft.rest(usage.at("promptTokensDetails"), whole, read)
        both = (fresh, used.get(modality))
        draft.put(f"input_{modality}_cache_read", read)
        draft.put(f"input_{modality}_uncached", None if both == (None, None) else total_of(both))


def _read_output(usage: Part, draft: Draft) -> None:
    candidates = usage.count("candidatesTokenCount")
    made = _details(usage, "candidatesTokensDetails", candidates, draft)
    draft.put("output_audio_visible", made.get("audio"))
    draft.put("output_image_visible", made.get("image"))
    draft.put("output_text_visible", made.get("text") if made else candidates)
    draft.put("output_text_reasoning", usage.count("thoughtsTokenCount"))


def _details(usage: Part, key: str, whole: int | None, draft: Draft) -> dict[str, int | None]:
    """Tokens by our modality; the entries of one modality are added. They must be the whole."""
    found: dict[str, int | None] = {}
    for entry in usage.parts(key):
        named: Any = entry.value.get("modality")
        modality = _MODALITIES.get(named) if isinstance(named, str) else None
        count = entry.count("tokenCount")
        if modality is None:
            entry.lose("modality", f"one of {', '.join(_MODALITIES)}", named)
        elif count is not None:
            found[modality] = total_of((found.get(modality), count))
    if found:
        draft.check(usage.at(key), total_of(found.values()), whole)
    return found
