"""What the rate cards ask for one unit, from the published cards in ClickHouse.

A group of attempts has one price a bucket (see `metered`), so its cost is split over buckets exactly. Where
corrections changed it, the split is in the proportion of the card's prices, and still adds up to the cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.metadata.cards import ANY_CLASS
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Rate, RateCard, RateTier, build_view
from gatemeter.processors.pricing.components import tier_of
from gatemeter.schemas.codec import Decoded
from gatemeter.schemas.tables import BUCKETS, METERS
from gatemeter.sinks.reports.dividing import divide
from gatemeter.sinks.rows import query_rows

REQUEST: Final = "request"
_BOUGHT: Final = (*BUCKETS, *METERS)
_CARDS: Final = "SELECT detail FROM metadata_records WHERE kind = 'RateCard' ORDER BY metadata_offset"


class Prices:
    """Prices of all published cards."""

    def __init__(self, cards: Sequence[RateCard]) -> None:
        self._by_hash = {card.content_hash: build_view([card]) for card in cards}
        self._all = build_view(cards)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Input tokens above which any price changes."""
        return self._all.context_bounds

    def edges_us(self, from_us: int, to_us: int) -> list[int]:
        """Instants between two others at which a card or price begins or ends."""
        return sorted({at for card in self._all.cards for at in card.boundaries() if from_us < at < to_us})

    def of_group(self, provider: str, group: Mapping[str, Any]) -> RateTier | None:
        """The prices of a group of attempts: of the card that priced it, or of the one that a correction names."""
        view = self._by_hash.get(group["rate_card_hash"]) or self._all
        place = group["service_tier"], group["workload_class"], group["region"]
        rate = view.rate(provider, group["billed_model"], *place, group["started_us"])
        if rate is None:
            return None
        bounds = (0, *self.bounds)
        return tier_of(rate, bounds[min(group["bound"], len(bounds) - 1)] + 1)

    def of_model(self, provider: str, model: str, at_us: int) -> dict[tuple[str, str, str], Rate]:
        """The prices of a model at an instant by service tier, workload class ('any') and region ('' is any)."""
        found: dict[tuple[str, str, str], Rate] = {}
        for tier, workload_class, region in sorted(self._all.places.get((provider, model), ())):
            rate = self._all.rate(provider, model, tier, workload_class, region, at_us)
            if rate is not None:
                found[tier, workload_class, region] = rate
        return found

    def elsewhere(self, provider: str, model: str, bought: str, at_us: int) -> dict[str, int]:
        """What one unit costs in each tier and class ('flex any') of a model, 10⁻¹² units, at the contract's price."""
        found: dict[str, int] = {}
        for tier, workload_class, region in sorted(self._all.places.get((provider, model), ())):
            rate = self._all.rate(provider, model, tier, workload_class, region, at_us)
            if rate is not None and bought in rate.tiers[0].provider_pico:
                where = f"{tier or 'standard'} {'' if workload_class == ANY_CLASS else workload_class}".strip()
                found[where] = rate.tiers[0].provider_pico[bought]
        return found


def published_prices(client: Client) -> Prices:
    """The cards that operators published. Raises `SinkUnavailable`, `SinkRefused`."""
    rows = query_rows(client, "read the rate cards", _CARDS, {})
    return Prices([_card(json.loads(row["detail"])) for row in rows])


def split_cost(group: Mapping[str, Any], tier: RateTier | None) -> dict[str, int]:
    """A group's cost by bucket, meter and `request` fee, adding up to it exactly; amounts in 10⁻¹².

    1,000 input tokens at 2,500,000 and 100 output tokens at 10,000,000 that cost 3,500,000,000 are 2,500,000,000 and
    1,000,000,000; where a correction made it 7,000,000,000 they are twice that.
    """
    used = {name: int(group[name] or 0) for name in _BOUGHT if group[name]}
    prices = {} if tier is None else tier.provider_pico
    weights = {name: quantity * prices.get(name, 0) for name, quantity in used.items()}
    if prices.get(REQUEST):
        weights[REQUEST] = group["priced_attempts"] * prices[REQUEST]
    if not sum(weights.values()):
        weights = used or ({REQUEST: 1} if group["cost"] else {})
    return divide(group["cost"], weights) if weights else {}


def _card(datum: dict[str, Any]) -> RateCard:
    entry = entry_of(Decoded("RateCard", datum))
    if not isinstance(entry, RateCard):
        raise TypeError(f"a RateCard record must be a rate card, got {type(entry).__name__}")
    return entry
