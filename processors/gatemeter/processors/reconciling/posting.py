"""What a run found becomes corrections: the cause decides who bears it.

- allocate: shared out over the tenants that used it, by their provider cost, to 10⁻¹² by largest remainder, ties by
name.
- unallocated: the platform bears it: an entry of tenant and cost centre `unallocated` whose charge is 0.
- reprice, wait, dispute, none: nothing is posted; a repricing has a command of its own.

Entries are free corrections in the first hour of the period, cause `reconciliation`, and name the run in their
reason. Where an
earlier run of the same provider, period and class was accepted, its entries are taken back one by one first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.adjust import Manual, free_entry
from gatemeter.processors.corrections.rows import AMOUNTS, ATTRIBUTION, CorrectionRow
from gatemeter.processors.corrections.runs import staged_rows
from gatemeter.processors.pricing.components import UNALLOCATED
from gatemeter.processors.reconciling import causes
from gatemeter.processors.reconciling.kept import KeptFinding, KeptRun
from gatemeter.processors.reconciling.settings import ReconcileError
from gatemeter.sinks.reports.dividing import divide
from gatemeter.sinks.rows import query_rows
from gatemeter.sinks.terms.months import month_of

Bearer = tuple[str, ...]
"""Who bears a part, by `ATTRIBUTION`."""

PLATFORM: Final[Bearer] = (UNALLOCATED, "", "", UNALLOCATED, "", "")
_FEES: Final = frozenset({"credit", "fixed_fee", "tax", "fx", "rounding"})
"""Causes whose amounts are no price of tokens."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a bearer used of a model in a scope: the provider cost (10⁻¹²), the weight of its share."""

    bearer: Bearer
    scope: str
    model: str
    cost: int


def postings(
    run: KeptRun, found: Iterable[KeptFinding], uses: Iterable[Use], run_id: str, reason: str
) -> list[CorrectionRow]:
    """The entries of a run, in order. They add up to what it found of the causes that are posted.

    Raises `ReconcileError` where an amount is to be shared out and nobody used anything of the provider.
    """
    sums: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in found:
        if each.action in (causes.ALLOCATE, causes.UNALLOCATED):
            sums[each.cause, each.scope, each.model] += each.amount
    used = list(uses)
    rows: list[CorrectionRow] = []
    for (cause, scope, model), amount in sorted(sums.items()):
        for bearer, part in _shares(cause, scope, model, amount, used).items():
            if part:
                rows.append(_entry(run, run_id, len(rows), cause, scope, model, bearer, part, reason))
    return rows


def _shares(cause: str, scope: str, model: str, amount: int, uses: list[Use]) -> dict[Bearer, int]:
    if causes.BY_NAME[cause].action == causes.UNALLOCATED:
        return {PLATFORM: amount}
    for weights in (
        _weights(use for use in uses if (use.scope, use.model) == (scope, model)),
        _weights(use for use in uses if use.scope == scope),
        _weights(uses),
    ):
        if weights:
            return dict(sorted(divide(amount, weights).items()))
    raise ReconcileError(
        f"{cause} of {scope or 'the provider'} cannot be shared out: no tenant used the provider in the period"
    )


def _weights(uses: Iterable[Use]) -> dict[Bearer, int]:
    weights: dict[Bearer, int] = defaultdict(int)
    for use in uses:
        weights[use.bearer] += use.cost
    return {bearer: weight for bearer, weight in weights.items() if weight > 0}


def _entry(
    run: KeptRun, run_id: str, number: int, cause: str, scope: str, model: str, bearer: Bearer, amount: int, reason: str
) -> CorrectionRow:
    about = " ".join(part for part in (cause, model, scope) if part)
    why = f"reconciliation {run.run_id} of {run.provider} {run.period}: {about}. {reason}"[:1_000]
    name = "model_cost" if cause in _FEES else "token_cost"
    amounts = {name: amount, "list_cost": 0}
    absorbed_to = ""
    if bearer == PLATFORM:
        amounts["absorbed"], absorbed_to = amount, UNALLOCATED
    who = dict(zip(ATTRIBUTION, bearer, strict=True))
    entry = free_entry(run_id, month_of(run.period).start_us, Manual(why, amounts, who, run.currency, absorbed_to))
    return replace(entry, entry=number, cause="reconciliation")


def taken_back(client: Client, run: KeptRun, run_id: str, first: int) -> Iterator[tuple[str, CorrectionRow]]:
    """The entries of earlier accepted runs of the same provider, period and class, negated; with the run each is of.

    Raises `SinkUnavailable`, `SinkRefused`.
    """
    number = first
    for row in query_rows(client, "look for accepted runs", _ACCEPTED, _named(run)):
        for entry in staged_rows(client, row["correction_run"]):
            # A run that took another one back holds both; only its own entries are taken back now.
            if not entry.reason.startswith(f"reconciliation {row['run_id']} "):
                continue
            amounts: dict[str, Any] = {
                name: None if (value := getattr(entry, name)) is None else -value for name in AMOUNTS
            }
            why = f"takes back {entry.reason}"[:1_000]
            yield row["run_id"], replace(entry, run_id=run_id, entry=number, reason=why, **amounts)
            number += 1


def _named(run: KeptRun) -> dict[str, Any]:
    return {"run": run.run_id, "provider": run.provider, "period": run.period, "class": run.workload_class}


_ACCEPTED: Final = """
SELECT run_id, correction_run
FROM (SELECT * FROM reconciliation_postings FINAL WHERE NOT takes_back)
WHERE run_id IN
(
    SELECT run_id FROM reconciliation_runs
    WHERE provider = {provider:String} AND period = {period:String} AND workload_class = {class:String}
)
    AND correction_run IN (SELECT run_id FROM commits)
    AND run_id NOT IN
    (
        SELECT run_id FROM reconciliation_postings
        WHERE takes_back AND correction_run IN (SELECT run_id FROM commits)
    )
ORDER BY run_id
"""


def bearer_of(row: Mapping[str, Any]) -> Bearer:
    """Who bears a group of facts; the platform where they are attributed to nobody."""
    return tuple(str(row[name]) for name in ATTRIBUTION) if row["attribution"] == "attributed" else PLATFORM
