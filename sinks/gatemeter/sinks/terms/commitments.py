"""Committed use and provisioned throughput: what is paid whether it is used or not, against what was used of it.

A fee of 7,300 a month that is in force for 365 of 730 hours is 3,650; used 3,000 leaves 650 unused, used 4,000 is an
overage of 350. Always: used + unused − overage = fee, and used + unused is what the provider invoices. What is unused
belongs to the platform (`unallocated`), never to tenants.

A use draws on one commitment: of those in force in its hour that cover it the one that names more of region, service
tier and models, then the one whose id is first. So no use counts twice, whatever overlaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gatemeter.sinks.terms.dated import (
    Term,
    TermError,
    check_amount,
    check_choice,
    check_currency,
    check_text,
    dates_of,
    half_even,
    newest,
)
from gatemeter.sinks.terms.months import HOUR_US, Month

PER: Final = ("hour", "month")
POSTED_TO: Final = "unallocated"
"""Where the unused part posts: the platform's own account."""


@dataclass(frozen=True, slots=True)
class Commitment(Term):
    """`amount_pico` is paid `per` hour or month. `models` empty, `service_tier` None, `region` None: any.

    `settled` month: what one hour lacks another hour of the month makes up; hour: an hour that is not used is lost.
    """

    commitment_id: str
    provider: str
    models: frozenset[str]
    service_tier: str | None
    region: str | None
    amount_pico: int
    per: str
    settled: str
    currency: str
    source: str

    @property
    def rank(self) -> tuple[int, str]:
        """What names more is drawn on first; ties by id."""
        named = (self.region is not None) + (self.service_tier is not None) + bool(self.models)
        return -named, self.commitment_id

    def covers(self, use: Use) -> bool:
        """Whether a use is of the kind that it covers, currency and time apart."""
        return (
            use.provider == self.provider
            and (not self.models or use.served_model in self.models or use.model in self.models)
            and self.service_tier in (None, use.service_tier)
            and self.region in (None, use.region)
        )

    def hourly_pico(self, month: Month) -> Fraction:
        """What one hour of a month costs, exactly."""
        return Fraction(self.amount_pico, 1 if self.per == "hour" else month.hours)


@dataclass(frozen=True, slots=True)
class Use:
    """Attempts of one hour that agree in all that a commitment asks for, policy decisions that a provider bills among
    them. `cost_pico`: their provider cost."""

    hour_us: int
    provider: str
    model: str
    served_model: str
    service_tier: str
    region: str
    currency: str
    cost_pico: int
    attempts: int
    unpriced_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """One commitment and currency in one month. Amounts in 10⁻¹² units; used + unused − overage = fee.

    `hours`: in force, whole. `until_us`: up to where fee and use count; the month's end, or of a running month the end
    of the hour that runs. `unpriced_attempts` and `other_currency_attempts` are of its kind and in no amount.
    """

    commitment_id: str
    month: Month
    until_us: int
    provider: str
    currency: str
    hours: int
    fee_pico: int
    used_pico: int
    unused_pico: int
    attempts: int
    unpriced_attempts: int
    other_currency_attempts: int
    source: str

    @property
    def overage_pico(self) -> int:
        """What was used beyond the fee."""
        return self.used_pico + self.unused_pico - self.fee_pico

    @property
    def invoice_pico(self) -> int:
        """What the provider asks for: what was used and what was not."""
        return self.used_pico + self.unused_pico

    @property
    def running(self) -> bool:
        """Whether the month is not over: the figures are those so far."""
        return self.until_us < self.month.end_us

    @property
    def utilisation_percent(self) -> Decimal | None:
        """The part of the fee that was used, at most 100, half-even to two decimals; None where nothing is paid."""
        if not self.fee_pico:
            return None
        return Decimal(half_even(Fraction(10_000 * (self.fee_pico - self.unused_pico), self.fee_pico))).scaleb(-2)


