"""Accepting a run: its entries, those of earlier runs that they take the place of, and the record of both."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from clickhouse_connect.driver.client import Client

from gatemeter.processors.corrections.rows import CorrectionRow
from gatemeter.processors.reconciling.kept import KEEPING, KeptRun, billed_models, kept_findings, kept_runs
from gatemeter.processors.reconciling.posting import postings, taken_back
from gatemeter.processors.reconciling.running import span_of
from gatemeter.processors.reconciling.settings import ReconcileError
from gatemeter.processors.reconciling.using import uses
from gatemeter.sinks.reports.money import text_of
from gatemeter.sinks.rows import insert_rows

_COLUMNS: Final = (
    *("run_id", "correction_run", "takes_back", "accepted_at", "accepted_by", "reason", "amount", "entries"),
)


@dataclass(frozen=True, slots=True)
class Entries:
    """What a run posts: `rows` in order; `amounts`: provider cost by the run that it is of, and how many entries."""

    correction_run: str
    rows: tuple[CorrectionRow, ...]
    amounts: dict[str, tuple[int, int]]


def entries_of(client: Client, run: KeptRun, correction_run: str, reason: str) -> Entries:
    """The entries of a run, and those that take earlier ones back.

    Raises `ReconcileError`, `CorrectionError`, `SinkUnavailable`, `SinkRefused`.
    """
    _refuse_overlap(client, run)
    span = span_of(run.provider, run.period, run.workload_class, run.settings)
    used = uses(client, span, run.settings, billed_models(client, run.run_id), run.currency)
    rows = postings(run, kept_findings(client, run.run_id), used, correction_run, reason)
    amounts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        amounts[run.run_id][0] += row.provider_cost or 0
        amounts[run.run_id][1] += 1
    for earlier, row in list(taken_back(client, run, correction_run, len(rows))):
        amounts[earlier][0] += row.provider_cost or 0
        amounts[earlier][1] += 1
        rows.append(row)
    return Entries(correction_run, tuple(rows), {name: (each[0], each[1]) for name, each in amounts.items()})


def _refuse_overlap(client: Client, run: KeptRun) -> None:
    """A run of all jobs has what runs of one class have: were both accepted, amounts would be posted twice."""
    for other in kept_runs(client, run.provider, run.period):
        same_amounts = "" in (other.workload_class, run.workload_class) and other.workload_class != run.workload_class
        if other.state == "accepted" and same_amounts:
            accepted = f"{other.workload_class or 'all'} jobs"
            raise ReconcileError(
                f"run {other.run_id} of {accepted} is accepted, and a run of {run.workload_class or 'all'} jobs has "
                f"amounts of it: a later run of {accepted} takes its place"
            )


def keep_posting(client: Client, run: KeptRun, entries: Entries, accepted_by: str, reason: str, at: datetime) -> None:
    """Records which corrections took a run over. It counts when they are committed, so it is written before."""
    correction_run = entries.correction_run if entries.rows else ""
    rows = [
        (
            *(run_id, correction_run, run_id != run.run_id, at, accepted_by, reason),
            *(Decimal(text_of(amount)), count),
        )
        for run_id, (amount, count) in (entries.amounts or {run.run_id: (0, 0)}).items()
    ]
    insert_rows(client, "reconciliation_postings", _COLUMNS, rows, KEEPING)
