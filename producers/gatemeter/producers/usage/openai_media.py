"""Images, transcriptions and speech of OpenAI. Source: OpenAI API reference, images and audio, 2026-11."""

from __future__ import annotations

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.openai_text import input_leaves, output_leaves, take_stated
from gatemeter.producers.usage.parts import Part
from gatemeter.schemas import limits


def read_images(answer: Part, draft: Draft) -> None:
    """GPT image models report tokens; models without a usage object are billed by the image.

    Output without details is all image tokens. `images` is filled only where images are what is billed: a rate card for
    tokens has no price for them.
    """
    draft.identify(answer)
    usage = answer.part("usage")
    if not usage.value:
        data = answer.parts("data")
        if len(data) > limits.MAX_METER["images"]:
            answer.refuse("data", f"an array of 0 to {limits.MAX_METER['images']} images", len(data))
        elif answer.says("data"):
            draft.put("images", len(data))
        return
    details = usage.part("input_tokens_details")
    input_leaves(draft, usage, "input_tokens", details)
    output = usage.part("output_tokens_details")
    if output.value:
        output_leaves(draft, usage, "output_tokens", output)
        take_stated(draft, usage, "output_tokens", output, "output_text_visible")
    else:
        draft.put("output_image_visible", usage.count("output_tokens"))
    take_stated(draft, usage, "input_tokens", details, "input_text_uncached")
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def read_transcription(answer: Part, draft: Draft) -> None:
    """Billed by tokens (`type` tokens) or by seconds of audio (`type` duration, already rounded as it is billed)."""
    draft.identify(answer)
    usage = answer.part("usage")
    if usage.value.get("type") == "duration":
        draft.put("media_ms", usage.milliseconds("seconds"))
        return
    details = usage.part("input_token_details")
    input_leaves(draft, usage, "input_tokens", details)
    draft.put("output_text_visible", usage.count("output_tokens"))
    take_stated(draft, usage, "input_tokens", details, "input_text_uncached")
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))


def read_speech(answer: Part, draft: Draft) -> None:
    """The `speech.audio.done` event: text in, audio out. Models billed by the character report nothing."""
    draft.identify(answer)
    usage = answer.part("usage")
    draft.put("input_text_uncached", usage.count("input_tokens"))
    draft.put("output_audio_visible", usage.count("output_tokens"))
    draft.check_total(usage.at("total_tokens"), usage.count("total_tokens"))
