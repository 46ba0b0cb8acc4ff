"""One view of the metadata: pure, effective-dated lookups of keys, attribution, rates and policy prices.

Of the entries in force at an instant the one with the greatest `effective_from` holds (of equal ones the later record);
where it ends and an earlier one is still open, the earlier one holds again. A later record of the same id and
`effective_from` replaces the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from gatemeter.processors.metadata.allocations import Allocation
from gatemeter.processors.metadata.attributing import Who, attribute
from gatemeter.processors.metadata.cards import ANY_CLASS, ANY_REGION, RateCard, RateLine, edges, make_card
from gatemeter.processors.metadata.entries import (
    ANY_ROUTE,
    CHARGING,
    CORROBORATING,
    UNATTRIBUTED_PLAN,
    AttestationKey,
    Attribution,
    Authority,
    Dated,
    DatedPlan,
    Gateway,
    GatewayKey,
    LatencyThresholds,
    MetadataError,
    Parameters,
    Plan,
    PolicyPrice,
    PolicyPrices,
    Rate,
    RateTier,
    Tenant,
)
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, WORKLOAD, Identity, key_of
from gatemeter.sinks.terms.dated import Term

__all__ = (
    "UNATTRIBUTED_PLAN",
    "Allocation",
    "AttestationKey",
    "Attribution",
    "Authority",
    "DatedPlan",
    "Entry",
    "Gateway",
    "GatewayKey",
    "Identity",
    "LatencyThresholds",
    "MetadataError",
    "Parameters",
    "Plan",
    "PolicyPrice",
    "PolicyPrices",
    "Rate",
    "RateCard",
    "RateLine",
    "RateTier",
    "Tenant",
    "View",
    "Who",
    "build_view",
    "make_card",
)

Entry = Tenant | DatedPlan | PolicyPrices | RateCard | Gateway | Authority | Parameters | Identity | Allocation | Term
ANY_POLICY: Final = "*"
T = TypeVar("T", bound=Dated)


@dataclass(frozen=True, eq=False)
class View:
    """View N: what the metadata records below offset N say. Build it with `build_view`."""

    offset: int
    digest: bytes
    parameters: Parameters
    keys: Mapping[str, GatewayKey]
    boundaries: tuple[int, ...]
    """Sorted instants (µs) at which an entry starts or ends: each lookup is constant between two of them."""
    tenants: Mapping[str, tuple[Tenant, ...]] = field(repr=False)
    plans: Mapping[str, tuple[DatedPlan, ...]] = field(repr=False)
    cards: tuple[RateCard, ...] = field(repr=False)
    policy_prices: tuple[PolicyPrices, ...] = field(repr=False)
    gateways: Mapping[str, Gateway] = field(repr=False)
    authorities: Mapping[str, Mapping[str, tuple[Authority, ...]]] = field(repr=False)
    """By gateway and route."""
    identities: Mapping[str, tuple[Identity, ...]] = field(repr=False)
    allocations: Mapping[str, tuple[Allocation, ...]] = field(repr=False)

    def attribution_of(self, who: Who, at_us: int) -> Attribution:
        """Who pays at an instant, see `attributing`."""
        return attribute(self, who, at_us)

    def attribution(self, tenant_id: str, app_id: str, at_us: int) -> Attribution:
        """Who pays for an event that names nothing else."""
        return attribute(self, Who(tenant_id, app_id), at_us)

    def identity(self, kind: str, identity_id: str, at_us: int, tenant_id: str = "") -> Identity | None:
        """A registered app (of a tenant), workload or credential as it is at an instant."""
        if not self.identities:
            return None
        return _newest(self.identities.get(key_of(kind, identity_id, tenant_id), ()), at_us)

    @cached_property
    def workloads(self) -> frozenset[str]:
        """Ids of all workloads that are ever registered; '' is none."""
        return self._registered(WORKLOAD)

    @cached_property
    def credentials(self) -> frozenset[str]:
        """Fingerprints of all credentials that are ever registered."""
        return self._registered(CREDENTIAL)

    @cached_property
    def apps(self) -> frozenset[tuple[str, str]]:
        """(tenant, app) of all apps that are ever registered."""
        return frozenset((each[0].tenant_id, each[0].identity_id) for each in self._of_kind(APP))

    def _registered(self, kind: str) -> frozenset[str]:
        return frozenset(each[0].identity_id for each in self._of_kind(kind))

    def _of_kind(self, kind: str) -> Iterable[tuple[Identity, ...]]:
        return (entries for entries in self.identities.values() if entries[0].kind == kind)

    def tenant(self, tenant_id: str, at_us: int) -> Tenant | None:
        """A tenant as it is at an instant."""
        return _newest(self.tenants.get(tenant_id, ()), at_us)

    def plan(self, plan_id: str, at_us: int) -> Plan | None:
        """A charge plan as it is at an instant."""
        dated = _newest(self.plans.get(plan_id, ()), at_us)
        return None if dated is None else dated.plan

    def rate(
        self, provider: str, model: str, service_tier: str, workload_class: str, region: str, at_us: int
    ) -> Rate | None:
        """The price at an instant, from the newest card in force that knows the model in this tier; None is unpriced.

        In a card the exact region goes before any region, then the exact workload class before `any`. The service tier
        counts exactly: a misspelt one has no price.
        """
        regions = (region, ANY_REGION) if region != ANY_REGION and self.by_region else (ANY_REGION,)
        for card in self.cards:
            if card.in_force(at_us):
                for place in regions:
                    exact = (provider, model, service_tier, workload_class, place)
                    general = (provider, model, service_tier, ANY_CLASS, place)
                    rate = card.rate(exact, at_us) or card.rate(general, at_us)
                    if rate is not None:
                        return rate
        return None

    @cached_property
    def by_region(self) -> bool:
        """Whether any price hangs on the region."""
        return any(region != ANY_REGION for card in self.cards for *_, region in card.spans)

    @cached_property
    def places(self) -> Mapping[tuple[str, str], frozenset[tuple[str, str, str]]]:
        """By (provider, model) the service tiers, workload classes and regions in which any card ever has it."""
        found: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
        for card in self.cards:
            for provider, model, tier, workload, region in card.spans:
                found.setdefault((provider, model), set()).add((tier, workload, region))
        return {model: frozenset(places) for model, places in found.items()}

    @cached_property
    def context_bounds(self) -> tuple[int, ...]:
        """All `input_tokens_above` of any line beside 0, rising: between two of them the tier is the same."""
        spans = (span for card in self.cards for spans in card.spans.values() for span in spans)
        return tuple(sorted({tier.input_tokens_above for span in spans for tier in span.rate.tiers[1:]}))

    def policy_price(self, policy_id: str, at_us: int) -> PolicyPrice | None:
        """The price of a decision at an instant, from the newest list in force that has the policy or `*`."""
        for entry in self.policy_prices:
            if entry.in_force(at_us):
                price = entry.prices.get(policy_id) or entry.prices.get(ANY_POLICY)
                if price is not None:
                    return price
        return None

    @cached_property
    def corroborating(self) -> frozenset[str]:
        """The gateways all of whose events are evidence."""
        return frozenset(name for name, gateway in self.gateways.items() if gateway.role == CORROBORATING)

    @cached_property
    def makes_evidence(self) -> bool:
        """Whether any gateway's events may be evidence by what is registered."""
        return bool(self.corroborating or self.authorities)

    def authority(self, gateway_id: str, route: str, at_us: int) -> str:
        """The other gateway that makes the facts of this one's calls on a route; '' where it makes them itself.

        The route's own entry goes before the one of any route. A gateway that is not registered as charging makes no
        facts, so it is nobody's authority: a call must not fall between two meters.
        """
        routes = self.authorities.get(gateway_id, {})
        found = _newest(routes.get(route, ()), at_us) or _newest(routes.get(ANY_ROUTE, ()), at_us)
        if found is None or found.authority_id == gateway_id:
            return ""
        gateway = self.gateways.get(found.authority_id)
        return found.authority_id if gateway is not None and gateway.role == CHARGING else ""

    def currency(self, at_us: int) -> str:
        """Currency of the newest card in force, for facts that no line prices; '' where no card is in force."""
        return next((card.currency for card in self.cards if card.in_force(at_us)), "")


