"""Where the terms of an explanation come from: the signed metadata log, as it was at each fact's `metadata_offset`.

A view says which price holds. What it leaves out (a card's source and who published it, the dates of one line) is read
from the very record that the view was built from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from gatemeter.processors.fold.facts import find_rate
from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION
from gatemeter.processors.metadata.entries import Dated
from gatemeter.processors.metadata.log import MetadataLog, NeedsMetadata
from gatemeter.processors.metadata.views import Rate, View


class TermsMissing(Exception):
    """The metadata that a fact was priced with is not in the topic; one line."""


@dataclass(frozen=True, slots=True)
class CardRecord:
    """A published rate card. `offset`, `kid`: of its record in the metadata topic."""

    datum: Mapping[str, Any]
    offset: int
    kid: str


@dataclass(frozen=True, slots=True)
class RateSource(Dated):
    """Where a rate stands: the card, and the line of it. The dates it has itself are those of the line."""

    card_id: str
    content_hash: str
    source: str
    published_by: str
    metadata_offset: int
    card_from_us: int
    card_to_us: int | None
    workload_class: str
    """`any`, or the class that the line names."""
    region: str
    """'' for any, or the region that the line names."""


class Terms:
    """Views and cards of one metadata log."""

    def __init__(self, log: MetadataLog) -> None:
        self._log = log
        self._cards: dict[str, CardRecord] | None = None

    @property
    def origin(self) -> str:
        """The topic, and how far it was read."""
        return f"{self._log.topic}, {self._log.loaded_to} records"

    def view(self, metadata_offset: int) -> View:
        """The view in force at a fact. Raises `TermsMissing`."""
        try:
            return self._log.view(metadata_offset)
        except NeedsMetadata as error:
            raise TermsMissing(
                f"{error}, topic {self._log.topic} ends at {self._log.loaded_to}: name the topic that the workers read"
            ) from error

    def newest(self) -> View:
        """The view of the whole log."""
        return self._log.view(self._log.loaded_to)

    def card(self, content_hash: str) -> CardRecord:
        """The first record with a card of this content. Raises `TermsMissing`."""
        if self._cards is None:
            self._cards = {}
            for item in self._log.published(0, self._log.loaded_to):
                if item.record.name == "RateCard":
                    record = CardRecord(item.record.datum, item.offset, item.kid)
                    self._cards.setdefault(item.record.datum["content_hash"], record)
        try:
            return self._cards[content_hash]
        except KeyError:
            raise TermsMissing(f"topic {self._log.topic} has no rate card with hash {content_hash}") from None

    def source_of(self, rate: Rate, fact: Mapping[str, Any], model: str, above: int) -> RateSource:
        """The line that a fact's rate stands in. Raises `TermsMissing` where the card's record holds no such line.

        `model`: the one of the two that has the price; `above`: `input_tokens_above` of the tier.
        """
        record = self.card(rate.card_hash)
        classes, regions = (fact["workload_class"], ANY_CLASS), (fact["region"], ANY_REGION)
        for region, workload_class in product(regions, classes):
            wanted = (fact["provider"], model, fact["service_tier"], workload_class, region, above)
            for line in record.datum["rates"]:
                dates = Dated(effective_from_us=line["effective_from"], effective_to_us=line["effective_to"])
                named = (line["provider"], line["model"], line["service_tier"] or "", line["workload_class"])
                place = (*named, line["region"] or ANY_REGION, line["input_tokens_above"])
                if place == wanted and dates.in_force(fact["request_started_at"]):
                    return _source(record, line)
        raise TermsMissing(f"card {rate.card_id!r} has no line of model {model!r} above {above} input tokens")


def rate_of(fact: Mapping[str, Any], view: View) -> Rate | None:
    """The rate of an attempt by the fold's own rule; None: no card in force has one."""
    models = fact["served_model"], fact["model"]
    tier, workload_class = fact["service_tier"], fact["workload_class"]
    return find_rate(view, fact["provider"], models, tier, workload_class, fact["region"], fact["request_started_at"])


def matched_model(fact: Mapping[str, Any], view: View, rate: Rate) -> str:
    """`served_model` or `model`: the one that a rate of `rate_of` is of. Raises `TermsMissing` where it is neither."""
    for name in ("served_model", "model"):
        if fact[name] and rate_of({**fact, "served_model": "", "model": fact[name]}, view) is rate:
            return name
    raise TermsMissing(f"card {rate.card_id!r} prices neither the served model nor the one asked for")


def _source(record: CardRecord, line: Mapping[str, Any]) -> RateSource:
    card = record.datum
    return RateSource(
        card["card_id"],
        card["content_hash"],
        card["source"],
        record.kid,
        record.offset,
        card["effective_from"],
        card["effective_to"],
        line["workload_class"],
        line["region"] or ANY_REGION,
        effective_from_us=line["effective_from"],
        effective_to_us=line["effective_to"],
    )
