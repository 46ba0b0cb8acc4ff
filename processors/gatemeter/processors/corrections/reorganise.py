"""Says anew who bears what was used, as of another tenants file or of what is published now.

A tenant that the file names and that still has the app gets the cost centre, business unit and organisation of the
file; an app that it no longer has moves to the tenant that lists it. Tenants that the file does not name stay as they
are. Amounts stay as they are. The file's own dates count, at the start of each request.

What was never attributed, because its tenant, app, plan or identity was not registered, is attributed where it is now:
its costs stay, and it is charged under the plan of the tenant that bears it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.pricing import attributed
from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths
from gatemeter.processors.metadata.attributing import attribute, who_of
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Identity, Plan, Tenant, View, build_view
from gatemeter.schemas.codec import Decoded

_ABOVE: Final = ("cost_centre", "business_unit", "organisation")
MEMORY: Final = 10_000
"""Answers (tenant, app, span of time in which the file says the same) that are remembered."""


class Reorganisation:
    """One reorganisation; `summary` fills while `rows` are taken."""

    def __init__(
        self, client: Client, drafts: list[Draft] | None, hours: UsageHours, published: View | None = None
    ) -> None:
        """`drafts`: of a tenants file, None for what is `published`, where plans that the file lacks are found too."""
        self._client = client
        self._hours = hours
        self._tenants = tenants_of(drafts) if drafts is not None or published is None else published
        self._registry = _Registry(self._tenants, published or self._tenants)
        self._found: dict[tuple[str, str, int], Tenant | None] = {}
        self.summary = Summary()

    def rows(self, run_id: str, reason: str) -> Iterator[CorrectionRow]:
        """Attempts, then decisions, whose attribution differs, in order of entry. Streams.

        Raises `CorrectionError` where two tenants of the file have an app at the same time, and what `truths` raises.
        """
        for target in ("usage", "decision"):
            for truth in truths(self._client, target, self._hours):
                self.summary.examined += 1
                row = self._moved(truth, run_id, reason)
                if row is not None:
                    self.summary.add(truth, row)
                    yield row

    def _moved(self, truth: Truth, run_id: str, reason: str) -> CorrectionRow | None:
        if not truth.is_attributed:
            return self._registered(truth, run_id, reason)
        now = truth.attribution
        tenant = self._tenant(now["tenant_id"], now["app_id"], truth.fact["request_started_at"])
        if tenant is None:
            self.summary.leave("not in the file")
            return None
        new = {
            "tenant_id": tenant.tenant_id,
            "cost_centre": tenant.cost_centre,
            "business_unit": tenant.business_unit,
            "organisation": tenant.organisation,
        }
        if all(now[name] == value for name, value in new.items()):
            return None
        return truth.replaced(run_id, self.summary.staged, "reorganisation", reason, attribution=new)

    def _registered(self, truth: Truth, run_id: str, reason: str) -> CorrectionRow | None:
        """What nobody bore goes to who was registered later."""
        found = attribute(self._registry, who_of({**truth.fact, **truth.attribution}), truth.fact["request_started_at"])
        if found.attribution != "attributed":
            self.summary.leave(f"unattributed: {found.note.replace('_', ' ')}")
            return None
        priced = attributed(truth, found)
        new = {name: getattr(found, name) for name in ("tenant_id", "app_id", *_ABOVE)}
        entry = self.summary.staged
        return truth.replaced(
            run_id, entry, "reorganisation", reason, attribution=new, amounts=priced.amounts, terms=priced.terms
        )

    def _tenant(self, tenant_id: str, app_id: str, at_us: int) -> Tenant | None:
        """Who has the app at an instant: the same tenant where it still may, else the one that lists the app."""
        era = bisect_right(self._tenants.boundaries, at_us)
        key = (tenant_id, app_id, era)
        if key not in self._found:
            if len(self._found) >= MEMORY:
                self._found.clear()
            self._found[key] = self._look_up(tenant_id, app_id, at_us)
        return self._found[key]

    def _look_up(self, tenant_id: str, app_id: str, at_us: int) -> Tenant | None:
        if tenant_id not in self._tenants.tenants:  # another tenant's app may have the same name
            return None
        in_force = {
            name: tenant for name in self._tenants.tenants if (tenant := newest(self._tenants, name, at_us)) is not None
        }
        own = in_force.get(tenant_id)
        if own is not None and (not own.apps or app_id in own.apps):
            return own
        others = [tenant for tenant in in_force.values() if app_id in tenant.apps]
        if len(others) > 1:
            names = ", ".join(sorted(tenant.tenant_id for tenant in others))
            raise CorrectionError(f"app {app_id!r} must have one tenant at a time, the file lists it under {names}")
        return others[0] if others else None


@dataclass(frozen=True, slots=True)
class _Registry:
    """Tenants of the file alone; plans and identities that it lacks are the published ones."""

    given: View
    published: View

    def tenant(self, tenant_id: str, at_us: int) -> Tenant | None:
        return self.given.tenant(tenant_id, at_us)

    def plan(self, plan_id: str, at_us: int) -> Plan | None:
        return self.given.plan(plan_id, at_us) or self.published.plan(plan_id, at_us)

    def identity(self, kind: str, identity_id: str, at_us: int, tenant_id: str = "") -> Identity | None:
        found = self.given.identity(kind, identity_id, at_us, tenant_id)
        return found or self.published.identity(kind, identity_id, at_us, tenant_id)


def tenants_of(drafts: list[Draft] | None) -> View:
    """The tenants of a file, with its plans and identities, as a view. Raises `CorrectionError` where it has none."""
    entries = [entry_of(Decoded(draft.name, dict(draft.datum))) for draft in drafts or ()]
    if not any(isinstance(entry, Tenant) for entry in entries):
        raise CorrectionError("--tenants must be a file with at least one tenant")
    return build_view(entries)


def newest(view: View, tenant_id: str, at_us: int) -> Tenant | None:
    """What the file says of a tenant at an instant."""
    return next((tenant for tenant in view.tenants[tenant_id] if tenant.in_force(at_us)), None)
