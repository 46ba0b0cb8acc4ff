"""Allocation rules: what some usage costs is shared among others, on statements only; facts and ledger stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatemeter.processors.metadata.entries import Dated, MetadataError

FIXED: Final = "fixed"
METHODS: Final = (FIXED, "by_tokens", "by_requests")
WHOLE_PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """One who bears a share: a tenant or a cost centre, the other is ''. `share_ppm`: of method fixed only."""

    tenant_id: str
    cost_centre: str
    share_ppm: int | None = None

    def __post_init__(self) -> None:
        if bool(self.tenant_id) == bool(self.cost_centre):
            raise MetadataError("a receiver must have either tenant_id or cost_centre")


@dataclass(frozen=True, slots=True)
class Allocation(Dated):
    """A rule. `tenant_id`, `app_id`, `provider`, `model`: what is shared, '' is any; at least one must be given."""

    allocation_id: str
    method: str
    receivers: tuple[Receiver, ...]
    tenant_id: str = ""
    app_id: str = ""
    provider: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        Dated.__post_init__(self)  # a dataclass with slots is another class than the one that super() knows
        if not (self.tenant_id or self.app_id or self.provider or self.model):
            raise MetadataError("at least one of tenant_id, app_id, provider, model must say what is shared")
        if not self.receivers:
            raise MetadataError("receivers must be at least one tenant or cost centre")
        named = [(each.tenant_id, each.cost_centre) for each in self.receivers]
        if len(set(named)) != len(named):
            raise MetadataError("receivers must name each tenant or cost centre once")
        self._check_shares()

    def _check_shares(self) -> None:
        shares = [each.share_ppm for each in self.receivers]
        if self.method != FIXED:
            if any(share is not None for share in shares):
                raise MetadataError(f"share_ppm must be given for method {FIXED} only, got method {self.method}")
            return
        given = [share for share in shares if share is not None]
        if len(given) != len(shares) or any(share <= 0 for share in given) or sum(given) != WHOLE_PPM:
            raise MetadataError(f"share_ppm must be above 0 and add up to {WHOLE_PPM}, got {shares}")
