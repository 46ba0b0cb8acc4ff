"""Who pays for an event: its tenant, else the tenant of a registered identity that the gateway verified.

An event that names a registered credential or workload under another tenant is charged to nobody: `unattributed`, with
a note that says why. Notes of what is unattributed:

no_tenant                       no tenant is named, and no registered identity
identity_not_verified           no tenant is named, and the registered identity is only claimed
credential_of_another_tenant    so `workload_…`
unknown_tenant, unknown_app     not in force then; not one of the tenant's apps
no_plan                         the tenant's charge plan was not in force then

Notes of what is attributed all the same, because the usage happened: `app_`, `workload_` or `credential_` with
`expired`, `offboarded`, `not_issued`, and `credential_of_another_app`, `workload_of_another_app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from gatemeter.processors.metadata.entries import Attribution, Plan, Tenant
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, KINDS, WORKLOAD, Identity

VERIFIED: Final = frozenset({"verified_credential", "mtls"})
"""Identity sources that a gateway vouches for."""
ODDITIES: Final = (
    *(f"{kind}_{oddity}" for kind in KINDS for oddity in ("expired", "offboarded", "not_issued")),
    *(f"{kind}_of_another_{parent}" for kind in (WORKLOAD, CREDENTIAL) for parent in ("app", "tenant")),
)
"""Notes that are about a registered identity: each is an exception."""


class Who(NamedTuple):
    """What an event says of its origin; `verified`: the gateway vouches for it (grade A)."""

    tenant_id: str
    app_id: str
    workload_id: str = ""
    credential: str = ""
    verified: bool = False


def who_of(row: Mapping[str, Any]) -> Who:
    """Of an event, or of a fact that was made of it."""
    return Who(
        row["tenant_id"] or "",
        row["app_id"] or "",
        row["workload_id"] or "",
        row["credential_fingerprint"] or "",
        row["identity_source"] in VERIFIED,
    )


class Registry(Protocol):
    """What an attribution is looked up in: a `View`."""

    def tenant(self, tenant_id: str, at_us: int) -> Tenant | None:
        """A tenant as it is at an instant."""

    def plan(self, plan_id: str, at_us: int) -> Plan | None:
        """A charge plan as it is at an instant."""

    def identity(self, kind: str, identity_id: str, at_us: int, tenant_id: str = "") -> Identity | None:
        """A registered identity as it is at an instant; `tenant_id` of apps only."""


def attribute(registry: Registry, who: Who, at_us: int) -> Attribution:
    """Who pays at an instant."""
    named = [
        identity
        for kind, name in ((CREDENTIAL, who.credential), (WORKLOAD, who.workload_id))
        if name and (identity := registry.identity(kind, name, at_us)) is not None
    ]
    path, tenant_id = "tenant", who.tenant_id
    if not tenant_id and named:
        path, tenant_id = named[0].kind, named[0].tenant_id
    refused = _refused(who, named, tenant_id)
    if refused:
        return _nobody(who, refused)
    app_id = who.app_id
    if not app_id and who.verified:
        app_id = next((identity.app_id for identity in named if identity.app_id), "")
    tenant = registry.tenant(tenant_id, at_us)
    if tenant is None:
        return _nobody(who, "unknown_tenant")
    app = registry.identity(APP, app_id, at_us, tenant_id)
    if tenant.apps and app_id not in tenant.apps and app is None:
        return _nobody(who, "unknown_app")
    plan = registry.plan(tenant.plan_id, at_us)
    if plan is None:
        return _nobody(who, "no_plan")
    above = (tenant.cost_centre, tenant.business_unit, tenant.organisation)
    note = _note([*named, *([] if app is None else [app])], app_id, at_us)
    return Attribution(tenant_id, app_id, "attributed", *above, plan, path, note)


def _refused(who: Who, named: list[Identity], tenant_id: str) -> str:
    """Why nobody may be charged, from what the event names; '' where that agrees."""
    if not tenant_id:
        return "no_tenant"
    other = next((identity for identity in named if identity.tenant_id != tenant_id), None)
    if other is not None:
        return f"{other.kind}_of_another_tenant"
    return "identity_not_verified" if not who.tenant_id and not who.verified else ""


def _nobody(who: Who, note: str) -> Attribution:
    return Attribution(who.tenant_id, who.app_id, "unattributed", note=note)


def _note(identities: list[Identity], app_id: str, at_us: int) -> str:
    """The first oddity, of the credential before the workload before the app."""
    for identity in identities:
        oddity = identity.oddity(at_us)
        if oddity:
            return f"{identity.kind}_{oddity}"
    for identity in identities:
        if identity.app_id and identity.app_id != app_id:
            return f"{identity.kind}_of_another_app"
    return ""
