"""The grain that both sides have: models by one name, token types no finer than the provider tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gatemeter.schemas.tables import INPUT_BUCKETS, OUTPUT_BUCKETS

INPUT_TOTAL: Final = "input_total"
OUTPUT_TOTAL: Final = "output_total"
ORDINARY_TIERS: Final = frozenset({"", "default", "standard", "auto", "on_demand", "ondemand"})
_DATED: Final = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest)(?:-v\d+(?::\d+)?)?$")
_TEXT: Final = frozenset(name for name in (*INPUT_BUCKETS, *OUTPUT_BUCKETS) if "_text_" in name)
_COARSER: Final = {
    "output_text_reasoning": ("output_text_visible",),
    "output_audio_visible": ("output_text_visible",),
    "output_image_visible": ("output_text_visible",),
    "input_text_cache_write_1h": ("input_text_cache_write_5m",),
    "input_audio_uncached": ("input_text_uncached",),
    "input_image_uncached": ("input_text_uncached",),
    "input_audio_cache_read": ("input_text_cache_read", "input_audio_uncached", "input_text_uncached"),
    "input_image_cache_read": ("input_text_cache_read", "input_image_uncached", "input_text_uncached"),
}
"""What a provider counts a bucket in where it has no line of its own for it, the nearest first."""


def tier(name: str) -> str:
    """A service tier as facts have it: '' is the ordinary one, whatever the provider calls it."""
    return "" if name.lower() in ORDINARY_TIERS else name.lower()


def workload(name: str) -> str:
    """A workload class; what names none is realtime."""
    return name or "realtime"


def undated(model: str) -> str:
    """A model without the date of its version: gpt-4o-2024-08-06 → gpt-4o."""
    return _DATED.sub("", model)


@dataclass(frozen=True)
class Grain:
    """Names of one provider's export. `models`: those of its lines (ours, by `given`), `types`: its token types."""

    models: frozenset[str]
    types: frozenset[str]

    def model(self, name: str) -> str:
        """The export's name of a metered model: itself, or where the export has dates or lacks them, its nearest."""
        if not self.models or name in self.models:
            return name
        if undated(name) in self.models:
            return undated(name)
        dated = [model for model in self.models if undated(model) == name]
        return dated[0] if len(dated) == 1 else name

    def token_type(self, name: str) -> str:
        """What both sides count a bucket or meter in. Where the provider tells a total for one model, all are totals;
        only what it also tells apart (audio, images) stays by itself."""
        if self.types == {""}:
            return ""
        for total, buckets in ((INPUT_TOTAL, INPUT_BUCKETS), (OUTPUT_TOTAL, OUTPUT_BUCKETS)):
            if total in self.types and name in buckets and (name in _TEXT or name not in self.types):
                return total
        if name in self.types:
            return name
        return next((coarser for coarser in _COARSER.get(name, ()) if coarser in self.types), name)


def grain_of(models: Iterable[str], types: Iterable[str]) -> Grain:
    """The grain of an export's lines of use."""
    return Grain(frozenset(models), frozenset(types))


def renamed(model: str, given: Mapping[str, str]) -> str:
    """Our name of a model of the export, by the settings."""
    return given.get(model, model)
