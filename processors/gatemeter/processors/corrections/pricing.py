"""What is true priced again, by the same code as the fold: with other rate cards, with other charge plans, or both.

Where no other cards are given the price that applied stays: that of the view in force at the fact's record, or the
costs of the correction in force. Where no other plans are given the plan of that view stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from gatemeter.processors.corrections.rows import AMOUNTS, CorrectionError
from gatemeter.processors.corrections.truths import Truth, amounts_of
from gatemeter.processors.fold.facts import find_rate
from gatemeter.processors.metadata.attributing import who_of
from gatemeter.processors.metadata.log import MetadataLog, NeedsMetadata
from gatemeter.processors.metadata.views import Attribution, Plan, PolicyPrice, Rate, RateCard, View, build_view
from gatemeter.processors.metadata.views import Entry as ViewEntry
from gatemeter.processors.pricing.components import (
    DECISION_QUANTITIES,
    Amounts,
    price_decision,
    price_hit,
    price_lines,
    price_usage,
    unknown,
)

_KEPT: Final = frozenset({"free", "no_usage", "unpriced"})
"""Price statuses that another plan does not change."""


@dataclass(frozen=True, slots=True)
class Priced:
    """Amounts by `AMOUNTS`, the terms of `Truth.terms`, and the retry rule that goes with them."""

    amounts: dict[str, int | None]
    terms: dict[str, str]
    retry_rule: str

    def same_as(self, truth: Truth) -> bool:
        """Whether a correction would change nothing, before the retry rule."""
        named = ("currency", "price_status", "absorbed_to")
        return self.amounts == truth.amounts and all(self.terms[name] == truth.terms[name] for name in named)


class Plans:
    """Charge plans that take the place of those that applied: the plan that a tenant has in them, else the plan that
    applied as they say it, else the plan that applied."""

    def __init__(self, entries: Iterable[ViewEntry]) -> None:
        self._given = build_view(entries)

    def of(self, truth: Truth, applied: Attribution, published: View) -> Plan:
        """The plan of one attempt or decision."""
        at_us = truth.fact["request_started_at"]
        tenant = self._given.tenant(truth.attribution["tenant_id"], at_us)
        if tenant is not None:
            plan = self._given.plan(tenant.plan_id, at_us) or published.plan(tenant.plan_id, at_us)
        else:
            plan = self._given.plan(truth.terms["plan_id"], at_us)
        return plan or applied.plan


class Pricer:
    """Prices true rows again. `cards`: None keeps the prices that applied; so `plans`."""

    def __init__(self, log: MetadataLog, cards: Sequence[RateCard] | None, plans: Plans | None = None) -> None:
        self._log = log
        self._cards = None if cards is None else build_view(cards)
        self._plans = plans

    def usage(self, truth: Truth) -> Priced | None:
        """An attempt; None where the cards have no rate for it.

        Raises `CorrectionError` where it needs metadata that the topic does not hold.
        """
        fact, applied = {**truth.fact, **truth.quantities}, self._applied(truth)
        attribution = self._attribution(truth, applied)
        if self._cards is not None:
            rate = self._rate(self._cards, truth)
            if rate is None:
                return None
            amounts = price_usage(fact, rate, attribution, fact["evidence_grade"])
            return self._priced(truth, amounts, attribution, rate)
        if truth.terms["price_status"] in _KEPT and not (truth.is_hit and self._plans):
            return kept(truth)
        if truth.amounts == amounts_of(truth.key.target, truth.fact):
            amounts = price_usage(fact, self._rate(applied, truth), attribution, fact["evidence_grade"])
        else:
            amounts = _corrected(truth, attribution)
        return self._priced(truth, amounts, attribution, None)

    def decision(self, truth: Truth) -> Priced:
        """A policy decision: its cost stays, cards hold none. Raises as `usage`."""
        if self._plans is None or truth.terms["price_status"] in _KEPT:
            return kept(truth)
        attribution = self._attribution(truth, self._applied(truth))
        cost = PolicyPrice(truth.terms["rate_card_id"], truth.terms["currency"], truth.amounts["policy_cost"] or 0, 0)
        event = {"evaluator_request_id": "", **dict.fromkeys(DECISION_QUANTITIES)}
        amounts = price_decision(event, cost, attribution, truth.fact["evidence_grade"])
        return self._priced(truth, amounts, attribution, None)

    def _priced(self, truth: Truth, amounts: Amounts, attribution: Attribution, rate: Rate | None) -> Priced:
        said = asdict(amounts)
        money = {name: said[name] for name in AMOUNTS}
        if truth.key.target == "decision":
            money |= {name: truth.amounts[name] for name in ("list_cost", "provider_cost", "token_cost", "model_cost")}
        terms = {**truth.terms, "price_status": amounts.price_status, "absorbed_to": amounts.absorbed_to}
        if rate is not None:
            terms |= {"currency": rate.currency, "rate_card_id": rate.card_id}
        if self._plans is None:
            return Priced(money, terms, retry_rule_of(truth))
        return Priced(money, {**terms, "plan_id": attribution.plan.plan_id}, attribution.plan.retry_rule)

    def _rate(self, prices: View, truth: Truth) -> Rate | None:
        fact = truth.fact
        models = fact["served_model"], fact["model"]
        started = fact["request_started_at"]
        place = fact["service_tier"], fact["workload_class"], fact["region"]
        return find_rate(prices, fact["provider"], models, *place, started)

    def _applied(self, truth: Truth) -> View:
        fact = truth.fact
        try:
            return self._log.view(fact["metadata_offset"])
        except NeedsMetadata as error:
            raise CorrectionError(
                f"request {fact['request_id']!r} attempt {fact['attempt']}: {error}, the topic ends at "
                f"{self._log.loaded_to}: name the metadata topic that its workers read"
            ) from error

    def _attribution(self, truth: Truth, view: View) -> Attribution:
        fact = truth.fact
        applied = view.attribution_of(who_of(fact), fact["request_started_at"])
        if applied.attribution != "attributed" and truth.is_attributed:
            applied = replace(applied, attribution="attributed", plan=self._later_plan(truth))
        if self._plans is None or applied.attribution != "attributed":
            return applied
        return replace(applied, plan=self._plans.of(truth, applied, view))

    def _later_plan(self, truth: Truth) -> Plan:
        """The plan that a correction gave to what nobody bore, as published now."""
        plan_id, at_us = truth.terms["plan_id"], truth.fact["request_started_at"]
        plan = self._log.view(self._log.loaded_to).plan(plan_id, at_us)
        if plan is None:
            what = f"request {truth.fact['request_id']!r} attempt {truth.fact['attempt']}"
            raise CorrectionError(f"{what}: its plan must be published for the time of the request, got {plan_id!r}")
        return plan


def attributed(truth: Truth, attribution: Attribution) -> Priced:
    """What nobody bore, under the plan of who bears it now: costs stay, the mark-up and what is absorbed change."""
    plan = attribution.plan
    terms = {**truth.terms, "plan_id": plan.plan_id}
    if truth.key.target == "usage":
        terms["retry_rule"] = plan.retry_rule
    if truth.terms["price_status"] in _KEPT and not truth.is_hit:
        return Priced(truth.amounts, terms, plan.retry_rule)
    if truth.key.target == "usage":
        amounts = _corrected(truth, attribution)
        money = {name: getattr(amounts, name) for name in AMOUNTS}
    else:
        cost = truth.amounts["policy_cost"] or 0
        amounts = price_lines("policy_evaluation", (cost, 0), cost, attribution, truth.fact["evidence_grade"])
        money = truth.amounts | {name: getattr(amounts, name) for name in ("markup", "absorbed", "charge")}
    return Priced(
        money, {**terms, "price_status": amounts.price_status, "absorbed_to": amounts.absorbed_to}, plan.retry_rule
    )


def _corrected(truth: Truth, attribution: Attribution) -> Amounts:
    """Amounts under another plan of what a correction says it cost, or that it avoided (all of it in one line)."""
    costs, grade = truth.amounts, truth.fact["evidence_grade"]
    if truth.is_hit:
        cost = costs["avoided_provider_cost"]
        bought = unknown("unpriced") if cost is None else price_lines("workload", (cost, 0), 0, attribution, grade)
        return price_hit(bought, attribution, grade)
    lines = (costs["token_cost"] or 0) + (costs["policy_cost"] or 0), costs["model_cost"] or 0
    return price_lines(truth.fact["purpose"], lines, costs["list_cost"] or 0, attribution, grade)


def retry_rule_of(truth: Truth) -> str:
    """The retry rule that applies; decisions have none."""
    return truth.terms["retry_rule"] or (str(truth.fact["retry_rule"]) if truth.key.target == "usage" else "")


def kept(truth: Truth) -> Priced:
    """What counts now."""
    return Priced(truth.amounts, truth.terms, retry_rule_of(truth))
