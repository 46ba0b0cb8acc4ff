"""What a month's usage would have cost with another rate card or charge plan, beside what it costs now.

Attempts and decisions count as they are now, corrections included, after the retry rule: of a request under
`final_only` the answering attempt alone is charged. Nothing is written. Amounts are ints of 10⁻¹² currency units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.pricing import Priced, Pricer, kept
from gatemeter.processors.corrections.reprice import NOT_IN_THE_CARD, SET_BY_HAND
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths

SHOWN: Final = ("charge", "provider_cost", "list_cost", "absorbed")


@dataclass
class Side:
    """Totals of one side, now or then. `unpriced`: attempts and decisions that are in none of the amounts."""

    amounts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHOWN, 0))
    unpriced: int = 0

    def add(self, priced: Priced, absorbs: bool) -> None:
        """One more attempt or decision. `absorbs`: the retry rule charges another attempt of its request."""
        said = {name: priced.amounts[name] or 0 for name in SHOWN}
        if absorbs:
            said["absorbed"] += said["charge"]
            said["charge"] = 0
        for name, pico in said.items():
            self.amounts[name] += pico
        self.unpriced += priced.terms["price_status"] == "unpriced"


@dataclass
class PreviewLine:
    """One tenant and currency. What changes its currency leaves one line's `now` and enters another's `then`."""

    tenant_id: str
    currency: str
    attempts: int = 0
    decisions: int = 0
    newly_priced: int = 0
    newly_unpriced: int = 0
    now: Side = field(default_factory=Side)
    then: Side = field(default_factory=Side)

    def difference(self, name: str) -> int:
        """By what an amount of `SHOWN` changes."""
        return self.then.amounts[name] - self.now.amounts[name]


class Preview:
    """One preview; `lines` and `left` fill in `run`. `left`: attempts that stay as they are, by why."""

    def __init__(self, client: Client, pricer: Pricer, hours: UsageHours) -> None:
        self._client, self._pricer, self._hours = client, pricer, hours
        self._lines: dict[tuple[str, str], PreviewLine] = {}
        self.left: dict[str, int] = {}

    def run(self) -> None:
        """Prices the hours again; memory grows with tenants alone.

        Raises `CorrectionError` where a fact needs metadata that the topic does not hold, and what `truths` raises.
        """
        for request in _requests(truths(self._client, "usage", self._hours)):
            answering = answering_attempt(request)
            for truth in request:
                self._add(truth, self._usage(truth), truth.key.attempt == answering)
        for truth in truths(self._client, "decision", self._hours):
            self._add(
                truth, self._pricer.decision(truth) if not truth.by_hand else self._left(truth, SET_BY_HAND), True
            )

    def _usage(self, truth: Truth) -> Priced:
        if not truth.fact["has_response"]:
            return kept(truth)
        priced = self._pricer.usage(truth)
        if priced is None:
            return self._left(truth, NOT_IN_THE_CARD)
        if truth.by_hand and not priced.same_as(truth):
            return self._left(truth, SET_BY_HAND)
        return priced

    def _left(self, truth: Truth, why: str) -> Priced:
        self.left[why] = self.left.get(why, 0) + 1
        return kept(truth)

    def _add(self, truth: Truth, then: Priced, answers: bool) -> None:
        now = kept(truth)
        tenant = truth.attribution["tenant_id"]
        before, after = (self._line(tenant, priced.terms["currency"]) for priced in (now, then))
        after.attempts += truth.key.target == "usage"
        after.decisions += truth.key.target == "decision"
        before.now.add(now, now.retry_rule == "final_only" and not answers)
        after.then.add(then, then.retry_rule == "final_only" and not answers)
        was, is_ = (priced.terms["price_status"] == "unpriced" for priced in (now, then))
        after.newly_priced += was and not is_
        after.newly_unpriced += is_ and not was

    def _line(self, tenant_id: str, currency: str) -> PreviewLine:
        return self._lines.setdefault((tenant_id, currency), PreviewLine(tenant_id, currency))

    @property
    def lines(self) -> list[PreviewLine]:
        """By tenant and currency."""
        return [line for _, line in sorted(self._lines.items())]

    @property
    def totals(self) -> list[PreviewLine]:
        """All tenants together, by currency; no amount is added across currencies."""
        totals: dict[str, PreviewLine] = {}
        for line in self.lines:
            total = totals.setdefault(line.currency, PreviewLine("", line.currency))
            for name in ("attempts", "decisions", "newly_priced", "newly_unpriced"):
                setattr(total, name, getattr(total, name) + getattr(line, name))
            for to, side in ((total.now, line.now), (total.then, line.then)):
                to.unpriced += side.unpriced
                for name, pico in side.amounts.items():
                    to.amounts[name] += pico
        return list(totals.values())


def _requests(found: Iterator[Truth]) -> Iterator[list[Truth]]:
    """The attempts of each request together: they come in this order."""
    for _, request in groupby(found, key=lambda truth: (truth.key.gateway_id, truth.key.request_id)):
        yield list(request)


def answering_attempt(request: Sequence[Truth]) -> int:
    """The attempt that answered the caller: the last delivered one, else the last that ended well; 0: none."""
    delivered = [truth.key.attempt for truth in request if truth.fact["delivered"]]
    good = [truth.key.attempt for truth in request if truth.fact["status"] == "ok"]
    return max(delivered or good, default=0)
