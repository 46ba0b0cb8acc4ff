"""Anthropic messages, also as served by Vertex AI, Azure and Bedrock's InvokeModel.

`input_tokens` excludes what the cache gave or took. `output_tokens` includes thinking. There is no total: what can be
checked is the cache split against its flat count, and the iterations against the top level. A streamed answer's usage
is `message_start`'s, overlaid by the last `message_delta`'s, whose counts are cumulative.

`iterations` lists the samplings of one request, and is what is billed. The top level covers the answering ones only:
compactions are to be added. What another model sampled (an advisor; hops that declined before a fallback answered) is
billed at that model's rates, so it becomes `other_models`. A `fallback_message` is the hop that answered; a `message`
beside it is one that declined. Source: Anthropic API reference (Usage), guides on compaction, advisor tool and
fallbacks, 2026-11.
"""

from __future__ import annotations

from typing import Final

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import MAX_NAME_LENGTH, Part
from gatemeter.schemas import limits

_OUTPUT: Final = ("output_tokens", "output_tokens_details")
_NOT_STATED: Final = ("not_available", "global")


def read_messages(answer: Part, draft: Draft) -> None:
    """One message, or the skeleton of a streamed one (`usage` of `message_start` and `message_delta`)."""
    draft.identify(answer, tier=None)
    draft.finish(answer, "stop_reason")
    usage = _merged(answer.part("usage"))
    draft.set_tier(usage.text("service_tier"))
    if usage.value.get("speed") == "fast":
        draft.texts["service_tier"] = "fast"
    region = usage.text("inference_geo", MAX_NAME_LENGTH)
    draft.texts["region"] = None if region in _NOT_STATED else region
    tools = usage.part("server_tool_use")
    searches = tools.count("web_search_requests", most=limits.MAX_METER["searches"])
    iterations = usage.parts("iterations")
    if any(entry.says("input_tokens") and entry.says("output_tokens") for entry in iterations):
        _add_iterations(draft, usage, iterations)
    else:
        _add(draft, usage)
    draft.put("searches", searches)


def _merged(usage: Part) -> Part:
    """The last word on each field of a streamed message; a null in the delta says nothing.

    The output count of `message_start` is what was written so far, never what the message cost: it is left out.
    """
    if "message_start" not in usage.value and "message_delta" not in usage.value:
        return usage
    start, delta = usage.part("message_start"), usage.part("message_delta")
    begun = {key: value for key, value in start.value.items() if key not in _OUTPUT}
    said = {key: value for key, value in delta.value.items() if value is not None}
    return Part({**begun, **said}, usage.where, usage.notes)


def _add(draft: Draft, usage: Part) -> None:
    """Adds one usage object's leaves. Without a split by lifetime, what was written is of the 5-minute cache."""
    output = usage.count("output_tokens")
    thinking = usage.part("output_tokens_details").count("thinking_tokens")
    split, flat = usage.part("cache_creation"), usage.count("cache_creation_input_tokens")
    short, long = split.count("ephemeral_5m_input_tokens"), split.count("ephemeral_1h_input_tokens")
    if short is None and long is None:
        short = flat
    else:
        draft.check(usage.at("cache_creation_input_tokens"), flat, (short or 0) + (long or 0))
    draft.add("input_text_uncached", usage.count("input_tokens"))
    draft.add("input_text_cache_read", usage.count("cache_read_input_tokens"))
    draft.add("input_text_cache_write_5m", short)
    draft.add("input_text_cache_write_1h", long)
    draft.add("output_text_reasoning", thinking)
    draft.add("output_text_visible", draft.rest(usage.at("output_tokens"), output, thinking))


def _add_iterations(draft: Draft, usage: Part, iterations: list[Part]) -> None:
    fallback = next((entry for entry in iterations if entry.value.get("type") == "fallback_message"), None)
    if fallback is not None:
        draft.texts["served_model"] = fallback.text("model")
    others: dict[str | None, Draft] = {}
    answering: list[Part] = []
    for entry in iterations:
        if _is_other(entry, fallback):
            model = entry.text("model")
            other = others.setdefault(model, Draft())
            other.texts["served_model"] = model
            _add(other, entry)
            continue
        _add(draft, entry)
        if entry.value.get("type") != "compaction":
            answering.append(entry)
    draft.other_models.extend(other.usage("anthropic_messages", None) for other in others.values())
    _share_thinking(draft, usage, iterations)
    if answering:
        _check_top_level(draft, usage, answering)


def _is_other(entry: Part, fallback: Part | None) -> bool:
    """Whether another model than the answering one sampled it; where it is not named, it is unknown."""
    kind = entry.value.get("type")
    declined = fallback is not None and kind == "message" and entry.text("model") != fallback.text("model")
    return kind == "advisor_message" or declined


def _share_thinking(draft: Draft, usage: Part, iterations: list[Part]) -> None:
    """Thinking that only the top level tells is still part of the visible sum: it moves out of it, nothing is added."""
    thinking = usage.part("output_tokens_details").count("thinking_tokens")
    if thinking is None or any(entry.says("output_tokens_details") for entry in iterations):
        return
    draft.put("output_text_reasoning", thinking)
    visible = draft.quantities.get("output_text_visible")
    draft.put("output_text_visible", draft.rest(usage.at("output_tokens"), visible, thinking))


def _check_top_level(draft: Draft, usage: Part, answering: list[Part]) -> None:
    """The top level's output is the sum of the answering iterations; its input the sum too, or the first one's."""
    output = [entry.count("output_tokens") or 0 for entry in answering]
    draft.check(usage.at("output_tokens"), usage.count("output_tokens"), sum(output))
    for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        said = [entry.count(key) or 0 for entry in answering]
        stated = usage.count(key)
        draft.check(usage.at(key), stated, said[0] if stated == said[0] else sum(said))
