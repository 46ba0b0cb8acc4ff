"""Who pays: the path from the organisation to the credential, as of the request's start, and the plan on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatemeter.processors.metadata.entries import Dated, Plan, Tenant
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, WORKLOAD, Identity
from gatemeter.processors.metadata.views import Attribution, View
from gatemeter.processors.pricing.components import UNALLOCATED, is_charged
from gatemeter.processors.sealing.hours import utc

PATH = ("organisation", "business_unit", "cost_centre", "tenant_id", "app_id", "workload_id", "credential_fingerprint")


@dataclass(frozen=True, slots=True)
class PlanApplied(Dated):
    """A charge plan, and whether it lets this fact be charged. Its dates are those of its record."""

    plan: Plan
    charged: bool


@dataclass(frozen=True, slots=True)
class Path:
    """Who bears a fact, from the top; `corrected`: by a correction in force.

    `found_by`: tenant, credential or workload, '' where unattributed; `note`: see `metadata.attributing`.
    `tenant_from_us`, `tenant_to_us`: dates of the tenant's record, None where the tenant is not known.
    `identities`: the registered app, workload and credential that the fact names, with owners and dates.
    """

    attribution: str
    found_by: str
    note: str
    steps: Mapping[str, str]
    tenant_name: str
    tenant_from_us: int | None
    tenant_to_us: int | None
    identities: tuple[Identity, ...] = ()
    corrected: bool = False


def tenant_of(fact: Mapping[str, Any], view: View) -> Tenant | None:
    """The tenant's record in force at the start of the request."""
    entries = view.tenants.get(fact["tenant_id"], ())
    return next((entry for entry in entries if entry.in_force(fact["request_started_at"])), None)


def identities_of(fact: Mapping[str, Any], view: View) -> Iterator[Identity]:
    """Of the app, workload and credential that a fact names those that were registered at the request's start."""
    names = {APP: "app_id", WORKLOAD: "workload_id", CREDENTIAL: "credential_fingerprint"}
    for kind, name in names.items():
        identity = view.identity(kind, fact[name], fact["request_started_at"], fact["tenant_id"])
        if identity is not None:
            yield identity


def plan_of(fact: Mapping[str, Any], view: View, attribution: Attribution) -> PlanApplied:
    """The plan that applied, with its dates; who is not known has the plan that charges nothing."""
    charged = is_charged(attribution, fact["evidence_grade"])
    for entry in view.plans.get(attribution.plan.plan_id, ()):
        if attribution.attribution == "attributed" and entry.in_force(fact["request_started_at"]):
            start, end = entry.effective_from_us, entry.effective_to_us
            return PlanApplied(attribution.plan, charged, effective_from_us=start, effective_to_us=end)
    return PlanApplied(attribution.plan, charged)


def path_of(fact: Mapping[str, Any], view: View | None, now: Mapping[str, Any] | None = None) -> Path:
    """The path of a fact; `now`: its charge line, which corrections may have moved. No view: no dates are known."""
    tenant = None if view is None else tenant_of(fact, view)
    own = {name: fact[name] for name in PATH}
    moved = {name: now[name] for name in PATH if now is not None and name in now}
    return Path(
        fact["attribution"] if now is None else now.get("attribution", fact["attribution"]),
        fact["attribution_path"],
        fact["attribution_note"],
        {**own, **moved},
        tenant.name if tenant else "",
        tenant.effective_from_us if tenant else None,
        tenant.effective_to_us if tenant else None,
        () if view is None else tuple(identities_of(fact, view)),
        corrected=any(own[name] != value for name, value in moved.items()),
    )


def why_not_charged(fact: Mapping[str, Any], view: View, attribution: Attribution) -> str:
    """Why the tenant does not pay, in words; '' where it does."""
    bears = f"the charge is 0, the provider cost posts to {UNALLOCATED!r}"
    if attribution.attribution == "attributed":
        if is_charged(attribution, fact["evidence_grade"]):
            return ""
        plan = attribution.plan.plan_id
        return f"the identity is only claimed (grade B) and plan {plan!r} does not accept that: {bears}"
    return f"unattributed: {_why_unattributed(fact, view, attribution.note)}: {bears}"


def _why_unattributed(fact: Mapping[str, Any], view: View, note: str) -> str:
    tenant_id, at = fact["tenant_id"], utc(fact["request_started_at"])
    tenant = tenant_of(fact, view)
    if note == "no_tenant":
        return "no tenant is named, and no registered credential or workload"
    if note == "identity_not_verified":
        return "no tenant is named, and the registered credential or workload is only claimed"
    for kind in (CREDENTIAL, WORKLOAD):
        if note == f"{kind}_of_another_tenant":
            found = next(identity for identity in identities_of(fact, view) if identity.kind == kind)
            under = f"used under {tenant_id!r}" if tenant_id else "used without a tenant, with one of another"
            return f"{kind} {found.identity_id!r} belongs to tenant {found.tenant_id!r} (owner: {found.owner}), {under}"
    if tenant is None:
        return f"no tenant {tenant_id!r} was in force at {at}"
    if note == "unknown_app":
        return f"app {fact['app_id']!r} is not one of tenant {tenant_id!r}"
    return f"plan {tenant.plan_id!r} of tenant {tenant_id!r} was not in force at {at}"
