"""What an answer used, in the buckets and meters of a RESPONSE event; made by `normalise` and `UsageStream`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, Literal

from msgspec import Struct

from gatemeter.producers.events import MAX_MISMATCHES_LENGTH
from gatemeter.schemas.tables import BUCKETS, METERS

_QUANTITIES: Final = (*BUCKETS, *METERS)
_quantities_of: Final = attrgetter(*_QUANTITIES)
_TEXTS: Final = (
    *("provider_request_id", "served_model", "finish_reason", "service_tier", "region", "workload_class", "usage_raw"),
)
_texts_of: Final = attrgetter(*_TEXTS)


Consistency = Literal["consistent", "mismatch", "unverified"]


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Disjoint token leaves and meters of one answer. None is "not said", 0 is the provider's own zero.

    `service_tier` is None for the ordinary tier, whatever the provider calls it (default, standard, on demand): that is
    the tier without a name of the rate cards. `region` is where the provider says it ran, `workload_class` is `batch`
    where it says so.
    """

    shape: str
    final: bool
    """False for a stream that was cut: what is said is kept, and is a lower bound."""
    input_text_uncached: int | None = None
    input_text_cache_read: int | None = None
    input_text_cache_write_5m: int | None = None
    input_text_cache_write_1h: int | None = None
    input_audio_uncached: int | None = None
    input_audio_cache_read: int | None = None
    input_image_uncached: int | None = None
    input_image_cache_read: int | None = None
    output_text_visible: int | None = None
    output_text_reasoning: int | None = None
    output_audio_visible: int | None = None
    output_image_visible: int | None = None
    images: int | None = None
    media_ms: int | None = None
    searches: int | None = None
    tool_calls: int | None = None
    usage_raw: str | None = None
    """The provider's own usage JSON: its exact text where the answer came as bytes or text."""
    provider_request_id: str | None = None
    served_model: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    region: str | None = None
    workload_class: Literal["batch"] | None = None
    consistency: Consistency = "unverified"
    """Whether the leaves add up to the provider's own totals; `unverified` where it gives none."""
    mismatches: tuple[str, ...] = ()
    """What does not add up, one sentence each: the field, the sum of the leaves, what the provider says."""
    complaints: tuple[str, ...] = ()
    """Fields that were refused, one sentence each: the field, the accepted range, what it held."""
    lost_counts: tuple[str, ...] = ()
    """Of the complaints those about counts, without what the field held."""
    other_models: tuple[Usage, ...] = ()
    """What other models used inside the same answer (an advisor, a fallback). In none of the leaves above."""

    @property
    def quantities(self) -> dict[str, int | None]:
        """Every bucket and meter by name."""
        return dict(zip(_QUANTITIES, _quantities_of(self), strict=True))

    @property
    def is_known(self) -> bool:
        """Whether any bucket or meter is known; an explicit zero is known."""
        return _quantities_of(self).count(None) < len(_QUANTITIES)

    @property
    def usage_source(self) -> Literal["reported", "missing"]:
        """`reported` only for the provider's last word: a cut stream is `missing`, though what it said is kept."""
        return "reported" if self.final and self.is_known else "missing"

    def event_fields(self) -> dict[str, Any]:
        """Fields for `emitter.response(**who, **usage.event_fields())`; what was not said is left out."""
        fields: dict[str, Any] = {
            name: value for name, value in zip(_QUANTITIES, _quantities_of(self), strict=True) if value is not None
        }
        is_known = bool(fields)
        fields["usage_source"] = "reported" if self.final and is_known else "missing"
        for name, value in zip(_TEXTS, _texts_of(self), strict=True):
            if value is not None:
                fields[name] = value
        if self.mismatches or self.lost_counts:
            fields["usage_consistency"] = "mismatch"
            fields["usage_mismatches"] = _fitting((*self.mismatches, *self.lost_counts))
        elif is_known:
            fields["usage_consistency"] = self.consistency
        return fields


def _fitting(lines: Sequence[str]) -> str:
    """The lines that fit into the field, whole ones only."""
    text, *more = (line[:MAX_MISMATCHES_LENGTH] for line in lines)
    for line in more:
        if len(text) + 1 + len(line) > MAX_MISMATCHES_LENGTH:
            break
        text += f"\n{line}"
    return text
