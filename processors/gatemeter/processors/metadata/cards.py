"""A rate card ready for lookups: for each model its prices as spans of time in which they are constant.

A line prices requests of more than `input_tokens_above` input tokens. "A request of 200 000 input tokens pays the base
line; from 200 001 on, *all* its tokens pay the line above 200 000."
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from gatemeter.processors.metadata.entries import Dated, MetadataError, Rate, RateTier

ANY_CLASS: Final = "any"
ANY_REGION: Final = ""
RateKey = tuple[str, str, str, str, str]
"""provider, model, service tier ('' is the standard one), workload class, region ('' is any)."""


@dataclass(frozen=True, slots=True)
class RateLine(Dated):
    """One line of a card; `list_pico` and `provider_pico` have the same keys: bucket and meter names, and `request`."""

    provider: str
    model: str
    list_pico: Mapping[str, int]
    provider_pico: Mapping[str, int]
    service_tier: str = ""
    workload_class: str = ANY_CLASS
    input_tokens_above: int = 0
    region: str = ANY_REGION

    @property
    def key(self) -> RateKey:
        """What the line is looked up by, time and tier apart."""
        return (self.provider, self.model, self.service_tier, self.workload_class, self.region)


@dataclass(frozen=True, slots=True)
class Span(Dated):
    """A rate while it is constant."""

    rate: Rate


@dataclass(frozen=True, slots=True)
class RateCard(Dated):
    """Prices of one card while it holds, indexed by `RateKey`."""

    card_id: str
    content_hash: str
    currency: str
    spans: Mapping[RateKey, tuple[Span, ...]] = field(repr=False)

    def rate(self, key: RateKey, at_us: int) -> Rate | None:
        """The rate of exactly this key at an instant."""
        for span in self.spans.get(key, ()):
            if span.in_force(at_us):
                return span.rate
        return None

    def boundaries(self) -> Iterable[int]:
        """Instants at which the card or one of its prices starts or ends."""
        yield from edges(self)
        for spans in self.spans.values():
            for span in spans:
                yield from edges(span)


def edges(entry: Dated) -> Iterable[int]:
    """The start of an entry and, where it has one, its end."""
    yield entry.effective_from_us
    if entry.effective_to_us is not None:
        yield entry.effective_to_us


def index_lines(
    card_id: str, content_hash: str, currency: str, lines: Sequence[RateLine]
) -> dict[RateKey, tuple[Span, ...]]:
    """Spans by key. Raises `MetadataError` where two lines of equal rank overlap, or a tier has no base line."""
    groups: dict[RateKey, list[RateLine]] = {}
    for line in lines:
        groups.setdefault(line.key, []).append(line)
    return {
        key: tuple(
            Span(Rate(card_id, content_hash, currency, tiers), effective_from_us=start, effective_to_us=end)
            for start, end, tiers in _tiers_over_time(group)
        )
        for key, group in groups.items()
    }


def _tiers_over_time(group: list[RateLine]) -> Iterable[tuple[int, int | None, tuple[RateTier, ...]]]:
    instants = sorted({instant for line in group for instant in edges(line)})
    for position, start in enumerate(instants):
        lines = sorted((line for line in group if line.in_force(start)), key=lambda line: line.input_tokens_above)
        if not lines:
            continue
        _check_tiers(lines)
        end = instants[position + 1] if position + 1 < len(instants) else None
        yield start, end, tuple(RateTier(line.input_tokens_above, line.list_pico, line.provider_pico) for line in lines)


def _check_tiers(lines: list[RateLine]) -> None:
    first = lines[0]
    label = f"provider {first.provider!r} model {first.model!r}"
    if first.input_tokens_above != 0:
        raise MetadataError(
            f"{label}: a line above {first.input_tokens_above} needs a base line above 0 at the same time"
        )
    for before, after in pairwise(lines):
        if before.input_tokens_above == after.input_tokens_above:
            raise MetadataError(f"{label}: two lines above {before.input_tokens_above} overlap in time")


def make_card(
    card_id: str,
    lines: Sequence[RateLine],
    *,
    content_hash: str = "",
    currency: str = "USD",
    effective_from_us: int = 0,
    effective_to_us: int | None = None,
) -> RateCard:
    """A card from its lines. Raises `MetadataError` where lines contradict each other."""
    spans = index_lines(card_id, content_hash, currency, lines)
    return RateCard(
        card_id, content_hash, currency, spans, effective_from_us=effective_from_us, effective_to_us=effective_to_us
    )
