"""Prices what is true again with a rate card, by the same code as the fold, and keeps what it changes.

The card comes first: a row that it has no price for (another model, or outside of its dates) stays as it is. The charge
plan is the one that applied: that of the view in force at the fact's record. Rows whose amounts were set by hand stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.pricing import Pricer
from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths
from gatemeter.processors.metadata.cards import RateCard
from gatemeter.processors.metadata.log import MetadataLog

# The model that a price goes by: the served one, else the one asked for.
_WHERE: Final = """has_response
    AND ({provider:String} = '' OR provider = {provider:String})
    AND ({model:String} = '' OR if(served_model = '', model, served_model) = {model:String})"""
NOT_IN_THE_CARD: Final = "not in the card"
SET_BY_HAND: Final = "set by hand"
"""Why rows that are asked for stay as they are."""


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
        self._pricer = Pricer(log, cards)
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
        priced = self._pricer.usage(truth)
        if priced is None:
            self.summary.leave(NOT_IN_THE_CARD)
            return None
        if priced.same_as(truth):
            return None
        if truth.by_hand and not self._wanted.over_manual:
            self.summary.leave(SET_BY_HAND)
            return None
        amounts, terms = priced.amounts, priced.terms
        return truth.replaced(run_id, self.summary.staged, "reprice", reason, amounts=amounts, terms=terms)


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