def _newest(entries: tuple[T, ...], at_us: int) -> T | None:
    return next((entry for entry in entries if entry.in_force(at_us)), None)


class _Latest(Generic[T]):
    """Entries of one kind; a later one of the same id and start replaces."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], T] = {}

    def put(self, entry_id: str, entry: T) -> None:
        key = (entry_id, entry.effective_from_us)
        self._entries.pop(key, None)  # so that the later record is also later in order
        self._entries[key] = entry

    def newest_first(self) -> tuple[T, ...]:
        latest_record_first = reversed(self._entries.values())
        return tuple(sorted(latest_record_first, key=lambda entry: -entry.effective_from_us))

    def by_id(self) -> Mapping[str, tuple[T, ...]]:
        grouped: dict[str, list[T]] = {}
        for (entry_id, _), entry in sorted(self._entries.items(), key=lambda item: -item[0][1]):
            grouped.setdefault(entry_id, []).append(entry)
        return MappingProxyType({entry_id: tuple(entries) for entry_id, entries in grouped.items()})

    def boundaries(self) -> Iterable[int]:
        for entry in self._entries.values():
            yield from entry.boundaries() if isinstance(entry, RateCard | Identity) else edges(entry)


def build_view(entries: Iterable[Entry], *, offset: int = 0, digest: bytes = b"") -> View:
    """The view of entries in the order of their records. Raises `MetadataError` where two gateways share a key id."""
    tenants, plans, prices, cards = (
        _Latest[Tenant](),
        _Latest[DatedPlan](),
        _Latest[PolicyPrices](),
        _Latest[RateCard](),
    )
    authorities: dict[str, _Latest[Authority]] = {}
    identities, allocations = _Latest[Identity](), _Latest[Allocation]()
    parameters = Parameters()
    gateways: dict[str, Gateway] = {}
    for entry in entries:
        if isinstance(entry, Tenant):
            tenants.put(entry.tenant_id, entry)
        elif isinstance(entry, DatedPlan):
            plans.put(entry.plan.plan_id, entry)
        elif isinstance(entry, PolicyPrices):
            prices.put(entry.prices_id, entry)
        elif isinstance(entry, RateCard):
            cards.put(entry.card_id, entry)
        elif isinstance(entry, Gateway):
            gateways[entry.gateway_id] = entry
        elif isinstance(entry, Authority):
            authorities.setdefault(entry.gateway_id, _Latest[Authority]()).put(entry.route, entry)
        elif isinstance(entry, Identity):
            identities.put(key_of(entry.kind, entry.identity_id, entry.tenant_id), entry)
        elif isinstance(entry, Allocation):
            allocations.put(entry.allocation_id, entry)
        elif isinstance(entry, Parameters):
            parameters = entry  # what is left are terms of statements, which no lookup of the fold asks for
    kinds = (
        tenants.boundaries(),
        plans.boundaries(),
        prices.boundaries(),
        cards.boundaries(),
        identities.boundaries(),
        *(by_route.boundaries() for by_route in authorities.values()),
    )
    return View(
        offset=offset,
        digest=digest,
        parameters=parameters,
        keys=keys_of(gateways),
        boundaries=tuple(sorted({instant for kind in kinds for instant in kind})),
        tenants=tenants.by_id(),
        plans=plans.by_id(),
        cards=cards.newest_first(),
        policy_prices=prices.newest_first(),
        gateways=MappingProxyType(gateways),
        authorities=MappingProxyType({name: by_route.by_id() for name, by_route in authorities.items()}),
        identities=identities.by_id(),
        allocations=allocations.by_id(),
    )


def keys_of(gateways: Mapping[str, Gateway]) -> Mapping[str, GatewayKey]:
    """All keys by key id. Raises `MetadataError` where two gateways share one."""
    keys: dict[str, GatewayKey] = {}
    for gateway in gateways.values():
        for kid, key in gateway.keys.items():
            if kid in keys:
                raise MetadataError(f"key id {kid!r} belongs to gateway {keys[kid].gateway_id!r} already")
            keys[kid] = key
    return MappingProxyType(keys)
