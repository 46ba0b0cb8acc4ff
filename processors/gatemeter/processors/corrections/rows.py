"""One correction: a new row that takes the place of a named one, or an entry of its own; and the digest of a run.

A replacement says what a fact should have said: its amounts are those before the retry rule, which goes by the fact's
own rule as before ('' here), unless a later attribution gave the row another plan; its attribution is null where the
fact's stays. A row without attribution that gets a plan is attributed. Amounts are ints of 10⁻¹² currency units.

    charge = token_cost + model_cost + policy_cost + markup + cache_price - absorbed

`provider_cost` is what is left of token, model and policy cost without policy cost that the platform bills itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from gatemeter.processors.metadata.entries import HOUR_US
from gatemeter.processors.metadata.records import RETRY_RULES
from gatemeter.schemas.codec import PREFIX_LENGTH, encode
from gatemeter.schemas.limits import MAX_ATTEMPT

KINDS: Final = ("replace", "free")
TARGETS: Final = ("usage", "decision")
CAUSES: Final = ("reprice", "manual", "reorganisation", "reconciliation")
AMOUNTS: Final = (
    "list_cost",
    "provider_cost",
    "token_cost",
    "model_cost",
    "policy_cost",
    "markup",
    "cache_price",
    "charge",
    "avoided_provider_cost",
    "avoided_charge",
    "absorbed",
)
AVOIDED: Final = ("avoided_provider_cost", "avoided_charge")
"""Amounts that are known of hits of the gateway's cache alone, and are in no total."""

ATTRIBUTION: Final = ("tenant_id", "app_id", "workload_id", "cost_centre", "business_unit", "organisation")
MAX_AMOUNT: Final = 2**63 - 1
"""Largest amount of one correction, in 10⁻¹² currency units: 9,223,372.036854775807."""

MAX_REASON: Final = 1_000


class CorrectionError(ValueError):
    """A correction that cannot be staged or committed; one line that names the field or the run."""


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """One row of `corrections`, in the order of its columns; `usage_hour` in microseconds UTC, amounts in 10⁻¹².

    Raises `CorrectionError`, naming the field and what is accepted.
    """

    run_id: str
    entry: int
    kind: str
    target: str
    gateway_id: str
    request_id: str
    attempt: int
    response_hash: str
    usage_hour: int
    tenant_id: str | None
    app_id: str | None
    workload_id: str | None
    cost_centre: str | None
    business_unit: str | None
    organisation: str | None
    currency: str
    rate_card_id: str
    plan_id: str
    list_cost: int | None
    provider_cost: int | None
    token_cost: int | None
    model_cost: int | None
    policy_cost: int | None
    markup: int | None
    cache_price: int | None
    charge: int | None
    avoided_provider_cost: int | None
    avoided_charge: int | None
    absorbed: int | None
    absorbed_to: str
    price_status: str
    cause: str
    reason: str
    evidence_place: str = ""
    retry_rule: str = ""

    def __post_init__(self) -> None:
        _check(0 < len(self.run_id) <= 64, "run_id", "1 to 64 characters", self.run_id)
        _check(self.entry >= 0, "entry", "0 or more", self.entry)
        _check(self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}", self.kind)
        if self.kind == "free":
            named = (self.target, self.gateway_id, self.request_id, self.response_hash)
            _check(named == ("", "", "", "") and self.attempt == 0, "target", "'' for a free entry", self.target)
        else:
            _check(self.evidence_place == "", "evidence_place", "'' for a replacement", self.evidence_place)
            _check(self.target in TARGETS, "target", f"one of {', '.join(TARGETS)}", self.target)
            _check(self.gateway_id != "" and self.request_id != "", "target", "a named row", self.request_id)
        _check(0 <= self.attempt <= MAX_ATTEMPT, "attempt", f"0 to {MAX_ATTEMPT}", self.attempt)
        _check(self.usage_hour % HOUR_US == 0, "usage_hour", "the start of an hour", self.usage_hour)
        _check(self.retry_rule in ("", *RETRY_RULES), "retry_rule", f"'', {', '.join(RETRY_RULES)}", self.retry_rule)
        _check(self.cause in CAUSES, "cause", f"one of {', '.join(CAUSES)}", self.cause)
        good_reason = self.reason.strip() != "" and len(self.reason) <= MAX_REASON
        _check(good_reason, "reason", f"1 to {MAX_REASON} characters", self.reason)
        for name in AMOUNTS:
            amount = getattr(self, name)
            _check(amount is None or abs(amount) <= MAX_AMOUNT, name, "within ±9223372.036854775807", amount)

    @property
    def key(self) -> RowKey:
        """The row that it takes the place of."""
        return RowKey(self.target, self.gateway_id, self.request_id, self.attempt, self.response_hash)

    @property
    def amounts(self) -> dict[str, int | None]:
        """By `AMOUNTS`."""
        return {name: getattr(self, name) for name in AMOUNTS}

    @property
    def attribution(self) -> dict[str, str | None]:
        """By `ATTRIBUTION`; None leaves what the target says."""
        return {name: getattr(self, name) for name in ATTRIBUTION}

    def avro_body(self) -> bytes:
        """The bytes that digests and leaves cover: the Avro body of correction.v1."""
        return encode("Correction", self.table_row())[PREFIX_LENGTH:]

    def table_row(self) -> dict[str, Any]:
        """By the columns of `corrections`."""
        return {name: getattr(self, name) for name in FIELDS}  # a tenth of what asdict takes


FIELDS: Final = tuple(field.name for field in fields(CorrectionRow))


@dataclass(frozen=True, slots=True, order=True)
class RowKey:
    """One row of facts: `request_id` is the decision id of a decision, whose attempt is 0.

    `response_hash`: the row's response_hash, or content_hash of a decision.
    """

    target: str
    gateway_id: str
    request_id: str
    attempt: int
    response_hash: str

    @property
    def attempt_key(self) -> tuple[str, str, str, int]:
        """The attempt or decision, whatever its rows."""
        return self.target, self.gateway_id, self.request_id, self.attempt


def _check(good: bool, name: str, accepted: str, given: object) -> None:
    if not good:
        raise CorrectionError(f"{name} must be {accepted}, got {given!r}")


class Digest:
    """BLAKE2b-256 over the Avro bodies of a run's rows in order of entry, and their number."""

    def __init__(self) -> None:
        self._hasher = hashlib.blake2b(digest_size=32)
        self.entries = 0

    def add(self, row: CorrectionRow) -> None:
        """The next row. Raises `CorrectionError` where an entry is left out or comes twice."""
        if row.entry != self.entries:
            raise CorrectionError(f"run {row.run_id}: entry {self.entries} must come next, got {row.entry}")
        self._hasher.update(row.avro_body())
        self.entries += 1

    @property
    def value(self) -> bytes:
        """32 bytes."""
        return self._hasher.digest()


def digest_of(rows: Iterable[CorrectionRow]) -> bytes:
    """The digest of rows in order of entry."""
    digest = Digest()
    for row in rows:
        digest.add(row)
    return digest.value
