"""What metadata says, one frozen value a noun: parameters, keys, plans, rates and effective-dated entries.

An entry holds in `[effective_from_us, effective_to_us)`; null is open. Times are microseconds UTC, prices ints of 10⁻¹²
currency units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
CHARGING: Final = "charging"
CORROBORATING: Final = "corroborating"
TELEMETRY: Final = "telemetry"
"""The kind of gateway that can never charge: traces and application logs."""
ANY_ROUTE: Final = "*"


class MetadataError(ValueError):
    """A metadata value out of its accepted range; the text names the field and the range."""


def check_range(name: str, value: int, low: int, high: int, shown: str) -> int:
    """The value. Raises `MetadataError` unless low ≤ value ≤ high; `shown` is the range in words."""
    if not low <= value <= high:
        raise MetadataError(f"{name} must be {shown}, got {value}")
    return value


@dataclass(frozen=True, slots=True)
class LatencyThresholds:
    """Latency classes: fast below the first bound, then normal, then slow, else very_slow."""

    version: int = 1
    fast_below_us: int = 1_000_000
    normal_below_us: int = 5_000_000
    slow_below_us: int = 20_000_000

    def __post_init__(self) -> None:
        check_range("latency version", self.version, 1, 32_767, "1 to 32767")
        if not 0 < self.fast_below_us < self.normal_below_us < self.slow_below_us:
            bounds = f"{self.fast_below_us}, {self.normal_below_us}, {self.slow_below_us}"
            raise MetadataError(f"latency thresholds must rise: 0 < fast < normal < slow, got {bounds}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of the fold. Defaults: horizon 15 min, future bound 5 min, orphan timer 10 min, grace 30 min."""

    horizon_us: int = 15 * MINUTE_US
    future_bound_us: int = 5 * MINUTE_US
    orphan_timer_us: int = 10 * MINUTE_US
    grace_us: int = 30 * MINUTE_US
    latency: LatencyThresholds = field(default_factory=LatencyThresholds)
    fold_release: int = 1

    def __post_init__(self) -> None:
        horizon = "120000000 to 86400000000 (2 min to 24 h)"
        check_range("horizon_us", self.horizon_us, 2 * MINUTE_US, DAY_US, horizon)
        check_range("future_bound_us", self.future_bound_us, 0, HOUR_US, "0 to 3600000000 (1 h)")
        orphan = f"60000000 (1 min) to horizon_us ({self.horizon_us})"
        check_range("orphan_timer_us", self.orphan_timer_us, MINUTE_US, self.horizon_us, orphan)
        check_range("grace_us", self.grace_us, 0, 7 * DAY_US, "0 to 604800000000 (7 days)")
        check_range("fold_release", self.fold_release, 1, 32_767, "1 to 32767")


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key id of a gateway; valid in `[valid_from_us, valid_to_us)`, judged at the record's timestamp."""

    gateway_id: str
    gateway_kind: str
    valid_from_us: int = 0
    valid_to_us: int | None = None

    def valid_at(self, at_us: int) -> bool:
        """Whether the key is valid at an instant: the start belongs to it, the end does not."""
        return self.valid_from_us <= at_us and (self.valid_to_us is None or at_us < self.valid_to_us)


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """A public Ed25519 key (64 hex digits) of a gateway; valid in `[valid_from_us, valid_to_us)`."""

    public_hex: str
    valid_from_us: int = 0
    valid_to_us: int | None = None

    def valid_at(self, at_us: int) -> bool:
        """Whether the key is valid at an instant: the start belongs to it, the end does not."""
        return self.valid_from_us <= at_us and (self.valid_to_us is None or at_us < self.valid_to_us)


RETRIES: Final = "retries"
"""Cost centre that bears what a retry rule absorbs, unless the plan names another."""

INTERNAL: Final = "internal"
"""Who bills a guardrail that the platform runs itself: it has a cost, and no provider's invoice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a tenant is charged."""

    plan_id: str
    markup_ppm: int = 0
    retry_rule: str = "all_provider_charged"
    cache_rule: str = "free"
    accept_claimed_identity: bool = False
    cache_price_ppm: int = 0
    """Of the charge that a hit of the gateway's cache avoided, in millionths; 0 where hits are free."""
    retry_cost_centre: str = RETRIES
    """Bears what `final_only` absorbs."""


UNATTRIBUTED_PLAN: Final = Plan("unattributed")
"""Who is not known pays nothing: the provider cost posts to `unallocated`."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who pays for an event. `attribution` is attributed, or unattributed where tenant, app or plan is not known.

    `path`: by what the tenant was found (tenant, credential, workload), '' where unattributed. `note`: why it is
    unattributed, or what is odd about a registered identity that it names; see `attributing`.
    """

    tenant_id: str
    app_id: str
    attribution: str = "attributed"
    cost_centre: str = ""
    business_unit: str = ""
    organisation: str = ""
    plan: Plan = UNATTRIBUTED_PLAN
    path: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class RateTier:
    """Prices of all tokens of a request with more input tokens than `input_tokens_above`. No key, no price."""

    input_tokens_above: int
    list_pico: Mapping[str, int]
    provider_pico: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """What one card charges for a model at an instant; `tiers` rise by `input_tokens_above`, the first is at 0."""

    card_id: str
    card_hash: str
    currency: str
    tiers: tuple[RateTier, ...]


@dataclass(frozen=True, slots=True)
class PolicyPrice:
    """Price of one policy's decisions. `billed_by`: `INTERNAL`, or the provider whose invoice has them."""

    prices_id: str
    currency: str
    pico_per_decision: int
    pico_per_unit: int = 0
    pico_per_scanned_token: int = 0
    billed_by: str = INTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """An entry in force in `[effective_from_us, effective_to_us)`."""

    effective_from_us: int = 0
    effective_to_us: int | None = None

    def __post_init__(self) -> None:
        if self.effective_to_us is not None and self.effective_to_us <= self.effective_from_us:
            span = f"from {self.effective_from_us} to {self.effective_to_us}"
            raise MetadataError(f"effective_to must be after effective_from, got {span}")

    def in_force(self, at_us: int) -> bool:
        """The start belongs to the entry, the end does not."""
        return self.effective_from_us <= at_us and (self.effective_to_us is None or at_us < self.effective_to_us)


@dataclass(frozen=True, slots=True)
class Tenant(Dated):
    """Who pays. `apps` empty: any application."""

    tenant_id: str
    plan_id: str
    name: str = ""
    cost_centre: str = ""
    business_unit: str = ""
    organisation: str = ""
    apps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DatedPlan(Dated):
    """A charge plan while it holds."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class PolicyPrices(Dated):
    """Prices of decisions by policy id; `*` is any other policy."""

    prices_id: str
    prices: Mapping[str, PolicyPrice]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A registered gateway and its keys by key id: of its MAC, and public ones of its attestations.

    `role`: `CHARGING`, or `CORROBORATING` where all of its events are evidence. One of kind `TELEMETRY` corroborates.
    """

    gateway_id: str
    keys: Mapping[str, GatewayKey]
    attestation_keys: Mapping[str, AttestationKey] = field(default_factory=dict)
    role: str = CHARGING


@dataclass(frozen=True, slots=True)
class Authority(Dated):
    """`authority_id` makes the facts of what `gateway_id` sees on `route` (`ANY_ROUTE`: on any without its own)."""

    gateway_id: str
    route: str
    authority_id: str


def authority_name(gateway_id: str, route: str) -> str:
    """What an authority is about, as an id."""
    return f"{gateway_id}:{route}"
