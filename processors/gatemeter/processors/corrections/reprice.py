"""Prices what is true again with a rate card, by the same code as the fold, and keeps what it changes.

The card comes first: a row that it has no price for (another model, or outside of its dates) stays as it is. The charge
plan is the one that applied: that of the view in force at the fact's record. Rows whose amounts were set by hand stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import AMOUNTS, CorrectionError, CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths
from gatemeter.processors.fold.facts import find_rate
from gatemeter.processors.metadata.cards import RateCard
from gatemeter.processors.metadata.log import MetadataLog, NeedsMetadata
from gatemeter.processors.metadata.views import Attribution, Rate, View, build_view
from gatemeter.processors.pricing.components import price_usage

# The model that a price goes by: the served one, else the one asked for.
_WHERE: Final = """has_response
    AND ({provider:String} = '' OR provider = {provider:String})
    AND ({model:String} = '' OR if(served_model = '', model, served_model) = {model:String})"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: '' for all. `over_manual`: also those whose amounts were set by hand."""

    hours: UsageHours
    provider: str = ""
    model: str = ""
    tenant: str = ""
    over_manual: bool = False


class Repricing:
    """One repricing; `summary` fills while `rows` are taken."""

    def __init__(self, client: Client, log: MetadataLog, cards: list[RateCard], wanted: Wanted) -> None:
        self._client = client
        self._log = log
        self._prices: View = build_view(cards)
        self._wanted = wanted
        self.summary = Summary()

    def rows(self, run_id: str, reason: str) -> Iterator[CorrectionRow]:
        """The rows whose amounts differ, in order of entry. Streams.

        Raises `CorrectionError` where a fact needs metadata that the topic does not hold, and what `truths` raises.
        """
        wanted = self._wanted
        asked = {"provider": wanted.provider, "model": wanted.model}
        for truth in truths(self._client, "usage", wanted.hours, _WHERE, asked):
            if wanted.tenant and truth.attribution["tenant_id"] != wanted.tenant:
                continue
            self.summary.examined += 1
            row = self._priced_again(truth, run_id, reason)
            if row is not None:
                self.summary.add(truth, row)
                yield row

    def _priced_again(self, truth: Truth, run_id: str, reason: str) -> CorrectionRow | None:
        rate = self._rate(truth)
        if rate is None:
            self.summary.leave("not in the card")
            return None
        fact = truth.fact
        amounts = price_usage(fact, rate, self._attribution(truth), fact["evidence_grade"])
        money = {name: getattr(amounts, name) for name in AMOUNTS}
        terms = {
            **truth.terms,
            "currency": rate.currency,
            "rate_card_id": rate.card_id,
            "plan_id": fact["plan_id"],
            "price_status": amounts.price_status,
            "absorbed_to": amounts.absorbed_to,
        }
        same = money == truth.amounts and all(
            terms[name] == truth.terms[name] for name in ("currency", "price_status", "absorbed_to")
        )
        if same:
            return None
        if truth.by_hand and not self._wanted.over_manual:
            self.summary.leave("set by hand")
            return None
        return truth.replaced(run_id, self.summary.staged, "reprice", reason, amounts=money, terms=terms)

    def _rate(self, truth: Truth) -> Rate | None:
        fact = truth.fact
        models = fact["served_model"], fact["model"]
        started = fact["request_started_at"]
        return find_rate(self._prices, fact["provider"], models, fact["service_tier"], fact["workload_class"], started)

    def _attribution(self, truth: Truth) -> Attribution:
        fact = truth.fact
        try:
            view = self._log.view(fact["metadata_offset"])
        except NeedsMetadata as error:
            raise CorrectionError(
                f"request {fact['request_id']!r} attempt {fact['attempt']}: {error}, the topic ends at "
                f"{self._log.loaded_to}: name the metadata topic that its workers read"
            ) from error
        return view.attribution(fact["tenant_id"], fact["app_id"], fact["request_started_at"])


def published_cards(log: MetadataLog, card_id: str) -> list[RateCard]:
    """All dates of a published card. Raises `CorrectionError` where there is none of this id."""
    cards = log.view(log.loaded_to).cards
    found = [card for card in cards if card.card_id == card_id]
    if not found:
        known = ", ".join(sorted({card.card_id for card in cards})) or "none"
        raise CorrectionError(
            f"--rate-card must be a card file or the id of a published card ({known}), got {card_id!r}"
        )
    return found
