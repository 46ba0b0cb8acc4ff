"""The causes of a variance, what each means, and what is done about it when a run is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REPRICE: Final = "reprice"
ALLOCATE: Final = "allocate"
UNALLOCATED: Final = "unallocated"
WAIT: Final = "wait"
DISPUTE: Final = "dispute"
NOTHING: Final = "none"


@dataclass(frozen=True, slots=True)
class Cause:
    """`action`: reprice (the tenants' prices were wrong), allocate (shared out by provider cost), unallocated (the
    platform bears it), wait (the provider may still bill it), dispute (ask the provider), none."""

    name: str
    action: str
    means: str


CAUSES: Final = (
    Cause("unmetered", UNALLOCATED, "billed use that no gateway saw: shadow use, or a stolen key"),
    Cause("missing_provider_line", WAIT, "metered use that the provider did not bill"),
    Cause("price_difference", REPRICE, "the same use at another price than the rate card's"),
    Cause("tier_or_batch", ALLOCATE, "billed in another service tier, or as batch, than it was metered"),
    Cause("credit", ALLOCATE, "credits, free tiers and other amounts that the provider gives back"),
    Cause("fixed_fee", ALLOCATE, "minimums, subscriptions and fees that no use stands behind"),
    Cause("tax", ALLOCATE, "tax"),
    Cause("fx", ALLOCATE, "the provider's exchange rate was another than ours"),
    Cause("rounding", ALLOCATE, "the provider rounds its lines"),
    Cause("cancelled_streams", ALLOCATE, "streams that callers left; the provider billed what it had written"),
    Cause("retries_charged", ALLOCATE, "attempts that failed or timed out at the gateway, and were billed"),
    Cause("time_zone_edge", NOTHING, "use near midnight, which the provider counts in the neighbouring day"),
    Cause("late_usage", WAIT, "use that the provider bills on a later day"),
    Cause("estimated_tokens", ALLOCATE, "tokens that we estimated, or nobody told us, and the provider counted"),
    Cause("duplicate", DISPUTE, "the same line billed twice, or one call metered by two gateways"),
    Cause("within_tolerance", NOTHING, "a difference that the settings let pass"),
)
BY_NAME: Final = {cause.name: cause for cause in CAUSES}
UNEXPLAINED: Final = frozenset({"unmetered", "missing_provider_line"})
"""What is known to differ, but not why: they are shown first."""

CATEGORIES: Final = {
    "credit": "credit",
    "adjustment": "credit",
    "tax": "tax",
    "fee": "fixed_fee",
    "commitment": "fixed_fee",
    "rounding": "rounding",
}
"""The cause of a line of the provider that no usage stands behind, by its category."""
