"""Says anew who bears what was used, as of another tenants file; amounts stay as they are.

A tenant that the file names and that still has the app gets the cost centre, business unit and organisation of the
file; an app that it no longer has moves to the tenant that lists it. Tenants that the file does not name stay as they
are. The file's own dates count, at the start of each request. What was never attributed stays so: nobody was charged
for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import CorrectionError, CorrectionRow
from gatemeter.processors.corrections.summary import Summary
from gatemeter.processors.corrections.truths import Truth, UsageHours, truths
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Tenant, View, build_view
from gatemeter.schemas.codec import Decoded

MEMORY: Final = 10_000
"""Answers (tenant, app, span of time in which the file says the same) that are remembered."""


class Reorganisation:
    """One reorganisation; `summary` fills while `rows` are taken."""

    def __init__(self, client: Client, drafts: list[Draft], hours: UsageHours) -> None:
        self._client = client
        self._hours = hours
        self._tenants = tenants_of(drafts)
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
        if truth.fact["attribution"] != "attributed":
            self.summary.leave("unattributed")
            return None
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


def tenants_of(drafts: list[Draft]) -> View:
    """The tenants of a file as a view. Raises `CorrectionError` where it has none."""
    entries = [entry_of(Decoded(draft.name, dict(draft.datum))) for draft in drafts]
    tenants = [entry for entry in entries if isinstance(entry, Tenant)]
    if not tenants:
        raise CorrectionError("--tenants must be a file with at least one tenant")
    return build_view(tenants)


def newest(view: View, tenant_id: str, at_us: int) -> Tenant | None:
    """What the file says of a tenant at an instant."""
    return next((tenant for tenant in view.tenants[tenant_id] if tenant.in_force(at_us)), None)
