"""Hand-made corrections and commits: everything blank but what a test names."""

from __future__ import annotations

from typing import Any

from gatemeter.processors.corrections.rows import AMOUNTS, ATTRIBUTION, CorrectionRow
from gatemeter.processors.corrections.staging import StagedRun
from support.facts import NOON_US, blank_row

RUN = "20260301T120000Z-00000000000000aa"


def correction(entry: int = 0, run_id: str = RUN, **changes: Any) -> CorrectionRow:
    """A free entry of 5 pico USD to tenant acme."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "entry": entry,
        "kind": "free",
        "target": "",
        "gateway_id": "",
        "request_id": "",
        "attempt": 0,
        "response_hash": "",
        "usage_hour": NOON_US,
        **dict.fromkeys(ATTRIBUTION),
        "tenant_id": "acme",
        "currency": "USD",
        "rate_card_id": "",
        "plan_id": "",
        **dict.fromkeys(AMOUNTS, 0),
        "provider_cost": 5,
        "token_cost": 5,
        "charge": 5,
        "absorbed_to": "",
        "price_status": "priced",
        "cause": "manual",
        "reason": "because",
    }
    return CorrectionRow(**(values | changes))


def replacing(request_id: str, entry: int = 0, run_id: str = RUN, **changes: Any) -> CorrectionRow:
    """A replacement of the first attempt's row that `facts.fact` makes: other amounts, the same attribution."""
    named = {"target": "usage", "gateway_id": "gw", "request_id": request_id, "attempt": 1}
    named |= {"response_hash": f"{request_id}-1", "kind": "replace", "tenant_id": None, "cause": "reprice"}
    return correction(entry, run_id, **(named | changes))


def commit_row(staged: StagedRun, offset: int = 0, posted_hour: int = NOON_US, **changes: Any) -> dict[str, Any]:
    """The row of `commits` that the fold writes of a run's COMMIT."""
    row = blank_row("commits") | {
        "run_id": staged.run_id,
        "version": (1 << 40) - 1 - offset,
        "rows_digest": staged.digest.hex(),
        "entries": staged.entries,
        "cause": "manual",
        "reason": "because",
        "posted_hour": posted_hour,
        "kid": "ops",
        "topic": "gatemeter.events",
        "offset": offset,
    }
    return row | changes
