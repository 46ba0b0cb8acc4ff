"""A whole statement: read once, and every form of it is made of what is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from gatemeter.sinks.reports.allocating import Kept, Party, Share
from gatemeter.sinks.reports.allocation import AllocatedLine, allocation
from gatemeter.sinks.reports.cents import apportion
from gatemeter.sinks.reports.statement import StatementLine
from gatemeter.sinks.statements import beside
from gatemeter.sinks.statements.lines import BilledLine, billed_lines, billed_sql, in_one_currency, summed
from gatemeter.sinks.statements.period import PeriodState, period_state
from gatemeter.sinks.statements.requests import Requests, TopRequest, requests_of
from gatemeter.sinks.terms.months import Month


@dataclass(frozen=True, slots=True)
class Part:
    """A sum of a section by some dimension. `cents`: its share of the section's total; they add up to it."""

    names: tuple[str, ...]
    requests: int | None
    attempts: int
    decisions: int
    tokens: int
    unpriced: int
    pico: int
    cents: int


@dataclass(frozen=True, slots=True)
class Section:
    """All that is billed in one currency; '' where nothing had a price."""

    currency: str
    lines: Sequence[BilledLine]
    total: StatementLine
    requests: Requests

    @property
    def cents(self) -> Mapping[str, int]:
        """Components and `total` in the currency's smallest unit."""
        return self.total.cents()

    def by(self, key: Callable[[BilledLine], tuple[str, ...]], *, requests: str = "") -> list[Part]:
        """Sums by a key, the dearest first; `requests`: `app` or `workload` counts them too."""
        groups: dict[tuple[str, ...], list[BilledLine]] = {}
        for line in self.lines:
            groups.setdefault(key(line), []).append(line)
        pico = {names: sum(line.total for line in lines) for names, lines in groups.items()}
        cents = apportion({"\x1f".join(names): amount for names, amount in pico.items()}, self.currency)
        parts = [
            self._part(names, lines, pico[names], cents["\x1f".join(names)], requests)
            for names, lines in groups.items()
        ]
        return sorted(parts, key=lambda part: (-part.pico, part.names))

    def _part(self, names: tuple[str, ...], lines: Sequence[BilledLine], pico: int, cents: int, requests: str) -> Part:
        def count(name: str) -> int:
            return sum(line.counts[name] for line in lines)

        asked = {"app": names[:1], "workload": names[:2]}.get(requests)
        return Part(
            names=names,
            requests=None if asked is None else self.requests.of(self.currency, *asked),
            attempts=count("attempts"),
            decisions=count("decisions"),
            tokens=count("input_tokens") + count("output_tokens"),
            unpriced=count("unpriced_tokens"),
            pico=pico,
            cents=cents,
        )

    @property
    def top(self) -> Sequence[TopRequest]:
        """The dearest requests."""
        return self.requests.top.get(self.currency, ())


@dataclass(frozen=True, slots=True)
class Allocation:
    """What rules share, as `gatemeter report --allocated` says it: on usage as it stands, in no amount of the bill."""

    lines: Sequence[AllocatedLine]
    shares: Sequence[Share]
    kept: Sequence[Kept]


@dataclass(frozen=True, slots=True)
class Statement:
    """All of a tenant's month."""

    tenant: beside.Tenant
    state: PeriodState
    made_us: int
    sections: Sequence[Section]
    adjustments: Sequence[beside.Adjustment]
    prices: Sequence[beside.PriceSource]
    exceptions: Sequence[Mapping[str, Any]]
    reconciliation: Sequence[Mapping[str, Any]]
    disputes: Sequence[Mapping[str, Any]]
    allocation: Allocation | None

    @property
    def month(self) -> Month:
        """The month that it is of."""
        return self.state.month

    @property
    def statement_id(self) -> str:
        """Tenant and month, as `--statement` of `gatemeter dispute` takes it."""
        return f"{self.tenant.tenant_id}/{self.month.period}"


def read_statement(client: Client, tenant: str, month: Month, now_us: int) -> Statement:
    """Reads it. Raises `SinkUnavailable`, `SinkRefused`."""
    state = period_state(client, month)
    billed = billed_sql(client, tenant, state)
    lines = billed_lines(client, tenant, month, billed)
    only = in_one_currency(lines)
    requests = requests_of(client, tenant, month, billed, only)
    return Statement(
        tenant=beside.tenant_of(client, tenant, month),
        state=state,
        made_us=now_us,
        sections=_sections(tenant, month, lines, only, requests),
        adjustments=beside.adjustments(client, tenant, month),
        prices=beside.price_sources(client, lines, month),
        exceptions=beside.exceptions(client, tenant, month),
        reconciliation=beside.reconciliation(client, lines, month),
        disputes=beside.disputes(client, tenant, month),
        allocation=_allocation(client, tenant, month),
    )


def _sections(tenant: str, month: Month, lines: Sequence[BilledLine], only: str, requests: Requests) -> list[Section]:
    by_currency: dict[str, list[BilledLine]] = {}
    for line in lines:
        by_currency.setdefault(line.currency or only, []).append(line)
    return [
        Section(
            currency,
            chosen,
            summed(chosen, tenant=tenant, month=month, currency=currency, requests=requests.of(currency)),
            requests,
        )
        for currency, chosen in sorted(by_currency.items(), key=lambda each: (not each[0], each[0]))
    ]


def _allocation(client: Client, tenant: str, month: Month) -> Allocation | None:
    """None where no rule is in force in the month."""
    if not beside.shares_costs(client, month):
        return None
    party = Party("tenant", tenant)
    lines, allocated = allocation(client, month=month.period)
    return Allocation(
        [line for line in lines if line.party == party],
        [share for share in allocated.shares if tenant == share.owner or party == share.receiver],
        [each for each in allocated.kept if each.owner == tenant],
    )
