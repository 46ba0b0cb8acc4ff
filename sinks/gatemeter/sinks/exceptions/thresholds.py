"""Thresholds of the detectors, per tenant with defaults, from a TOML file that checks itself.

[defaults]
burst_factor = 5

[tenants.acme]
allowed_models = ["gpt-4o*", "text-embedding-*"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

NUMBERS: Final[dict[str, tuple[int, int, int]]] = {
    "baseline_min_days": (3, 1, 14),
    "burst_factor": (4, 2, 1_000),
    "burst_min_requests": (50, 1, 1_000_000_000),
    "spend_spike_factor": (3, 2, 1_000),
    "spend_spike_min": (10, 0, 1_000_000_000),
    "premium_cost_per_million": (20, 1, 1_000_000),
    "premium_share_percent": (20, 1, 100),
    "premium_min": (1, 0, 1_000_000_000),
    "cache_usual_percent": (30, 1, 100),
    "cache_min_tokens": (10_000, 1, 1_000_000_000),
    "cache_min_requests": (20, 1, 1_000_000_000),
    "cache_miss_hours": (3, 1, 24),
    "agent_retries": (5, 2, 1_000_000),
    "agent_retry_seconds": (300, 1, 86_400),
    "fan_out_children": (50, 2, 1_000_000),
    "fan_out_trace": (200, 2, 1_000_000),
    "probing_errors": (20, 2, 10_000),
    "probing_models": (3, 1, 1_000),
    "denials_min": (10, 1, 1_000_000_000),
    "denials_factor": (3, 1, 1_000),
    "known_networks_max": (20, 1, 100),
    "orphans_min": (1, 1, 1_000_000_000),
}
"""Name → default, lowest, highest."""
LISTS: Final = ("allowed_models", "premium_workloads")
"""Patterns (`*` is any text): models that a tenant may use ([]: any); workloads, apps that may use premium models."""

BASELINE_DAYS: Final = 14
"""So many days before the one that is looked at say what is usual."""


class ThresholdsError(ValueError):
    """The file cannot be read or says what is not accepted; the text names the field and what is."""


@dataclass(frozen=True)
class Thresholds:
    """Numbers and lists by name; `of_tenants` says only what differs from the defaults. The built-in ones if empty."""

    numbers: Mapping[str, int] = field(default_factory=lambda: {name: each[0] for name, each in NUMBERS.items()})
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(LISTS, ()))
    of_tenants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def number(self, name: str, tenant_id: str = "") -> int:
        """The number of a tenant."""
        return int(self.of_tenants.get(tenant_id, {}).get(name, self.numbers[name]))

    def matches(self, name: str, tenant_id: str, text: str) -> bool:
        """Whether a pattern of a tenant's list fits."""
        patterns = self.of_tenants.get(tenant_id, {}).get(name, self.lists[name])
        return any(fnmatchcase(text, pattern) for pattern in patterns)

    def allows(self, tenant_id: str, model: str) -> bool:
        """Whether a tenant may use a model: it has no list, or one that names it."""
        listed = self.of_tenants.get(tenant_id, {}).get("allowed_models", self.lists["allowed_models"])
        return not listed or self.matches("allowed_models", tenant_id, model)

    def sql(self, name: str, tenant: str = "tenant_id") -> str:
        """An expression: the number of the tenant that the column `tenant` names. Uses the parameter `tenants`."""
        default = self.numbers[name]
        if not any(name in own for own in self.of_tenants.values()):
            return f"toInt64({default})"
        values = ", ".join(f"toInt64({self.number(name, tenant_id)})" for tenant_id in self.tenants)
        return f"transform(toString({tenant}), {{tenants:Array(String)}}, [{values}], toInt64({default}))"

    @property
    def tenants(self) -> list[str]:
        """The parameter `tenants`: those with thresholds of their own."""
        return sorted(self.of_tenants)


def load_thresholds(path: Path | None) -> Thresholds:
    """The thresholds of a file; the built-in ones without. Raises `ThresholdsError`."""
    if path is None:
        return Thresholds()
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ThresholdsError(f"{path}: must be a readable TOML file: {error}") from error
    try:
        return _thresholds_of(data)
    except ThresholdsError as error:
        raise ThresholdsError(f"{path}: {error}") from None


def _thresholds_of(data: Mapping[str, Any]) -> Thresholds:
    for name in data:
        if name not in ("defaults", "tenants"):
            raise ThresholdsError(f"{name}: must be one of defaults, tenants")
    defaults = _section("defaults", data.get("defaults", {}))
    tenants = data.get("tenants", {})
    if not isinstance(tenants, dict):
        raise ThresholdsError("tenants: must be a table of tables, [tenants.NAME]")
    built_in = Thresholds()
    return Thresholds(
        {name: defaults.get(name, value) for name, value in built_in.numbers.items()},
        {name: defaults.get(name, ()) for name in LISTS},
        {name: _section(f"tenants.{name}", own) for name, own in tenants.items()},
    )


def _section(where: str, section: Any) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise ThresholdsError(f"{where}: must be a table")
    return {name: _checked(f"{where}.{name}", name, value) for name, value in section.items()}


def _checked(where: str, name: str, value: Any) -> int | tuple[str, ...]:
    if name in LISTS:
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise ThresholdsError(f'{where}: must be a list of patterns such as "gpt-4o*", got {value!r}')
        return tuple(value)
    if name not in NUMBERS:
        raise ThresholdsError(f"{where}: must be one of {', '.join((*NUMBERS, *LISTS))}")
    _, lowest, highest = NUMBERS[name]
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ThresholdsError(f"{where}: must be an integer from {lowest} to {highest}, got {value!r}")
    return value
