"""The demo's metadata: tenants and plans, policy prices, the rate card, and parameters under which an hour is live."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

from gatemeter.processors.metadata.entries import HOUR_US, Parameters
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.processors.pricing.ratesfile import build_card

HORIZON_US: Final = 3 * HOUR_US
GRACE_US: Final = 2 * HOUR_US


def drafts(folder: Path) -> list[Draft]:
    """All that must be in force before the first event."""
    card = Draft("RateCard", build_card(folder / "rates.yaml").datum)
    return [parameters(HORIZON_US, GRACE_US), *read_tenants_file(folder / "tenants.yaml"), card]


def parameters(horizon_us: int, grace_us: int) -> Draft:
    """The default parameters with another horizon and grace."""
    default = Parameters()
    datum = {
        "horizon_us": horizon_us,
        "future_bound_us": default.future_bound_us,
        "orphan_timer_us": default.orphan_timer_us,
        "grace_us": grace_us,
        "latency_thresholds": asdict(default.latency),
        "fold_release": default.fold_release,
    }
    return Draft("Parameters", datum)
