"""The kinds of exceptions that are found from facts, and one of them as found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

KINDS: Final = (
    *("premium_model", "cache_misses", "burst", "agent_retries", "tool_fan_out", "spend_spike"),
    *("first_use_of_model", "model_probing", "model_not_allowed"),
    *("new_region", "new_client_network", "unknown_credential", "offboarded_credential", "expired_credential"),
    *("policy_denials", "orphans", "unpriced", "unattributed", "unmetered", "unverified"),
)
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
STATES: Final = ("open", "acknowledged", "resolved")
EVIDENCE: Final = 100
"""So many request ids stand in an exception; how many there are stands beside them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a kind about a subject on a UTC day; `subject`: what of it the other names do not say.

    Times in microseconds UTC. `cost` is what providers bill for `requests`, None where nothing has a price or they have
    several currencies; `currency` is '' then.
    """

    kind: str
    severity: str
    period: date
    tenant_id: str
    app_id: str
    workload_id: str
    credential_fingerprint: str
    provider: str
    model: str
    subject: str
    first_seen_us: int
    last_seen_us: int
    seen: str
    expected: str
    request_ids: tuple[str, ...]
    requests: int
    cost: Decimal | None
    currency: str

    @property
    def exception_id(self) -> str:
        """The digest of kind, day and subject: the same whenever and by whomever it is found."""
        names = (self.tenant_id, self.app_id, self.workload_id, self.credential_fingerprint)
        what = (self.kind, self.period.isoformat(), *names, self.provider, self.model, self.subject)
        return hashlib.blake2b(json.dumps(what).encode(), digest_size=16).hexdigest()
