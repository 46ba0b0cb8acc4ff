"""Registered apps, workloads and credentials: whose they are, who answers for them, and when they may be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gatemeter.processors.metadata.entries import Dated, MetadataError

APP: Final = "app"
WORKLOAD: Final = "workload"
CREDENTIAL: Final = "credential"
KINDS: Final = (APP, WORKLOAD, CREDENTIAL)
LIFE: Final = ("issued_at", "rotated_at", "expires_at", "offboarded_at")


@dataclass(frozen=True, slots=True)
class Identity(Dated):
    """An app, workload or credential of a tenant. A credential is known by its fingerprint, never by its key.

    `app_id`, `workload_id`: to which it belongs, '' where not stated. Used at or after `expires_at_us` or
    `offboarded_at_us`, or before `issued_at_us`, it is still attributed: the usage happened.
    """

    kind: str
    identity_id: str
    tenant_id: str
    owner: str
    app_id: str = ""
    workload_id: str = ""
    issued_at_us: int | None = None
    rotated_at_us: int | None = None
    expires_at_us: int | None = None
    offboarded_at_us: int | None = None

    def __post_init__(self) -> None:
        Dated.__post_init__(self)  # a dataclass with slots is another class than the one that super() knows
        issued = self.issued_at_us
        for name in LIFE[1:]:
            value = getattr(self, f"{name}_us")
            if issued is not None and value is not None and value < issued:
                raise MetadataError(f"{name} must not be before issued_at ({issued}), got {value}")

    def oddity(self, at_us: int) -> str:
        """not_issued, offboarded or expired where it should not be in use at an instant; else ''."""
        if self.issued_at_us is not None and at_us < self.issued_at_us:
            return "not_issued"
        if self.offboarded_at_us is not None and at_us >= self.offboarded_at_us:
            return "offboarded"
        return "expired" if self.expires_at_us is not None and at_us >= self.expires_at_us else ""

    def boundaries(self) -> Iterable[int]:
        """Instants at which what it says changes."""
        ends = (self.effective_to_us, self.issued_at_us, self.offboarded_at_us, self.expires_at_us)
        return (self.effective_from_us, *(instant for instant in ends if instant is not None))


def key_of(kind: str, identity_id: str, tenant_id: str) -> str:
    """What an entry replaces: apps are named within their tenant, workloads and credentials everywhere."""
    if kind == APP:
        return f"{kind} {identity_id!r} of {tenant_id!r}"
    return f"{kind} {identity_id!r}"
