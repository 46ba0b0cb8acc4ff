"""Views for tests in one line: `ViewBuilder().tenant("acme").rate("openai", "m", {"input_text_uncached": 5}).view()`.

Cheap enough for property tests that build thousands; nothing is signed or encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatemeter.processors.metadata.entries import INTERNAL
from gatemeter.processors.metadata.views import (
    Authority,
    DatedPlan,
    Entry,
    Gateway,
    GatewayKey,
    Identity,
    Parameters,
    Plan,
    PolicyPrice,
    PolicyPrices,
    RateLine,
    Tenant,
    View,
    build_view,
    make_card,
)


class ViewBuilder:
    """Collects entries; every method returns the builder. Dates are microseconds UTC, half-open."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lines: dict[str, list[RateLine]] = {}

    def parameters(self, **values: Any) -> ViewBuilder:
        self._entries.append(Parameters(**values))
        return self

    def gateway(
        self,
        gateway_id: str,
        kid: str | None = None,
        *,
        kind: str = "inference_proxy",
        valid_from_us: int = 0,
        valid_to_us: int | None = None,
        role: str = "charging",
    ) -> ViewBuilder:
        key = GatewayKey(gateway_id, kind, valid_from_us, valid_to_us)
        self._entries.append(Gateway(gateway_id, {kid or f"{gateway_id}-1": key}, role=role))
        return self

    def authority(
        self, gateway_id: str, authority_id: str, *, route: str = "*", from_us: int = 0, to_us: int | None = None
    ) -> ViewBuilder:
        self._entries.append(
            Authority(gateway_id, route, authority_id, effective_from_us=from_us, effective_to_us=to_us)
        )
        return self

    def plan(
        self, plan_id: str = "standard", *, from_us: int = 0, to_us: int | None = None, **values: Any
    ) -> ViewBuilder:
        self._entries.append(DatedPlan(Plan(plan_id, **values), effective_from_us=from_us, effective_to_us=to_us))
        return self

    def tenant(
        self,
        tenant_id: str,
        plan_id: str = "standard",
        *,
        apps: Iterable[str] = (),
        cost_centre: str = "",
        from_us: int = 0,
        to_us: int | None = None,
    ) -> ViewBuilder:
        centre = cost_centre or f"cc-{tenant_id}"
        entry = Tenant(
            tenant_id,
            plan_id,
            cost_centre=centre,
            apps=frozenset(apps),
            effective_from_us=from_us,
            effective_to_us=to_us,
        )
        self._entries.append(entry)
        return self

    def identity(
        self,
        kind: str,
        identity_id: str,
        tenant_id: str = "acme",
        *,
        owner: str = "team",
        from_us: int = 0,
        to_us: int | None = None,
        **values: Any,
    ) -> ViewBuilder:
        """A registered app, workload or credential."""
        dates = {"effective_from_us": from_us, "effective_to_us": to_us}
        return self.add(Identity(kind, identity_id, tenant_id, owner, **values, **dates))

    def rate(
        self,
        provider: str,
        model: str,
        prices: Mapping[str, int],
        *,
        card_id: str = "card",
        list_prices: Mapping[str, int] | None = None,
        service_tier: str = "",
        workload_class: str = "any",
        region: str = "",
        above: int = 0,
        from_us: int = 0,
        to_us: int | None = None,
    ) -> ViewBuilder:
        """A line of the card `card_id` (in force from 0, open, content hash = its id)."""
        line = RateLine(
            provider,
            model,
            list_prices or prices,
            prices,
            service_tier,
            workload_class,
            above,
            region,
            effective_from_us=from_us,
            effective_to_us=to_us,
        )
        self._lines.setdefault(card_id, []).append(line)
        return self

    def policy(
        self,
        policy_id: str,
        pico_per_decision: int,
        pico_per_unit: int = 0,
        *,
        pico_per_scanned_token: int = 0,
        billed_by: str = INTERNAL,
        prices_id: str = "policies",
        from_us: int = 0,
        to_us: int | None = None,
    ) -> ViewBuilder:
        price = PolicyPrice(prices_id, "USD", pico_per_decision, pico_per_unit, pico_per_scanned_token, billed_by)
        list_id = f"{prices_id}/{policy_id}"
        self._entries.append(
            PolicyPrices(list_id, {policy_id: price}, effective_from_us=from_us, effective_to_us=to_us)
        )
        return self

    def add(self, *entries: Entry) -> ViewBuilder:
        self._entries.extend(entries)
        return self

    def view(self, offset: int = 0, digest: bytes = bytes(32)) -> View:
        """The view; the builder may be extended afterwards."""
        cards = [make_card(card_id, lines, content_hash=card_id) for card_id, lines in self._lines.items()]
        return build_view([*self._entries, *cards], offset=offset, digest=digest)
