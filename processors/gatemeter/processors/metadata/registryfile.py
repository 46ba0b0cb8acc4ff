"""The sections of the tenants file that register apps, workloads and credentials, and those that share costs.

tenants.yaml: credential '9f2c41': expires must be a date (2026-11-01) or a time (2026-11-01T12:00:00Z), got 'soon'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gatemeter.processors.metadata.allocations import FIXED, METHODS
from gatemeter.processors.metadata.entries import MetadataError
from gatemeter.processors.metadata.identities import APP, CREDENTIAL, WORKLOAD
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.records import entry_of
from gatemeter.processors.metadata.views import Allocation, Identity, View
from gatemeter.processors.metadata.yamlfiles import Entry, FileError, by_id, by_position
from gatemeter.schemas.codec import Decoded

_SECTIONS: Final = {"apps": APP, "workloads": WORKLOAD, "credentials": CREDENTIAL}
_ID_FIELDS: Final = {APP: "app", WORKLOAD: "workload", CREDENTIAL: "fingerprint"}
_PARENTS: Final[dict[str, tuple[str, ...]]] = {APP: (), WORKLOAD: ("app",), CREDENTIAL: ("app", "workload")}
_LIFE: Final = {"issued": "issued_at", "rotated": "rotated_at", "expires": "expires_at", "offboarded": "offboarded_at"}
PPM_PER_PERCENT: Final = 10_000


def read_registry(top: Entry, default_from: int) -> Iterator[Draft]:
    """Drafts of the sections apps, workloads, credentials and allocations. Raises `FileError`."""
    for section, kind in _SECTIONS.items():
        for entry in top.entries(section, by_id(kind, _ID_FIELDS[kind])):
            yield _identity(entry, kind, default_from)
    for entry in top.entries("allocations", by_id("allocation", "allocation")):
        yield _allocation(entry, default_from)


def check_tenants_exist(file_name: str, drafts: Sequence[Draft], current: View) -> None:
    """Raises `FileError` where an identity or allocation names a tenant that is neither in the file nor published."""
    known = set(current.tenants) | {draft.datum["tenant_id"] for draft in drafts if draft.name == "Tenant"}
    for draft in drafts:
        for tenant_id in _tenants_of(draft):
            if tenant_id not in known:
                what = f"{draft.name.lower()} {draft.identity[1]}"
                raise FileError(f"{file_name}: {what}: tenant must be a known tenant, got {tenant_id!r}")


def _tenants_of(draft: Draft) -> list[str]:
    entry = entry_of(Decoded(draft.name, dict(draft.datum))) if draft.name in ("Identity", "Allocation") else None
    if isinstance(entry, Identity):
        return [entry.tenant_id]
    if isinstance(entry, Allocation):
        return [each for each in (entry.tenant_id, *(one.tenant_id for one in entry.receivers)) if each]
    return []


def _identity(entry: Entry, kind: str, default_from: int) -> Draft:
    parents = {f"{name}_id": entry.text(name, None) for name in _PARENTS[kind]}
    datum = {
        "kind": kind,
        "identity_id": entry.text(_ID_FIELDS[kind]),
        **entry.dates(default_from),
        "tenant_id": entry.text("tenant"),
        **({"app_id": None, "workload_id": None} | parents),
        "owner": entry.text("owner"),
        **{name: entry.instant_us(field, None) for field, name in _LIFE.items()},
    }
    return _checked(entry, Draft("Identity", datum))


def _allocation(entry: Entry, default_from: int) -> Draft:
    method = entry.choice("method", METHODS)
    shared = {f"{name}_id": entry.text(name, None) for name in ("tenant", "app")}
    datum: dict[str, Any] = {
        "allocation_id": entry.text("allocation"),
        **entry.dates(default_from),
        **shared,
        "provider": entry.text("provider", None),
        "model": entry.text("model", None),
        "method": method,
        "receivers": [_receiver(each, method) for each in entry.entries("to", by_position("to"))],
    }
    return _checked(entry, Draft("Allocation", datum))


def _receiver(entry: Entry, method: str) -> Mapping[str, Any]:
    tenant, centre = entry.text("tenant", None), entry.text("cost_centre", None)
    if (tenant is None) == (centre is None):
        raise entry.error("either tenant or cost_centre must be given")
    share = entry.scaled("share_percent", PPM_PER_PERCENT, 0, 100) if method == FIXED else None
    entry.done()
    return {"tenant_id": tenant, "cost_centre": centre, "share_ppm": share}


def _checked(entry: Entry, draft: Draft) -> Draft:
    entry.done()
    try:
        entry_of(Decoded(draft.name, dict(draft.datum)))
    except MetadataError as error:
        raise entry.error(str(error)) from error
    return draft
