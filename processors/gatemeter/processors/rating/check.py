"""Which usage of the last days has no rate, and why; and which rates end in as many days to come.

An attempt counts as it is now: what a correction has priced since is priced. Reasons are those of the view that was in
force at the attempt's record (`pricing.unpriced`); `correction` where that view has a price and a correction none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import CorrectionError
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths
from gatemeter.processors.metadata.cards import RateKey
from gatemeter.processors.metadata.entries import DAY_US, HOUR_US
from gatemeter.processors.metadata.log import MetadataLog, NeedsMetadata
from gatemeter.processors.metadata.views import View
from gatemeter.processors.pricing.unpriced import Lack, input_tokens_of, used_of, why_unpriced
from gatemeter.schemas.tables import OUTPUT_BUCKETS
from gatemeter.sinks.failures import FAILURES, sink_error

_CORRECTED: Final = "(gateway_id, request_id) IN (SELECT gateway_id, request_id FROM corrections)"
_UNPRICED: Final = f"price_status = 'unpriced' OR {_CORRECTED}"
_USED: Final = """
SELECT provider, if(served_model = '', model, served_model) AS priced_model, count()
FROM usage_facts
WHERE usage_hour >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND has_response
GROUP BY provider, priced_model"""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What a price is looked up by, and what it lacks. '' is no served model, the standard tier, no region."""

    provider: str
    model: str
    served_model: str
    service_tier: str
    workload_class: str
    region: str
    reason: str
    missing: tuple[str, ...]
    input_tokens_above: int | None


@dataclass(slots=True)
class Unpriced:
    """Usage without a price in one place. Times in microseconds UTC.

    `lack_now`: why the cards that apply now do not price it either; None: they do.
    """

    place: Place
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_us: int = 0
    last_us: int = 0
    tenants: set[str] = field(default_factory=set)
    lack_now: Lack | None = None

    def add(self, truth: Truth) -> None:
        """One more attempt."""
        fact = truth.fact
        started = fact["request_started_at"]
        self.first_us = min(self.first_us, started) if self.attempts else started
        self.last_us = max(self.last_us, started)
        self.attempts += 1
        self.input_tokens += input_tokens_of(truth.quantities)
        self.output_tokens += sum(truth.quantities[name] or 0 for name in OUTPUT_BUCKETS)
        self.tenants.add(truth.attribution["tenant_id"])


@dataclass(frozen=True, slots=True)
class Ending:
    """A rate that ends without a successor at `ends_us`. `attempts`: how often the model was used."""

    key: RateKey
    ends_us: int
    attempts: int


class RateCheck:
    """One check at an instant, over the `days` before and after it.

    `now`: the cards that price what comes next, asked at `priced_at_us`.
    """

    def __init__(
        self, client: Client, log: MetadataLog, now: View, at_us: int, days: int, *, priced_at_us: int
    ) -> None:
        self._client, self._log, self._now = client, log, now
        self._at_us, self._priced_at_us, self._span_us = at_us, priced_at_us, days * DAY_US
        first = at_us - self._span_us
        self._hours = UsageHours(first - first % HOUR_US, at_us - at_us % HOUR_US + HOUR_US)

    def unpriced(self) -> list[Unpriced]:
        """Usage without a price, the most attempts first. Streams; memory grows with the places alone.

        Raises `CorrectionError` where a fact needs metadata that the topic does not hold, and what `truths` raises.
        """
        found: dict[Place, Unpriced] = {}
        for truth in truths(self._client, "usage", self._hours, _UNPRICED, among=_UNPRICED):
            if truth.terms["price_status"] != "unpriced":
                continue
            key = key_of(truth.fact)
            place = self._place(truth, key)
            group = found.get(place)
            if group is None:
                group = found[place] = Unpriced(place)
            if group.lack_now is None:
                group.lack_now = _lack(self._now, key, truth, self._priced_at_us)
            group.add(truth)
        return sorted(found.values(), key=lambda group: (-group.attempts, str(group.place)))

    def _place(self, truth: Truth, key: RateKey) -> Place:
        fact = truth.fact
        try:
            view = self._log.view(fact["metadata_offset"])
        except NeedsMetadata as error:
            raise CorrectionError(
                f"request {fact['request_id']!r} attempt {fact['attempt']}: {error}, the topic ends at "
                f"{self._log.loaded_to}: name the metadata topic that its workers read"
            ) from error
        lack = _lack(view, key, truth, fact["request_started_at"]) or Lack("correction")
        return Place(
            fact["provider"],
            fact["model"],
            fact["served_model"],
            fact["service_tier"],
            fact["workload_class"],
            fact["region"],
            lack.reason,
            lack.missing,
            lack.input_tokens_above,
        )

    def endings(self) -> list[Ending]:
        """Rates in force now that no card continues within the days to come, those of used models first."""
        used = self._used()
        until_us = self._at_us + self._span_us
        edges = [at_us for at_us in self._now.boundaries if self._at_us < at_us <= until_us]
        keys = {key for card in self._now.cards for key in card.spans}
        found = [
            Ending(key, ends_us, used.get((key[0], key[1]), 0))
            for key in keys
            if (ends_us := _end_of(self._now, key, self._at_us, edges)) is not None
        ]
        return sorted(found, key=lambda ending: (-ending.attempts, ending.key))

    def _used(self) -> dict[tuple[str, str], int]:
        try:
            rows = self._client.query(_USED, {"from": self._hours.from_us}).result_rows
        except FAILURES as error:
            raise sink_error("count the models used", error) from error
        return {(provider, model): count for provider, model, count in rows}


def key_of(fact: Mapping[str, Any]) -> RateKey:
    """What a usage fact's price is looked up by: the served model, else the one asked for."""
    return (
        fact["provider"],
        fact["served_model"] or fact["model"],
        fact["service_tier"],
        fact["workload_class"],
        fact["region"],
    )


def _lack(view: View, key: RateKey, truth: Truth, at_us: int) -> Lack | None:
    return why_unpriced(view, key, used_of(truth.quantities), input_tokens_of(truth.quantities), at_us)


def _end_of(view: View, key: RateKey, at_us: int, edges: Iterable[int]) -> int | None:
    if view.rate(*key, at_us) is None:
        return None
    return next((edge for edge in edges if view.rate(*key, edge) is None), None)