def commitment_of(datum: Mapping[str, Any]) -> Commitment:
    """The commitment of a decoded record. Raises `TermError`, naming the field and the range."""
    tier, region = datum["service_tier"], datum["region"]
    commitment = Commitment(
        check_text("commitment_id", datum["commitment_id"]),
        check_text("provider", datum["provider"]),
        frozenset(check_text("models", model) for model in datum["models"]),
        check_text("service_tier", tier) if tier else tier,
        None if region is None else check_text("region", region),
        check_amount("amount", datum["amount"]),
        check_choice("per", datum["per"], PER),
        check_choice("settled", datum["settled"], PER),
        check_currency("currency", datum["currency"]),
        check_text("source", datum["source"]),
        **dates_of(datum),
    )
    for name in ("effective_from", "effective_to"):
        if datum[name] is not None and datum[name] % HOUR_US:
            raise TermError(f"{name} must be a whole hour: a commitment is counted in hours, got {datum[name]}")
    return commitment


def settle(commitments: Sequence[Commitment], month: Month, until_us: int, uses: Iterable[Use]) -> list[Settlement]:
    """A month's settlements by commitment and currency, those without any use too.

    Fees grow by whole hours, and their running sum is rounded half-even to 10⁻¹² once an hour, so that the fee of a
    month is its exact fee, rounded once. `until_us`: a whole hour in the month.
    """
    accounts: dict[tuple[str, str], _Account] = {}
    in_force = {hour_us: _in_force(commitments, hour_us) for hour_us in range(month.start_us, until_us, HOUR_US)}
    for hour_us, versions in in_force.items():
        for commitment in versions:
            key = (commitment.commitment_id, commitment.currency)
            accounts.setdefault(key, _Account()).pay(hour_us, commitment, commitment.hourly_pico(month))
    for use in uses:
        _draw(accounts, [each for each in in_force.get(use.hour_us, ()) if each.covers(use)], use)
    return [account.settlement(month, until_us) for _, account in sorted(accounts.items())]


def covered_providers(commitments: Iterable[Commitment]) -> list[str]:
    """The providers that any of them is of."""
    return sorted({commitment.provider for commitment in commitments})


def _in_force(commitments: Sequence[Commitment], hour_us: int) -> list[Commitment]:
    """One version of each id, the first to be drawn on first."""
    ids = {commitment.commitment_id for commitment in commitments}
    versions = (newest((c for c in commitments if c.commitment_id == each), hour_us) for each in ids)
    return sorted((version for version in versions if version is not None), key=lambda version: version.rank)


def _draw(accounts: Mapping[tuple[str, str], _Account], covering: Sequence[Commitment], use: Use) -> None:
    for commitment in covering:
        account = accounts[commitment.commitment_id, commitment.currency]
        if use.currency in (commitment.currency, ""):  # what has no price has no currency
            account.draw(use)
            return
    if covering:
        first = covering[0]
        accounts[first.commitment_id, first.currency].other_currency_attempts += use.attempts


class _Account:
    """Fees and use of one commitment and currency, hour by hour."""

    def __init__(self) -> None:
        self._exact = Fraction(0)
        self._fees: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._paid = 0
        self._last: Commitment | None = None
        self.attempts = self.unpriced_attempts = self.other_currency_attempts = 0

    def pay(self, hour_us: int, commitment: Commitment, hourly_pico: Fraction) -> None:
        """An hour in which it is in force; hours come in order."""
        self._exact += hourly_pico
        self._fees[hour_us] = half_even(self._exact) - self._paid
        self._paid += self._fees[hour_us]
        self._last = commitment

    def draw(self, use: Use) -> None:
        """A use that is covered."""
        self._used[use.hour_us] = self._used.get(use.hour_us, 0) + use.cost_pico
        self.attempts += use.attempts
        self.unpriced_attempts += use.unpriced_attempts

    def settlement(self, month: Month, until_us: int) -> Settlement:
        assert self._last is not None
        used = sum(self._used.values())
        return Settlement(
            self._last.commitment_id,
            month,
            until_us,
            self._last.provider,
            self._last.currency,
            len(self._fees),
            self._paid,
            used,
            sum(max(fee - drawn, 0) for fee, drawn in self._settled(used)),
            self.attempts,
            self.unpriced_attempts,
            self.other_currency_attempts,
            self._last.source,
        )

    def _settled(self, used: int) -> Iterator[tuple[int, int]]:
        """(fee, used) of each time span in which use and fee meet; what holds last says which spans."""
        if self._last is None or self._last.settled == "month":
            yield self._paid, used
        else:
            yield from ((fee, self._used.get(hour_us, 0)) for hour_us, fee in self._fees.items())
