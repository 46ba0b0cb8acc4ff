"""What shared usage costs, shared among its receivers: pure rules over sums of charge lines, exact to 10⁻¹² and cents.

Each sum of usage is shared by at most one rule: the one that says most about it (tenant, app, provider, model), then
the one with the smaller id. What a receiver got is not shared again. Weights are what the receivers used themselves in
the span in which the rule holds; usage that the rule shares does not weigh where the rule names its owner. Where nobody
has a weight it stays with its owner. Shares are rounded by largest remainder, ties to the smaller key: they add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from gatemeter.sinks.reports.cents import apportion
from gatemeter.sinks.reports.dividing import divide

FIXED: Final = "fixed"


class Party(NamedTuple):
    """Who bears: `kind` is tenant or cost_centre."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A version of an allocation, in force in [from_us, to_us). '' is any. `shares`: millionths of method fixed."""

    allocation_id: str
    from_us: int
    to_us: int | None
    tenant_id: str
    app_id: str
    provider: str
    model: str
    method: str
    receivers: tuple[Party, ...]
    shares_ppm: tuple[int, ...] = ()

    @property
    def said(self) -> tuple[str, str, str, str]:
        """What is shared."""
        return (self.tenant_id, self.app_id, self.provider, self.model)


class Used(NamedTuple):
    """A sum of charge lines. `span`: number of the span between two changes of rules; `charge`: 10⁻¹² units."""

    month: date
    span: int
    tenant_id: str
    cost_centre: str
    app_id: str
    provider: str
    model: str
    currency: str
    charge: int
    tokens: int
    requests: int
    unpriced_tokens: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one receiver bears of what a rule shares of one owner in a month. Weights are those of method."""

    month: date
    allocation_id: str
    method: str
    owner: str
    receiver: Party
    currency: str
    pico: int
    cents: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a rule would share, and stays with its owner, because no receiver has a weight."""

    month: date
    allocation_id: str
    method: str
    owner: str
    currency: str
    pico: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """All shares of some months. `unpriced_tokens`: of shared usage by (month, allocation), in no share."""

    shares: tuple[Share, ...]
    kept: tuple[Kept, ...]
    unpriced_tokens: Mapping[tuple[date, str], int]


def bounds_of(rules: Iterable[Rule]) -> list[int]:
    """Instants (µs) at which any rule starts or ends; span n is what lies before the n-th of them."""
    ends = {rule.to_us for rule in rules if rule.to_us is not None}
    return sorted({rule.from_us for rule in rules} | ends)


def in_force(rules: Iterable[Rule], at_us: int) -> list[Rule]:
    """Of each allocation the version that holds at an instant: of those in force the one that started last."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.from_us <= at_us and (rule.to_us is None or at_us < rule.to_us):
            other = found.get(rule.allocation_id)
            if other is None or other.from_us < rule.from_us:
                found[rule.allocation_id] = rule
    return [found[name] for name in sorted(found)]


def allocate(used: Sequence[Used], rules: Sequence[Rule]) -> Allocated:
    """All shares, by month, allocation, owner, currency and receiver."""
    bounds = bounds_of(rules)
    shares: dict[tuple[date, Rule, str, str], dict[Party, int]] = {}
    kept: dict[tuple[date, Rule, str, str], int] = defaultdict(int)
    unpriced: dict[tuple[date, str], int] = defaultdict(int)
    for (month, span), group in _grouped(used).items():
        now = in_force(rules, bounds[span - 1]) if span else []
        for rule, shared in _by_rule(group, now).items():
            weights = _weights(rule, group, shared)
            for (owner, currency), whole in _wholes(shared).items():
                key = (month, rule, owner, currency)
                if sum(weights.values()):
                    _add(shares.setdefault(key, {}), divide(whole, weights))
                else:
                    kept[key] += whole
            unpriced[month, rule.allocation_id] += sum(each.unpriced_tokens for each in shared)
    return Allocated(tuple(_shares(shares)), tuple(_kept(kept)), dict(unpriced))


def _grouped(used: Iterable[Used]) -> dict[tuple[date, int], list[Used]]:
    groups: dict[tuple[date, int], list[Used]] = defaultdict(list)
    for each in used:
        groups[each.month, each.span].append(each)
    return groups


def _matches(rule: Rule, each: Used) -> bool:
    has = (each.tenant_id, each.app_id, each.provider, each.model)
    return all(said in ("", value) for said, value in zip(rule.said, has, strict=True))


def _by_rule(group: Iterable[Used], rules: Sequence[Rule]) -> dict[Rule, list[Used]]:
    by_weight = sorted(rules, key=lambda rule: (-sum(map(bool, rule.said)), [not said for said in rule.said]))
    found: dict[Rule, list[Used]] = defaultdict(list)
    for each in group:
        rule = next((rule for rule in by_weight if _matches(rule, each)), None)
        if rule is not None:
            found[rule].append(each)
    return found


def _weights(rule: Rule, group: Iterable[Used], shared: Sequence[Used]) -> dict[Party, int]:
    if rule.method == FIXED:
        return dict(zip(rule.receivers, rule.shares_ppm, strict=True))
    weights = dict.fromkeys(rule.receivers, 0)
    apart = set(shared) if rule.tenant_id else set()
    for each in group:
        for party in (Party("tenant", each.tenant_id), Party("cost_centre", each.cost_centre)):
            if party in weights and each not in apart:
                weights[party] += each.tokens if rule.method == "by_tokens" else each.requests
    return weights


def _wholes(shared: Iterable[Used]) -> dict[tuple[str, str], int]:
    wholes: dict[tuple[str, str], int] = defaultdict(int)
    for each in shared:
        wholes[each.tenant_id, each.currency] += each.charge
    return wholes


def _add(sums: dict[Party, int], parts: Mapping[Party, int]) -> None:
    for party, pico in parts.items():
        sums[party] = sums.get(party, 0) + pico


def _named(key: tuple[date, Rule, str, str]) -> tuple[date, str, str, str, str]:
    month, rule, owner, currency = key
    return (month, rule.allocation_id, rule.method, owner, currency)


def _shares(found: Mapping[tuple[date, Rule, str, str], Mapping[Party, int]]) -> Iterable[Share]:
    """Versions of one allocation together."""
    sums: dict[tuple[date, str, str, str, str], dict[Party, int]] = {}
    for key, parts in found.items():
        _add(sums.setdefault(_named(key), {}), parts)
    for (month, allocation_id, method, owner, currency), parts in sorted(sums.items()):
        cents = apportion({"\x1f".join(party): pico for party, pico in parts.items()}, currency)
        for party, pico in sorted(parts.items()):
            yield Share(month, allocation_id, method, owner, party, currency, pico, cents["\x1f".join(party)])


def _kept(found: Mapping[tuple[date, Rule, str, str], int]) -> Iterable[Kept]:
    sums: dict[tuple[date, str, str, str, str], int] = defaultdict(int)
    for key, pico in found.items():
        sums[_named(key)] += pico
    for (month, allocation_id, method, owner, currency), pico in sorted(sums.items()):
        if pico:
            yield Kept(month, allocation_id, method, owner, currency, pico)
