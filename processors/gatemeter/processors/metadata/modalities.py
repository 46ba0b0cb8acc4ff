"""Audio and image buckets at the price of text: a card says it once a line, not once a bucket, so that it stays small.

A public price of all input tokens holds for tokens of every modality that has none of its own. A line of a card that
says `text_prices_all` leaves such buckets out; whoever reads the line has them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TEXT_OF: Final = {
    "input_audio_uncached": "input_text_uncached",
    "input_image_uncached": "input_text_uncached",
    "input_audio_cache_read": "input_text_cache_read",
    "input_image_cache_read": "input_text_cache_read",
    "output_audio_visible": "output_text_visible",
    "output_image_visible": "output_text_visible",
}
"""Of each bucket of another modality the text bucket of the same direction and class."""


def spread(prices: Mapping[str, int]) -> dict[str, int]:
    """Prices with those of text for the modalities that have none of their own."""
    taken = {name: prices[text] for name, text in TEXT_OF.items() if text in prices}
    return {**taken, **prices}


def gathered(list_pico: Mapping[str, int], provider_pico: Mapping[str, int]) -> dict[str, Any]:
    """The two maps of a line and `text_prices_all`, without what `spread` gives back; exactly the same prices."""
    sides = list_pico, provider_pico
    as_text = [
        name
        for name, text in TEXT_OF.items()
        if all(name in side and text in side and side[name] == side[text] for side in sides)
    ]
    shorter = [{name: pico for name, pico in side.items() if name not in as_text} for side in sides]
    short = bool(as_text) and all(spread(less) == side for less, side in zip(shorter, sides, strict=True))
    kept = shorter if short else sides
    named = {name: dict(sorted(side.items())) for name, side in zip(("list_pico", "provider_pico"), kept, strict=True)}
    return {**named, "text_prices_all": short}
